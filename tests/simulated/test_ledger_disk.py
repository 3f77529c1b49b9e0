"""A replica whose power fails at each of its writes: it forgets no promise, and comes back."""

import gc
from collections.abc import Awaitable, Callable, Iterator

import pytest

from ledger import outbox
from tests.helpers.founders import NAMES, genesis, join
from tests.helpers.ledger_power import HALF, KEPT, LOST, REFUSED, SILENT, WAYS, Fault, Powered
from tests.helpers.powered_disk import EarlyDisk, PoweredDisk
from tests.helpers.virtual_loop import run

Story = Callable[[Powered], Awaitable[None]]
HOSTS = tuple(f"{name}-1" for name in NAMES[:4])


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """Many worlds end here: what is left of them goes now, and not in the middle of something else."""
    yield
    gc.collect()


async def short(four: Powered) -> None:
    """Decisions that need everybody who is there; a view change; two who were away catch up by blocks."""
    four.cut_off("west-1")
    await four.pay()
    await four.pay()
    four.join_again("west-1")
    four.cut_off("north-1")
    await four.pay()
    four.join_again("north-1")
    await four.pay()
    await four.all_agree()


async def long(four: Powered) -> None:
    """Beyond that: a member joins and takes the state as it is, another one falls behind and fetches the blocks."""
    await short(four)
    for voter in NAMES[:3]:
        await four.act(voter, join("upper"))
    four.add("upper-1")
    four.takes_no_blocks.add("upper-1")
    await four.start("upper-1")
    await four.until(lambda: four.up("upper-1") and four.replicas["upper-1"].height > 0)
    four.takes_no_blocks.clear()
    await four.pay_until_it_votes("upper-1")
    four.cut_off("west-1")
    await four.pay("east")  # of five members four are needed
    await four.pay()
    four.join_again("west-1")
    await four.all_agree()
    four.cut_off("south-1")  # so everybody else is needed
    await four.pay()
    four.join_again("south-1")
    await four.all_agree()


def tell(story: Story, seed: int, fault: Fault | None = None, disk: type[PoweredDisk] = PoweredDisk) -> Powered:
    async def told() -> Powered:
        async with Powered(genesis(4), seed, fault, disk) as four:
            try:
                await story(four)
            finally:
                await four.judge()
        return four

    return run(told())


def at_every_write(
    story: Story,
    hosts: tuple[str, ...],
    ways: tuple[str, ...],
    seed: int,
    again: int = 0,
    disk: type[PoweredDisk] = PoweredDisk,
) -> int:
    """The story with a fault at each write of `hosts`, which all fail then; the number of writes.

    A failure says the seed, the write and the way.
    """
    count = sum(tell(story, seed).writes[host] for host in hosts)
    for at in range(count):
        for way in ways:
            fault = Fault(hosts, at, way, again)
            try:
                assert tell(story, seed, fault, disk).falls, "nothing failed"
            except (AssertionError, TimeoutError) as error:
                point = f"the {story.__name__} story, seed {seed}, {count} writes, {fault}"
                raise AssertionError(f"{point}: {error!r}") from error
    return count


@pytest.mark.parametrize("host", HOSTS[:2])
def test_a_fault_at_every_write_of_a_primary(host: str) -> None:
    """Of view 0, which catches up later, and of view 1, which makes the NEW-VIEW."""
    assert at_every_write(short, (host,), (LOST, HALF), seed=1) >= 7


def test_all_lose_their_power_at_every_write_of_any() -> None:
    assert at_every_write(short, HOSTS, (LOST,), seed=1) >= 40


def test_a_write_that_no_engine_waits_for_stops_the_replica_too() -> None:
    """A piece of a state that is fetched: nothing that is sent stands behind it."""
    at = 1  # of those that newcomers make
    assert tell(long, 1, Fault(("upper-1",), at, REFUSED)).falls == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS)
def test_every_fault_at_every_write(host: str) -> None:
    at_every_write(short, (host,), WAYS, seed=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", [*HOSTS, "upper-1"])
def test_a_fault_at_every_write_of_a_longer_story(host: str) -> None:
    """Through a change of members, a state that is taken over, and blocks that are fetched."""
    at_every_write(long, (host,), (LOST, KEPT) if host in HOSTS else (LOST, SILENT, REFUSED), seed=2)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", [KEPT, SILENT, HALF])
def test_all_fail_at_every_write_of_any(way: str) -> None:
    at_every_write(short, HOSTS, (way,), seed=3)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS[:2])
def test_a_crash_loop_from_every_write_on(host: str) -> None:
    """It fails again at the first write of each of the next starts."""
    at_every_write(short, (host,), (LOST, KEPT, SILENT), seed=4, again=3)


# The harness catches what is broken


def test_a_disk_that_says_too_early_that_a_write_is_durable_is_caught() -> None:
    with pytest.raises(AssertionError, match=r"signs twice|has forgotten|are lost"):
        at_every_write(short, HOSTS, (LOST,), seed=1, disk=EarlyDisk)


def test_a_replica_that_sends_before_it_is_durable_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox.Outbox, "behind", lambda self, write: None)
    with pytest.raises(AssertionError, match=r"signs twice|has forgotten"):
        at_every_write(short, HOSTS[:1], (LOST,), seed=1)
