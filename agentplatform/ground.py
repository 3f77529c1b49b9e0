"""What a host stands on, before any room is built: its files, its links, the ledger."""

import asyncio
import logging
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from agentplatform import backup, datakey
from agentplatform.addresses import told
from agentplatform.custody.journal import Journal
from agentplatform.custody.sealed import Seals
from agentplatform.history import HostHistory
from agentplatform.logbook import Logbook
from agentplatform.parcel.spool import FileSpool
from agentplatform.settings import Home
from ledger import genesisfile, keyfile
from ledger.client import Client
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.errors import Misuse, Unavailable
from ledger.links.tls import TlsLinks
from ledger.replica import Replica
from services.dms.sealed import SealedStore
from services.dms.sqlite import SqliteStore
from services.tms.service import Tms

log = logging.getLogger(__name__)


class Ground:
    """A host without rooms: `lay` opens what its folder has, and makes its links and its copy of the ledger."""

    def __init__(self, home: Home, history: Path | None = None) -> None:
        """`history`: the folder that what happens here is written to (agentplatform.history)."""
        self.home = home
        self.settings = home.settings()
        self.host = self.settings.host
        self.history = None if history is None else HostHistory(history, self.host)
        self.started_at = time.time()
        self.stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._opened = AsyncExitStack()  # what `stop` closes, the last first

    async def lay(self) -> None:
        """Nothing of it runs yet. Raises Misuse with what is wrong with the folder or the data."""
        home, settings = self.home, self.settings
        if backup.interrupted(home):
            raise Misuse(f"a restore of {self.host} was interrupted: restore it again, or put {backup.REPLACED} back")
        self.identity = keyfile.load(home.host_key)
        self.genesis = genesisfile.read(home.genesis)
        self.chain = self.genesis.chain_id()
        self.disk = FileDisk(home.data)
        self._opened.push_async_callback(self.disk.close)
        self.disk.on_failure(self._disk_failed)
        keyring = datakey.load_or_create(home)
        self.seals = Seals(keyring)
        self.spool = FileSpool(home.data / "spool", keyring)
        self._opened.callback(self.spool.close)
        self.store = SealedStore(await SqliteStore.open(home.data / "dms.db"), keyring, os.urandom)
        self._opened.push_async_callback(self.store.close)
        self.journal = await Journal.open(self.disk, self.seals)
        self.logbook = Logbook(home.data / "logs", settings.logs)
        self.links = TlsLinks(self.host, self.identity, self.chain, settings.listen)
        self.replica = Replica(self.host, self.identity, self.genesis, self.disk, self.links, ENGINES["ipbft"])
        self.replica.on_failure(self._disk_failed)
        self.client = Client(self.replica, self.identity)
        self.tms = Tms(self.replica, required=settings.trust)

    @property
    def endpoint(self) -> str:
        """The address that others are told of the endpoint for requests; "" for none."""
        http = self.settings.http
        return (http.address or told(http.listen, self.settings.listen)) if http.listen else ""

    def note(self, agent: str, text: str) -> None:
        """For its owner's eyes."""
        self.logbook.write(agent, "note", text)

    # What runs beside, and the end

    def _cancel_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()

    def start_task(self, work: Any) -> "asyncio.Task[Any]":
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def _finished(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of the daemon failed", exc_info=error)

    def _disk_failed(self, failure: Unavailable) -> None:
        self.broken(str(failure))

    def broken(self, reason: str) -> None:
        """Nothing may leave any more that rests on what was not written: the only safe thing is to end."""
        log.critical("%s", reason)
        os._exit(1)
