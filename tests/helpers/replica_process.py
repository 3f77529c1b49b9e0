"""The other end of tests.helpers.replica_program: starts a replica process, asks it, and does it harm."""

import asyncio
import json
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from tests.helpers.replica_program import Plan
from tests.helpers.replicas import until

ROOT = Path(__file__).parents[2]


class Gone(Exception):
    """The process ended before it answered."""


class ReplicaProcess:
    """Start it with `launch`. `prefix` is put before the command: for example what enters a network namespace."""

    def __init__(self, plan: Plan, log: Path, prefix: Sequence[str] = ()) -> None:
        self.plan = plan
        self.log = log
        self.height = 0
        self.address = ""
        self.failure: str | None = None
        self.frozen = False
        self._prefix = prefix
        self._process: asyncio.subprocess.Process | None = None
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._count = 0

    @property
    def host(self) -> str:
        return self.plan.host

    @property
    def running(self) -> bool:
        return self._process is not None

    async def launch(self) -> None:
        """Returns when the replica listens. Raises Gone, with the end of its log, for one that refuses to start."""
        self.failure, self.frozen, self.address = None, False, ""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix, sys.executable, "-m", "tests.helpers.replica_program",
                cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=log,
            )  # fmt: skip
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode(self.plan) + b"\n")
        self._listening = asyncio.create_task(self._listen(self._process))
        await until(lambda: bool(self.address) or not self.running, f"{self.host} is ready")
        if not self.running:
            raise Gone(f"{self.host} does not start: {self.log.read_text()[-600:]}")

    async def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Raises Gone when the process ends before it answers."""
        if self._process is None:
            raise Gone(f"{self.host} does not run")
        assert self._process.stdin
        self._count += 1
        number = self._count
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        self._process.stdin.write(json.dumps({"id": number, "do": do, **arguments}).encode() + b"\n")
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    async def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGKILL)
            await self._listening

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    async def stop(self) -> None:
        """Returns when all is durable and the process is gone."""
        if self._process is not None:
            with suppress(Gone):
                await self.ask("stop")
            await self._listening

    def _signal(self, number: int) -> None:
        assert self._process
        self._process.send_signal(number)

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            words = json.loads(line)
            event = words.pop("event", None)
            if event is None:
                answer = self._asked.get(words.pop("id"))
                if answer is not None and not answer.done():
                    answer.set_result(words)
                continue
            if event == "ready":
                self.address = words["address"]
            elif event == "failed":
                self.failure = words["why"]
            elif event == "block":
                self.height = words["height"]
        await process.wait()
        self._process = None
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(Gone(f"{self.host} ended"))
