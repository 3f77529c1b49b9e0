"""The edge of the book of blame: faults come in from the links, go to the disk in rounds, and raise suspicion."""

import asyncio
import logging
import time
from collections.abc import Callable

from ledger import codec
from ledger.errors import PeerFault, PlatformError
from services.dms.store import Store
from services.eds.events import HostSuspected
from services.tms.blame import Book, Record

log = logging.getLogger(__name__)
COLLECTION = "tms/blame"  # host -> Record
ROUND = 2.0  # seconds between two writes: a host that sends nothing but faults costs one small write a round


class Blaming:
    """Takes faults from the start on; those of before are read by `load`."""

    def __init__(
        self,
        store: Store,
        registered: Callable[[str], bool],
        suspect: Callable[[HostSuspected], object],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`registered(host)`: whether the ledger ever had this host. `suspect(event)` tells the EDS."""
        self._store, self._registered, self._suspect, self._clock = store, registered, suspect, clock
        self._book = Book()

    async def load(self) -> None:
        kept = [await self._store.get(COLLECTION, host) for host in await self._store.keys(COLLECTION)]
        self._book = Book(tuple(codec.decode(raw, Record, "this host's store") for raw in kept if raw is not None))

    def heard(self, sender: str, kind: str, fault: PeerFault) -> None:
        """A message of the link's authenticated `sender` was refused. It counts only when the fault names the sender
        itself: what it passed on is no reason to blame others."""
        if fault.peer != sender or not self._registered(sender):
            return
        why = self._book.add(sender, kind, str(fault).removeprefix(f"{sender}: "), self._clock())
        if why is not None:
            log.warning("%s is suspected: %s", sender, why)
            self._suspect(HostSuspected(sender, why))

    async def run(self) -> None:
        """Until cancelled: writes what has changed."""
        while True:
            await asyncio.sleep(ROUND)
            await self.write()

    async def write(self) -> None:
        fresh = self._book.fresh()
        if not fresh:
            return
        try:
            await self._store.write((), [(COLLECTION, each.host, codec.encode(each)) for each in fresh])
        except PlatformError as error:
            log.error("faults of other hosts are not written down: %s", error)
            self._book.again(fresh)

    def records(self) -> list[Record]:
        return self._book.records()
