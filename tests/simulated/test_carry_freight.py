"""Large states on their way: what breaks in mid-stream, on hosts that are cranked one event at a time."""

import statistics

import pytest

from agentplatform.custody import fetches
from agentplatform.custody.pieces import WINDOW, Fetch, Piece
from agentplatform.parcel.freight import PIECE_BYTES, Freight
from agentplatform.parcel.spool import MemorySpool
from ledger import codec
from ledger.errors import Unavailable
from ledger.links.base import Channel
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
PIECES = 10  # of the state: more than a window


async def large(world: World, pieces: int = PIECES, name: str = "giant") -> str:
    agent = await world.create("a", name)
    world["a"].runner.copies[agent].state["ballast"] = bytes(pieces * PIECE_BYTES - 1000)
    return agent


def kept(world: World, host: str, agent: str) -> bool:
    """Whether the host has the state, and nothing else lies in its spool."""
    return len(world.spools[host].files) == 1 and world[host].carrier.machine.here(agent) is not None


@pytest.mark.usefixtures("no_errors")
async def test_a_large_state_arrives_and_its_source_keeps_nothing(world: World) -> None:
    agent = await large(world)
    biggest = 0
    sent = world.hub.drops

    def watch(source: str, target: str, channel: Channel, message: bytes) -> bool:
        nonlocal biggest
        biggest = max(biggest, sum(len(raw) for _, raw in world.hub.pipes[source, target]) + len(message))
        assert channel is Channel.BULK or len(message) < PIECE_BYTES
        return sent(source, target, channel, message)

    world.hub.drops = watch
    hop = await world.until(world["a"].depart([agent], "b"))
    assert hop.bytes > (PIECES - 1) * PIECE_BYTES
    assert world.holder(agent) == "b" and kept(world, "b", agent)
    assert len(world["b"].state(agent)["ballast"]) == PIECES * PIECE_BYTES - 1000
    assert not world.spools["a"].files
    assert biggest <= (WINDOW + 1) * PIECE_BYTES  # on the wire, and so in memory


@pytest.mark.usefixtures("no_errors")
async def test_it_goes_there_and_back_again_and_survives_a_restart(world: World) -> None:
    agent = await large(world, 2)
    for source, target in (("a", "b"), ("b", "a"), ("a", "b")):
        await world.until(world[source].depart([agent], target))
    world.crash("b")
    await world.heal()
    assert world.holder(agent) == "b" and kept(world, "b", agent) and not world.spools["a"].files


@pytest.mark.usefixtures("no_errors")
async def test_two_large_agents_and_a_small_one_go_as_one(world: World) -> None:
    agents = [await large(world, 2, "one"), await large(world, 3, "two"), await world.create("a", "three")]
    await world.until(world["a"].depart(agents, "b"))
    assert [world.holder(agent) for agent in agents] == ["b"] * 3
    assert len(world.spools["b"].files) == 2 and not world.spools["a"].files


class ForgetfulSpool(MemorySpool):
    """A mutant: it says that a file is durable, and the file is not."""

    async def sync(self, name: str) -> None: ...


async def hop(host: str, at: int | None, pieces: int, spool: type[MemorySpool]) -> int:
    """A hop of a large agent from a to b, with a loss of power of `host` before one of its events; then all is well
    again. Returns how many events there were."""
    world = World("a", "b")
    world.spools = {name: spool() for name in world.names}
    await world.boot()
    agent = await large(world, pieces)
    begun = world.index
    world["a"].depart([agent], "b")
    if at is not None:
        world.plans[begun + at, "before"] = lambda: world.crash(host)
    await world.crank()
    events = world.index - begun
    await world.heal()
    for transfer in list(world["a"].carrier.machine.leaving):  # the destination has forgotten it: the deadline comes
        world["a"].carrier.departures._give_up(transfer, "late")
        await world.crank()
    holder, other = sorted("ab", key=lambda name: name != world.holder(agent))
    files = world.spools[holder].files
    assert len(files) <= 1 and (holder == "a" or files)
    assert not world.spools[other].files
    world.close()
    return events


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("host", ["a", "b"])
@pytest.mark.parametrize("pieces", [2, pytest.param(PIECES, marks=pytest.mark.slow)])
async def test_a_loss_of_power_at_any_event_neither_loses_nor_doubles_it(host: str, pieces: int) -> None:
    for at in range(await hop(host, None, pieces, MemorySpool)):
        await hop(host, at, pieces, MemorySpool)


