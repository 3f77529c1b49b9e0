"""Copies of a held agent under broken links, crashes and the loss of its host; what left is in the copy. Seeded."""

import asyncio
from random import Random

import pytest
from msgspec.structs import replace

from agentplatform.custody.copies import messages, vault
from agentplatform.custody.copies.holders import NOTHING
from agentplatform.custody.copies.messages import Changes, Have, Pieces, Refused, Settled, Whole, Wrote
from agentplatform.custody.copies.replication import Replication
from agentplatform.mail import Letter, Luggage
from agentplatform.messages import Captured
from ledger import codec
from ledger.errors import PeerFault
from ledger.memory_disk import MemoryDisk
from tests.helpers import virtual_loop
from tests.helpers.copies_world import HOLDERS, HOME, ROOM, Lost, World, live

SEEDS = range(60)


def lives(kind: type[World], seeds: range, wanted: int = 1) -> int:
    """How many changes left in all."""
    left = 0
    for seed in seeds:
        world = kind(Random(seed), wanted)  # noqa: S311  a simulation must be repeatable
        try:
            virtual_loop.run(live(world, 80))
        except Lost as lost:
            raise Lost(f"seed {seed}: {lost}") from None
        left += world.released
    return left


@pytest.mark.parametrize("wanted", [1, 2])
def test_what_left_is_in_the_copy_that_the_agent_goes_on_from(wanted: int) -> None:
    assert lives(World, SEEDS, wanted) > 10 * len(SEEDS)


class Hasty(Replication):
    """What is durable here leaves, whoever has it elsewhere."""

    def _both(self, agent, durable, *ops):  # type: ignore[no-untyped-def]
        super()._both(agent, durable, *ops)
        return durable

    def may_leave(self, agent: str) -> bool:
        return True


class HastyWorld(World):
    replication = Hasty


def test_a_release_before_the_holders_have_it_is_caught() -> None:
    with pytest.raises(Lost):
        lives(HastyWorld, SEEDS)


# What a holder takes


def told(world: World, host: str = "east") -> list[messages.CopyMessage]:
    """Everything that the holder answers from now on."""
    answers: list[messages.CopyMessage] = []
    world.vaults[host]._send = lambda to, raw: answers.append(messages.decode(raw, host)) or True  # type: ignore[func-returns-value]
    return answers


def whole(world: World, position: int = 1, epoch: int = 0, run: int = 1) -> Whole:
    named = world.birth.agent, world.subject, epoch, run, position
    return Whole(*named, world.certificate, b"init", b"the code", codec.encode(Luggage()), b"9", (), (), (), (), None)


async def quiet(seconds: float = 1.0) -> None:
    await asyncio.sleep(seconds)


def on_virtual_time(test):  # type: ignore[no-untyped-def]
    def run() -> None:
        async def main() -> None:
            world = World(Random(1))  # noqa: S311
            for host in HOLDERS:
                await world.start_holder(host)
            await test(world)

        virtual_loop.run(main())

    run.__name__ = test.__name__
    return run


@on_virtual_time
async def test_a_holder_without_room_takes_nothing_and_says_why(world: World) -> None:
    answers = told(world)
    world.disks["east"].fill()
    world.vaults["east"].receive(HOME, whole(world))
    assert isinstance(answers[-1], Refused) and "east: the disk is full" in answers[-1].reason
    world.disks["east"].make_room()
    world.vaults["east"].receive(HOME, whole(world))
    await quiet()
    assert isinstance(answers[-1], Have)


@on_virtual_time
async def test_a_holder_believes_the_host_alone_that_the_ledger_names(world: World) -> None:
    answers = told(world)
    world.vaults["east"].receive("south", whole(world))
    world.vaults["east"].receive(HOME, whole(world, epoch=1))
    await quiet()
    assert [type(each) for each in answers] == [Refused, Refused]
    world.vaults["east"].receive(HOME, whole(world))
    await quiet()
    assert isinstance(answers[-1], Have) and answers[-1].position == 1


