"""Process runners with a recorder in the place of the daemon."""

import asyncio
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from agentplatform import Agent
from agentplatform.messages import Answer, Arrival, Delivery, Move
from agentplatform.parcel.code import bundle_of
from agentplatform.parcel.manifest import Birth, code_digest, give_birth, open_birth
from agentplatform.parcel.spool import FileSpool
from agentplatform.runners.base import Upcalls
from agentplatform.runners.process.runner import ProcessRunner
from agentplatform.runners.process.settings import WorkerSettings
from ledger import codec
from ledger.identity import Identity
from services.dms.sealing import Keyring

OWNER = Identity(bytes(32))
SECONDS = 30.0
SMALL = WorkerSettings(warm=1)
THERE = Move("there", "owner", "a test")


class Recorder:
    """Keeps every upcall, and lets a test wait for one."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self._news = asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        if name not in vars(Upcalls):
            raise AttributeError(name)
        return lambda *arguments: self._hear(name, arguments)

    def _hear(self, name: str, arguments: tuple[Any, ...]) -> None:
        self.heard.append((name, arguments))
        self._news.set()

    async def next(self, name: str, containing: str = "") -> tuple[Any, ...]:
        """The first upcall of that name not yet taken, its arguments containing a text."""
        async with asyncio.timeout(SECONDS):
            while True:
                for at, (heard, arguments) in enumerate(self.heard):
                    if heard == name and containing in repr(arguments):
                        del self.heard[at]
                        return arguments
                self._news.clear()
                await self._news.wait()

    async def answer(self, agent: str, ticket: int) -> Answer:
        """With a checkpoint, or by itself, as the agent's class has chosen."""
        async with asyncio.timeout(SECONDS):
            while True:
                for heard, arguments in self.heard:
                    if heard == "answered" and arguments[:2] == (agent, ticket):
                        return arguments[2]  # type: ignore[no-any-return]
                    if heard == "checkpointed" and arguments[0] == agent:
                        answers = dict(arguments[1].answers)
                        if ticket in answers:
                            return answers[ticket]  # type: ignore[no-any-return]
                self._news.clear()
                await self._news.wait()


class Station:
    """One host: a runner and its recorder."""

    def __init__(self, host: str, settings: WorkerSettings = SMALL, ups: Recorder | None = None) -> None:
        self.host, self.ups = host, ups or Recorder()
        self.folder = Path(tempfile.gettempdir()) / f"spool-{os.urandom(8).hex()}"
        self.spool = FileSpool(self.folder, Keyring([bytes(32)]))
        self.runner = ProcessRunner(self.ups, self.spool, settings)
        self._tickets = iter(range(1, 1 << 30))

    async def __aenter__(self) -> "Station":
        await self.runner.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.runner.stop()
        self.spool.close()
        shutil.rmtree(self.folder)

    async def create(self, cls: type[Agent], init: Any = None, owner: Identity = OWNER) -> tuple[Birth, bytes]:
        birth, code = born(cls, owner)
        await self.runner.create(birth, code, codec.encode(init), Arrival(self.host, 1, None))
        return birth, code

    async def call(self, agent: str, kind: str, body: Any = None) -> Any:
        answer = await self.ask(agent, kind, body)
        assert answer.ok, codec.decode(answer.body, str)
        return codec.decode(answer.body, object)

    async def ask(self, agent: str, kind: str, body: Any = None) -> Answer:
        delivery = self.delivery(kind, body)
        self.runner.deliver(agent, delivery)
        return await self.ups.answer(agent, delivery.ticket)

    def delivery(self, kind: str, body: Any) -> Delivery:
        return Delivery(next(self._tickets), "client-test", kind, codec.encode(body))

    def pid(self, agent: str) -> int:
        return self.runner._homes[agent].pid


def born(cls: type[Agent], owner: Identity = OWNER) -> tuple[Birth, bytes]:
    bundle = bundle_of(cls)
    raw = give_birth(cls.__name__.lower(), owner, os.urandom(16), code_digest(bundle.raw), bundle.class_name, cls.light)
    return open_birth(raw, "test"), bundle.raw


async def until_gone(*pids: int) -> None:
    """Waits for processes that are not our children, so there is nothing but looking."""
    async with asyncio.timeout(SECONDS):
        while any(is_alive(pid) for pid in pids):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