@pytest.mark.parametrize("host", ["a", "b"])
async def test_a_spool_that_forgets_loses_it(host: str) -> None:
    stranded = 0
    for at in range(await hop(host, None, 2, MemorySpool)):
        try:
            await hop(host, at, 2, ForgetfulSpool)
        except AssertionError as error:
            assert "does not run there" in str(error)
            stranded += 1
    assert stranded


@pytest.mark.usefixtures("no_errors")
async def test_after_a_broken_link_only_what_is_missing_comes() -> None:
    world = World("a", "b")
    await world.boot()
    agent = await large(world)
    asked: list[int] = []

    def watch(source: str, target: str, channel: Channel, message: bytes) -> bool:
        if channel is Channel.BULK and target == "a":
            fetch = codec.decode(message, Fetch | Piece)  # type: ignore[arg-type]
            asked.extend(range(fetch.first, fetch.first + fetch.count))
        return False

    world.hub.drops = watch
    departing = world["a"].depart([agent], "b")
    while len(asked) < PIECES - 2:
        await world.turn()
    world.hub.cut("a", "b")
    await world.crank()
    assert not departing.done() and agent in world["a"].carrier.residents.known  # it waits for the link
    before = asked.copy()
    world.hub.heal("a", "b")
    await world.until(departing)
    again = asked[len(before) :]
    assert again and 0 not in again and set(before) | set(again) == set(range(PIECES))
    assert len(again) == len(set(again)) <= PIECES - 1
    assert world.holder(agent) == "b"
    world.close()


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("honest", [True, False])
async def test_a_piece_that_was_changed_ends_the_handoff(world: World, honest: bool) -> None:
    """An honest source does not send it: else its destination would blame it for what an agent did."""
    agent = await large(world)
    spool = world.spools["a"]
    if not honest:

        async def unread(name: str, freight: Freight, number: int) -> bytes:
            return spool._read(name, freight, number)

        spool.get = unread  # type: ignore[method-assign]
    departing = world["a"].depart([agent], "b")
    await world.settle()
    (state,) = spool.files.values()
    state[5 * PIECE_BYTES] ^= 1
    words = "is not what its worker told of" if honest else "which is not what it signed"
    with pytest.raises(Unavailable, match=rf"piece 5 of .*{words}"):
        await world.until(departing)
    assert world.holder(agent) == "a" and not world.spools["b"].files
    assert words in world["a"].state(agent)["failed"][-1]


@pytest.mark.usefixtures("no_errors")
async def test_a_full_disk_refuses_it_and_the_agent_goes_on(world: World) -> None:
    agent = await large(world, 2)
    world.spools["b"].room = PIECE_BYTES
    with pytest.raises(Unavailable, match="has no room on the disk"):
        await world.until(world["a"].depart([agent], "b"))
    assert world.holder(agent) == "a" and not world.spools["b"].files
    assert await world.until(world["a"].ask(agent, "note", "still here"))


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize(
    ("slow", "words"), [(False, "a sent nothing of giant"), (True, "more slowly than 1048576 bytes")]
)
async def test_a_source_that_does_not_send_gives_no_hold_on_the_disk(world: World, slow: bool, words: str) -> None:
    agent = await large(world)
    world.hub.drops = lambda source, target, channel, message: channel is Channel.BULK and target == "a"
    departing = world["a"].depart([agent], "b")
    await world.crank()
    (haul,) = world["b"].carrier.arrivals.fetches._hauls.values()
    assert len(world.spools["b"].files) == 1
    if slow:
        haul.latest = -1.0
    else:
        haul.heard = -1e9
    world["b"].remind()
    with pytest.raises(Unavailable, match=words):
        await world.until(departing)
    assert world.holder(agent) == "a" and not world.spools["b"].files