@on_virtual_time
async def test_after_it_served_an_epoch_nothing_lower_is_taken(world: World) -> None:
    """[H5] Even while this host's own chain would allow it, as after a loss of its disk."""
    holder = world.vaults["east"]
    holder.receive(HOME, whole(world))
    await quiet()
    await holder.check_out(world.birth.agent, 1)
    answers = told(world)
    holder.receive(HOME, whole(world, position=2))
    holder.receive(HOME, Changes(world.birth.agent, world.subject, 0, 1, 2, ()))
    await quiet()
    assert [type(each) for each in answers] == [Refused, Refused]
    await world.crash_holder("east")
    answers = told(world)
    world.vaults["east"].receive(HOME, whole(world, position=2))
    await quiet()
    assert [type(each) for each in answers] == [Refused]


@on_virtual_time
async def test_no_letter_is_taken_in_anothers_name_and_no_other_agents_copy_is_touched(world: World) -> None:
    holder = world.vaults["east"]
    holder.receive(HOME, whole(world))
    other = "other-0000000000000000"
    forged = Letter(other, 0, 1, 0, world.birth.agent, HOME, "kind", b"")
    named = world.birth.agent, world.subject, 0, 1, 2
    for op in (Wrote(forged, None), messages.Checkpointed(messages.Change(None, letters=(forged,)))):
        with pytest.raises(PeerFault, match="others wrote"):
            holder.receive(HOME, Changes(*named, (op,)))
    elsewhere = messages.Change(Captured(b"", (), (), file="of whoever has a file of that name"))
    with pytest.raises(PeerFault, match="a file of its own"):
        holder.receive(HOME, Changes(*named, (messages.Checkpointed(elsewhere),)))
    with pytest.raises(PeerFault, match="another's birth certificate"):
        holder.receive(HOME, replace(whole(world), agent=other))
    with pytest.raises(PeerFault, match="another residence"):
        holder.receive(HOME, replace(Changes(*named, (Settled("x", 1),)), subject=bytes(32)))
    await quiet()
    found = await holder.check_out(world.birth.agent, 1)
    assert found.rows.sent == ()


