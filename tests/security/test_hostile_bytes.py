"""What the code of an agent may not do with bytes: change a state that it has told of, or fill its host's disk."""

import asyncio
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform import Agent, Message
from agentplatform.parcel.freight import MAX_FREIGHT_BYTES, PIECE_BYTES, Spooled
from agentplatform.runners.process import footprint, pool
from agentplatform.runners.process.settings import WorkerSettings
from ledger.errors import Misuse, Unavailable
from tests.helpers.two_runners import THERE, Station

LARGE = 3 * PIECE_BYTES


class Forger(Agent):
    """Keeps the file that it was lent for its state, and writes to it when that was told of."""

    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        import threading

        from agentplatform.parcel import state

        self.padding = os.urandom(init)
        honest, kept = state.write, []

        def write(parts: Any, file: int, key: bytes) -> Any:
            kept.append(os.dup(file))
            return honest(parts, file, key)

        def forge() -> None:
            import time

            while not os.path.exists("forge"):
                time.sleep(0.001)
            os.pwrite(kept[0], b"forged", PIECE_BYTES)
            os.rename("forge", "forged")

        state.write = write
        threading.Thread(target=forge, daemon=True).start()

    def handle_message(self, message: Message) -> Any:
        return None


def scratch(station: Station, agent: str) -> Path:
    return Path(station.runner._pool._server._scratch) / str(station.pid(agent))


async def appears(path: Path) -> None:
    async with asyncio.timeout(30):
        while not path.exists():  # noqa: ASYNC110, ASYNC240
            await asyncio.sleep(0.002)


async def test_bytes_that_were_changed_after_they_were_hashed_do_not_leave() -> None:
    async with Station("here") as here:
        birth, _ = await here.create(Forger, LARGE)
        state = await here.runner.capture(birth.agent, THERE)
        assert isinstance(state, Spooled)
        first = await here.spool.get(state.file, state.freight, 1)
        folder = scratch(here, birth.agent)
        (folder / "forge").touch()
        await appears(folder / "forged")
        assert here.spool._read(state.file, state.freight, 1) != first  # the file did change
        with pytest.raises(Unavailable, match="its code wrote to it afterwards"):
            await here.spool.get(state.file, state.freight, 1)
        await here.spool.get(state.file, state.freight, 0)


QUOTA = 4 << 20


class Hoarder(Agent):
    """Fills the disk, in one way or another."""

    checkpoint = "none"

    def handle_message(self, message: Message) -> Any:
        return getattr(self, message.kind)(message.body)

    def files(self, size: int) -> int:
        for number in range(4):
            with open(f"{number}", "wb") as file:
                file.write(bytes(size // 4))
        return sum(entry.stat().st_size for entry in os.scandir("."))

    def many(self, count: int) -> int:
        os.mkdir("many")
        for number in range(count):
            os.close(os.open(f"many/{number}", os.O_CREAT))
        return len(os.listdir("many"))

    def nameless(self, size: int) -> int:
        self.file = open("gone", "wb+", buffering=0)  # noqa: SIM115
        os.unlink("gone")
        return self.file.write(bytes(size))

    def by_a_child(self, size: int) -> int:
        if os.fork() == 0:
            import signal

            self.nameless(size)
            signal.pause()
        return size

    def in_memory(self, size: int) -> int:
        """Of a file that has neither a name nor a descriptor."""
        import mmap

        self.nameless(size)
        self.map = mmap.mmap(self.file.fileno(), size)
        self.file.close()
        return size

    def lent(self, size: int) -> int:
        """Beyond the state that it was lent a file for."""
        for name in os.listdir("/proc/self/fd"):
            try:
                if "spool-" in os.readlink(f"/proc/self/fd/{name}"):
                    os.pwrite(int(name), bytes(size), LARGE)
                    return size
            except OSError:
                pass
        return 0

    def one_file(self, size: int) -> str:
        with open("sparse", "wb", buffering=0) as file:
            try:
                file.seek(size)
                file.write(b"x")
                return "written"
            except OSError as error:
                return error.strerror or ""


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Any]]:
    """Waits until so many looks at workers' disks are over."""
    done = 0
    look = footprint.footprint

    def counted(*arguments: Any) -> int:
        nonlocal done
        try:
            return look(*arguments)
        finally:
            done += 1

    async def over(count: int) -> None:
        upto = done + count
        async with asyncio.timeout(30):
            while done < upto:  # noqa: ASYNC110
                await asyncio.sleep(0.002)

    monkeypatch.setattr(pool, "footprint", counted)
    monkeypatch.setattr(pool, "LOOK_SECONDS", 0.01)
    yield over