async def test_an_agent_whose_state_was_changed_on_the_disk_is_stranded_and_said_to_be(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    agent = await large(world, 2)
    await world.until(world["a"].depart([agent], "b"))
    world.crash("b")
    (file,) = world.spools["b"].files
    world.spools["b"].files[file][PIECE_BYTES] ^= 1
    await world.boot("b")
    assert world["b"].carrier.lifetimes.state_of(agent) == "stranded"
    assert "piece 1 of its state was changed on the disk" in caplog.text
    assert world.spools["b"].files  # whatever is left of it


@pytest.mark.usefixtures("no_errors")
async def test_files_that_no_record_names_go_at_the_start(world: World) -> None:
    world.spools["a"].files["orphan"] = bytearray(5)
    world.crash("a")
    await world.boot("a")
    assert not world.spools["a"].files


async def window_of(world: World, seconds: float) -> int:
    """At the median of a hop, when each piece waits so long for each other that is on its way."""
    agent = await large(world, 30)
    hauls = world["b"].carrier.arrivals.fetches._hauls
    now, windows = 0.0, []

    def clock() -> float:
        nonlocal now
        for haul in hauls.values():
            windows.append(haul.window)
            now += seconds * len(haul.asked)
        return now

    world["b"].carrier.arrivals.fetches.clock = clock
    await world.until(world["a"].depart([agent], "b"))
    assert world.holder(agent) == "b"
    return int(statistics.median(windows))


@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize(("seconds", "least", "most"), [(0.0, WINDOW, WINDOW), (0.006, 2, WINDOW - 1), (0.03, 1, 2)])
async def test_what_is_asked_for_ahead_follows_from_how_long_it_waits(
    world: World, seconds: float, least: int, most: int
) -> None:
    assert least <= await window_of(world, seconds) <= most


class TestHostilePeers:
    async def offered(self, world: World) -> tuple[str, bytes]:
        """On its way, with the destination's requests waiting."""
        agent = await large(world)
        world["a"].depart([agent], "b")
        await world.settle()
        return agent, next(iter(world["a"].carrier.machine.leaving))

    @pytest.mark.parametrize(
        ("first", "count", "words"),
        [
            (0, WINDOW + 1, "more than 8 pieces"),
            (0, PIECES + 1, "pieces of .* that there are not"),
            (-1, 1, "that there are not"),
            (3, -1, "that there are not"),
            (1 << 40, 1, "that there are not"),
        ],
    )
    async def test_a_destination_may_ask_for_what_there_is_and_a_window_at_a_time(
        self, world: World, first: int, count: int, words: str
    ) -> None:
        agent, transfer = await self.offered(world)
        with pytest.raises(fetches.PeerFault, match=words):
            world["a"].carrier.stream("b", codec.encode(Fetch(transfer, agent, first, count)))

    async def test_a_state_goes_to_the_host_that_it_was_offered_to(self) -> None:
        world = World("a", "b", "c")
        await world.boot()
        agent, transfer = await self.offered(world)
        with pytest.raises(fetches.PeerFault, match="that was not offered to it"):
            world["a"].carrier.stream("c", codec.encode(Fetch(transfer, agent, 0, 1)))
        world.close()

    async def test_pieces_that_nobody_asked_for_are_not_written(self, world: World) -> None:
        agent, transfer = await self.offered(world)
        await world.turn()
        while not world.spools["b"].files:
            await world.turn()
        stray = Piece(transfer, agent, PIECES - 1, bytes(10))
        world["b"].carrier.stream("a", codec.encode(stray))  # not asked for yet
        world["b"].carrier.stream("a", codec.encode(Piece(bytes(16), agent, 0, b"x")))  # of no handoff
        with pytest.raises(fetches.PeerFault, match="was not asked for"):
            world["b"].carrier.stream("c", codec.encode(stray))
        with pytest.raises(fetches.PeerFault, match="was not asked for"):
            world["b"].carrier.stream("a", codec.encode(Piece(transfer, agent, 0, bytes(PIECE_BYTES + 1))))
        await world.crank()
        assert world.holder(agent) == "b"