@on_virtual_time
async def test_a_host_fills_no_more_than_its_room(world: World) -> None:
    holder, answers = world.vaults["east"], told(world)
    named = world.birth.agent, world.subject, 0, 1, 1
    for number in range(3):
        holder.receive(HOME, Pieces(*named, ((bytes([number]) * 32, bytes(ROOM // 2)),)))
    await quiet()
    assert [type(each) for each in answers] == [Refused] and "at most" in answers[0].reason  # type: ignore[union-attr]


@on_virtual_time
async def test_the_room_that_a_host_fills_is_counted_through_copies_changes_drops_and_restarts(world: World) -> None:
    holder, answers = world.vaults["east"], told(world)
    agent = world.birth.agent
    named = agent, world.subject, 0, 1

    def counted(holder: vault.Vault) -> int:
        assert holder._used[HOME] == sum(each.size for each in holder._held.values())
        return holder._used[HOME]

    holder.receive(HOME, Pieces(*named, 1, ((bytes(32), bytes(ROOM // 4)),)))
    assert counted(holder) == ROOM // 4
    holder.receive(HOME, whole(world))
    copied = counted(holder)
    holder.receive(HOME, Changes(*named, 2, (Settled("x", 1),)))
    grown = counted(holder)
    assert grown > copied
    await quiet()
    await world.crash_holder("east")
    holder = world.vaults["east"]
    assert counted(holder) == grown
    holder.drop(agent)
    assert counted(holder) == 0
    holder.receive(HOME, Pieces(*named, 1, ((bytes(32), bytes(ROOM - 1)),)))
    await quiet()
    assert not any(isinstance(each, Refused) for each in answers)


@on_virtual_time
async def test_a_copy_that_grows_without_end_is_begun_anew(world: World) -> None:
    holder, answers = world.vaults["east"], told(world)
    holder.receive(HOME, whole(world))
    limit, vault.MAX_GROWTH_BYTES = vault.MAX_GROWTH_BYTES, 200
    try:
        for position in (2, 3):
            holder.receive(HOME, Changes(world.birth.agent, world.subject, 0, 1, position, (Settled("x" * 150, 1),)))
        await quiet()
    finally:
        vault.MAX_GROWTH_BYTES = limit
    assert isinstance(answers[-1], Have) and answers[-1].position == NOTHING


@pytest.mark.parametrize("others", [True, False])
def test_before_a_move_to_its_only_holder_another_one_is_found_if_there_is_one(others: bool) -> None:
    async def main() -> None:
        world = World(Random(1))  # noqa: S311
        await world.boot()
        agent = world.birth.agent
        await world.here.ready(agent)
        (holder,) = world.entry.holders
        if not others:
            world.cut |= set(HOLDERS) - {holder}
        await asyncio.wait_for(world.here.make_way(agent, holder), 9.0)
        assert (world.entry.holders != (holder,)) is others
        world.work()
        await quiet()
        assert world.released == 1
        world.here.end(agent)

    virtual_loop.run(main())


class Credulous(World):
    """Takes a link for a host that answers."""

    def answers(self, host: str) -> bool:
        return self.linked(host)


def released_beside_a_stopped_host(kind: type[World], named: bool) -> int:
    """How much leaves when the host that would hold the checkpoint, or is `named` as its holder, is stopped."""

    async def main() -> int:
        twin = kind(Random(1))  # noqa: S311
        await twin.boot()
        await twin.here.ready(twin.birth.agent)
        (first,) = twin.entry.holders
        twin.here.end(twin.birth.agent)
        world = kind(Random(1))  # noqa: S311
        if not named:
            world.stopped.add(first)
        await world.boot()
        if named:
            await world.here.ready(world.birth.agent)
            world.stopped.add(first)
        world.work()
        for _ in range(12):
            world.here.remind()
            await quiet()
        assert (first in world.entry.holders) == (named and kind is Credulous)
        world.here.end(world.birth.agent)
        return world.released

    return virtual_loop.run(main())


@pytest.mark.parametrize("named", [False, True])
def test_a_stopped_host_whose_links_stay_is_no_holder_for_long(named: bool) -> None:
    assert released_beside_a_stopped_host(World, named) == 1
    assert released_beside_a_stopped_host(Credulous, named) == 0, "the harness does not catch it"


class Open(World):
    """Takes a host that says that it is closed for one that is open."""

    def takes(self, host: str) -> bool:
        return True


@pytest.mark.parametrize("kind", [World, Open])
def test_a_holder_that_closes_is_replaced_at_once(kind: type[World]) -> None:
    async def main() -> None:
        world = kind(Random(1))  # noqa: S311
        await world.boot()
        await world.here.ready(world.birth.agent)
        (first,) = world.entry.holders
        world.shut.add(first)
        world.here.remind()
        await quiet()
        assert len(world.entry.holders) == 1
        assert (first in world.entry.holders) == (kind is Open), "the harness does not catch it"
        world.here.end(world.birth.agent)

    virtual_loop.run(main())


async def without_its_holder() -> tuple[World, str]:
    world = World(Random(1))  # noqa: S311
    await world.boot()
    await world.here.ready(world.birth.agent)
    (holder,) = world.entry.holders
    world.cut_off(holder)
    return world, holder


def test_a_holder_that_is_away_for_long_is_replaced_and_blocks_until_then() -> None:
    async def main() -> None:
        world, holder = await without_its_holder()
        world.work()
        for _ in range(3):
            world.here.remind()
            await quiet()
        (wait,) = world.here.waits()
        assert (wait.agents, wait.waits_for, world.released) == ((world.birth.agent,), holder, 0)
        for _ in range(6):
            world.here.remind()
            await quiet()
        assert world.entry.holders != (holder,) and world.released == 1 and not list(world.here.waits())
        world.here.end(world.birth.agent)

    virtual_loop.run(main())


def test_a_holder_that_lost_its_disk_gets_the_copy_again_though_nothing_changes() -> None:
    async def main() -> None:
        world, holder = await without_its_holder()
        world.disks[holder] = MemoryDisk()
        await world.start_holder(holder)
        world.mend(holder)
        await quiet()
        assert await world.lose(holder) == 0
        world.here.end(world.birth.agent)

    virtual_loop.run(main())


@on_virtual_time
async def test_who_waits_for_its_holders_goes_on_when_it_does_not_live_here_any_more(world: World) -> None:
    for host in HOLDERS:
        world.cut_off(host)
    await world.start_home()
    world.work()
    ready, flushed = asyncio.ensure_future(world.here.ready(world.birth.agent)), world.here.flush()
    await quiet()
    assert flushed is not None and not flushed.done() and not ready.done()
    world.here.end(world.birth.agent)
    async with asyncio.timeout(1.0):
        assert await flushed is None and await ready is None