def hoarders(scratch: int = QUOTA, **more: int) -> Station:
    return Station("here", WorkerSettings(warm=1, scratch=scratch, **more))


async def test_who_fills_the_disk_is_ended_and_who_does_not_lives(looks: Callable[[int], Any]) -> None:
    ways = ("files", "nameless", "by_a_child", "in_memory")
    async with hoarders() as here:
        good, _ = await here.create(Hoarder)
        assert await here.call(good.agent, "one_file", MAX_FREIGHT_BYTES) == "File too large"
        assert await here.call(good.agent, "nameless", QUOTA // 2) == QUOTA // 2
        for way in ways:
            bad, _ = await here.create(Hoarder)
            here.runner.deliver(bad.agent, here.delivery(way, QUOTA + (1 << 20)))
            agent, reason = await here.ups.next("died")
            assert agent == bad.agent, way
            assert "MiB on the disk; at most 4 MiB are allowed (host.toml: [workers] scratch)" in reason
        await looks(4)
        assert await here.call(good.agent, "one_file", 1) == "written"


@pytest.mark.slow
async def test_many_empty_files_count_too(looks: Callable[[int], Any]) -> None:
    async with hoarders() as here:
        bad, _ = await here.create(Hoarder)
        here.runner.deliver(bad.agent, here.delivery("many", QUOTA // footprint.LEAST_BYTES + 1))
        assert "MiB on the disk" in (await here.ups.next("died"))[1]


@pytest.mark.slow
async def test_a_look_that_counts_names_alone_lets_it_pass(
    looks: Callable[[int], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The broken twin."""
    monkeypatch.setattr(footprint, "_family", lambda pid: iter(()))
    async with hoarders() as here:
        bad, _ = await here.create(Hoarder)
        await here.call(bad.agent, "nameless", 2 * QUOTA)
        await looks(4)
        assert not [heard for heard, _ in here.ups.heard if heard == "died"]


class Padded(Hoarder):
    """Its state is large, and it does not close what it was lent."""

    def on_creation(self, init: Any) -> None:
        from agentplatform.parcel import state

        self.padding = os.urandom(LARGE - 2000)
        honest = state.write

        def write(parts: Any, file: int, key: bytes) -> Any:
            os.dup(file)
            return honest(parts, file, key)

        state.write = write


@pytest.mark.slow
async def test_a_lent_file_that_is_not_closed_counts(looks: Callable[[int], Any]) -> None:
    async with hoarders() as here:
        bad, _ = await here.create(Padded)
        state = await here.runner.capture(bad.agent, THERE)
        assert isinstance(state, Spooled)
        await looks(4)  # it has no more than it may
        here.runner.thaw(bad.agent, None)
        here.spool.remove(state.file)  # the daemon does not need it any more
        here.runner.deliver(bad.agent, here.delivery("lent", 2 << 20))
        assert "MiB on the disk" in (await here.ups.next("died"))[1]


@pytest.mark.slow
async def test_a_worker_is_lent_no_more_than_it_may() -> None:
    async with hoarders(lent=2 << 20) as here:
        agent, _ = await here.create(Padded)
        with pytest.raises((Misuse, Unavailable), match=r"lends one worker 2097152 bytes at a time \(host.toml"):
            await here.runner.capture(agent.agent, THERE)
        assert await here.call(agent.agent, "one_file", 1) == "written"  # it goes on
