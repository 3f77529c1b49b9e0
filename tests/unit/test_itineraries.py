"""Itineraries as values: every kind by table, and random walks of each beside a model of a few plain loops."""

import pickle
import random
import time
from typing import Any

import msgspec
import pytest

from agentplatform import Ticket
from agentplatform.itineraries import Alternatives, Circular, Itinerary, MasterWorkers, Meeting, Plan, Sequence
from agentplatform.itineraries.circular import REST_SECONDS
from agentplatform.itineraries.crew import Answered, Ask, Lost, Refused, Start
from agentplatform.itineraries.meeting import Gather, Late, Present
from agentplatform.itineraries.route import Done, Failed, Go, Over, Ready, Route, Stop, Visit, Wait, Work

ABC = ("a", "b", "c")
T = Ticket("b", retries=3)

# Each row: an event, what is to be done then. `home` is none of the stops.
TABLE: dict[str, tuple[Route, list[tuple[Any, Any]]]] = {
    "sequence arrived": (
        Sequence(ABC),
        [(Ready("home"), Go("a")), (Ready("a"), Work("on_stop")), (Done("a"), Go("b")), (Ready("a"), Go("b")),
         (Done("b"), Go("c")), (Done("c"), Over()), (Ready("c"), Over()), (Failed("c", "no"), Over())],
    ),
    "sequence failed": (
        Sequence(("a", T, "c")),
        [(Failed("home", "no"), Go(T)), (Failed("home", "no"), Go("c")), (Failed("home", "no"), Over())],
    ),
    "sequence stopped": (
        Sequence(ABC, unreachable="stop"), [(Done("a"), Go("b")), (Failed("a", "no"), Over()), (Ready("a"), Over())],
    ),
    "sequence replayed": (
        Sequence(("a", "a")),
        [(Ready("a"), Work("on_stop")), (Ready("a"), Work("on_stop")), (Failed("a", "by others"), Work("on_stop")),
         (Ready("home"), Go("a")), (Done("home"), Go("a")), (Done("a"), Work("on_stop")), (Done("a"), Over())],
    ),
    "plan arrived": (
        Plan((("a", "buy"), ("a", "sell"), (T, "buy"))),
        [(Ready("a"), Work("buy")), (Done("a"), Work("sell")), (Done("a"), Go(T)), (Ready("b"), Work("buy")),
         (Done("b"), Over())],
    ),
    "plan failed": (
        Plan((("a", "buy"), ("b", "sell"))), [(Failed("b", "no"), Work("sell")), (Done("b", None, "broke"), Over())],
    ),
    "plan replayed": (
        Plan((("a", "buy"),)), [(Ready("a"), Work("buy")), (Ready("a"), Work("buy")), (Done("a"), Over())],
    ),
    "alternatives arrived": (Alternatives(ABC), [(Ready("home"), Go("a")), (Done("a"), Over()), (Ready("a"), Over())]),
    "alternatives failed": (
        Alternatives(ABC),
        [(Failed("home", "no"), Go("b")), (Failed("home", "no"), Go("c")), (Failed("home", "no"), Over())],
    ),
    "alternatives replayed": (
        Alternatives(ABC), [(Failed("home", "no"), Go("b")), (Ready("home"), Go("b")), (Ready("b"), Work("on_stop")),
                            (Ready("b"), Work("on_stop")), (Done("b"), Over())],
    ),
    "circular arrived": (
        Circular(("a", "b"), 2, "enough"),
        [(Ready("a"), Work("on_stop", "enough")), (Done("a"), Go("b")), (Done("b"), Go("a")), (Done("a"), Go("b")),
         (Done("b"), Over())],
    ),
    "circular has enough": (
        Circular(("a", "b"), None, "enough"), [(Done("a"), Go("b")), (Done("b", enough=True), Over())],
    ),
    "circular failed": (
        Circular(("a", "b"), 2),
        [(Failed("home", "no"), Go("b")), (Failed("home", "no"), Wait(REST_SECONDS)), (Ready("home"), Go("a")),
         (Done("a"), Go("b")), (Failed("a", "no"), Over())],
    ),
    "circular replayed": (
        Circular(("a", "b"), None),
        [(Done("a"), Go("b")), (Ready("a"), Go("b")), (Failed("a", "no"), Work("on_stop")),
         (Ready("a"), Work("on_stop"))],
    ),
    "meeting arrived": (
        Meeting("a", ("x", "y-0"), 9.0, "ball"),
        [(Ready("home"), Go("a")), (Ready("a"), Gather("ball on a", 9.0)),
         (Present("a", "x-1"), Gather("ball on a", 9.0)),
         (Present("a", "y-0"), Work("on_stop")), (Ready("a"), Work("on_stop")), (Done("a"), Over())],
    ),
    "meeting failed": (Meeting("a", ("x",)), [(Failed("home", "no"), Over()), (Present("a", "x-1"), Over())]),
    "meeting late": (
        Meeting("a", ("x",), 9.0),
        [(Late("home"), Go("a")), (Late("a"), Work("on_stop")), (Ready("a"), Work("on_stop")), (Done("a"), Over())],
    ),
    "meeting replayed": (
        Meeting("a", ("x", "y"), 9.0),
        [(Present("a", "x-1"), Gather("meeting on a", 9.0)), (Ready("a"), Gather("meeting on a", 9.0)),
         (Present("a", "x-1"), Gather("meeting on a", 9.0)), (Present("a", "x-2"), Gather("meeting on a", 9.0)),
         (Present("home", "y-1"), Go("a")), (Present("a", "z-1"), Gather("meeting on a", 9.0))],
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", TABLE)
def test_what_is_next_after_each_event(row: str) -> None:
    itinerary, transcript = TABLE[row]
    for at, (event, action) in enumerate(transcript):
        again = pickle.loads(pickle.dumps(itinerary))  # noqa: S301 - as after a crash
        after, found = itinerary.step(event)
        assert found == action, f"line {at}"
        assert again.step(event) == (after, found), f"line {at}, replayed"
        if isinstance(event, Ready):
            assert after == itinerary, f"line {at}: to be ready changes nothing"
        decoded: Any = msgspec.convert(msgspec.to_builtins(after), Itinerary)  # type: ignore[call-overload]
        assert decoded == after, f"line {at}, as plain data"
        itinerary = after


def test_every_kind_is_in_the_table_arrived_failed_and_replayed() -> None:
    kinds = ("sequence", "plan", "alternatives", "circular", "meeting")
    assert {f"{kind} {what}" for kind in kinds for what in ("arrived", "failed", "replayed")} <= TABLE.keys()


def test_visits_say_what_became_of_each_stop() -> None:
    itinerary: Route = Plan((("a", "buy"), ("b", "sell"), ("c", "buy")))
    for event in (Done("a", 7), Failed("a", "shut"), Done("c", None, "ValueError: sold out")):
        itinerary, _ = itinerary.step(event)
    assert itinerary.visits == (
        Visit("a", 7), Visit("b", None, "shut", reached=False), Visit("c", None, "ValueError: sold out"),
    )  # fmt: skip


# Walks


def model(itinerary: Any, shut: set[int]) -> list[tuple[str, bool]]:
    """Which stops are visited, and whether they are reached; stop number n is shut if n is in `shut`."""
    visits: list[tuple[str, bool]] = []
    if isinstance(itinerary, Circular):
        assert itinerary.rounds is not None
        hosts = list(itinerary.hosts) * itinerary.rounds
    else:
        hosts = [host for host, _ in itinerary.stops] if isinstance(itinerary, Plan) else list(itinerary.hosts)
    here = "home"
    for number, host in enumerate(hosts):
        reached = number not in shut or here == host
        visits.append((host, reached))
        here = host if reached else here
        if (not reached and itinerary.unreachable == "stop") or (reached and isinstance(itinerary, Alternatives)):
            break
    return visits[-len(itinerary.hosts) :] if isinstance(itinerary, Circular) else visits


def walk(itinerary: Any, shut: set[int], chance: random.Random) -> tuple[list[tuple[str, bool]], list[str]]:
    """What it says of its visits in the end, and where work was done. Any event may be followed by a crash, which
    brings back what was kept before, or by a move that others asked for and that failed or not."""
    state: tuple[Any, str, tuple[str, ...]] = (itinerary, "home", ())  # the agent's: its itinerary, host, work
    kept = state
    event: Any = Ready("home")
    for _ in range(10_000):
        route, host, worked = state
        after, action = route.step(event)
        if isinstance(event, Done):
            worked = (*worked, host)
        state = after, host, worked
        if chance.random() < 0.3:
            kept = state
        if chance.random() < 0.15:
            state = kept
            event = Ready(state[1])
        elif chance.random() < 0.1 and not isinstance(itinerary, Circular):  # there it matters where it is
            host = chance.choice(["home", "a", "b"])
            state = kept = (after, host, worked)
            event = Ready(host)
        elif chance.random() < 0.1 and (after.over or after.stop().host == host):
            event = Failed(host, "a move that others asked for")
        elif isinstance(action, Over):
            return [(visit.host, visit.reached) for visit in after.visits], list(worked)
        elif isinstance(action, Work):
            event = Done(host)
        elif isinstance(action, Wait):
            event = Ready(host)
        elif after.at in shut:
            event = Failed(host, "shut")
        else:
            state = kept = (after, after.stop().host, worked)  # a move keeps what moves
            event = Ready(after.stop().host)
    raise AssertionError("it goes on for ever")


def check(make: Any, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    itinerary = make(chance)
    shut = {number for number in range(12) if chance.random() < 0.3}
    visits, worked = walk(itinerary, shut, chance)
    expected = model(itinerary, shut)
    assert visits == expected, f"seed {seed}: {itinerary}, shut {shut}"
    if not isinstance(itinerary, Circular):
        assert worked == [host for host, reached in expected if reached], f"seed {seed}: {itinerary}, shut {shut}"


def hosts_of(chance: random.Random) -> tuple[str, ...]:
    return tuple(f"h{number}" for number in range(chance.randint(1, 5)))


def unreachable(chance: random.Random) -> Any:
    return chance.choice(["skip", "stop"])


KINDS: dict[str, Any] = {
    "sequence": lambda chance: Sequence(hosts_of(chance), unreachable=unreachable(chance)),
    "plan": lambda chance: Plan(tuple((host, "buy") for host in hosts_of(chance)), unreachable=unreachable(chance)),
    "alternatives": lambda chance: Alternatives(hosts_of(chance)),
    "circular": lambda chance: Circular(("h", *hosts_of(chance)), chance.randint(1, 2)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_random_walks_end_as_the_model_says(kind: str) -> None:
    first = time.time_ns() % 1_000_000
    print(f"seeds from {first}")
    for seed in range(first, first + 200):
        check(KINDS[kind], seed)


class Hasty(Sequence, frozen=True, tag="hasty"):
    """Takes being ready at a stop for having worked there."""

    def step(self, event: Any) -> Any:
        after, action = super().step(event)
        return (after.step(Done(event.host))[0], action) if isinstance(action, Work) else (after, action)


class Touchy(Sequence, frozen=True, tag="touchy"):
    """Takes the failure of any move for its own."""

    def step(self, event: Any) -> Any:
        return super().step(Failed("nowhere", event.reason) if isinstance(event, Failed) else event)


class Stubborn(Alternatives, frozen=True, tag="stubborn"):
    """Goes on to the next though one took it."""

    def is_last(self, visit: Visit) -> bool:
        return self.at + 1 == len(self.hosts)


class Skipping(Circular, frozen=True, tag="skipping"):
    """Leaves out the host after one that is shut."""

    def stop(self) -> Stop:
        missed = bool(self.visits) and not self.visits[-1].reached
        return Stop(self.hosts[(self.at + missed) % len(self.hosts)])


@pytest.mark.parametrize(
    "make",
    [
        lambda chance: Hasty(hosts_of(chance)),
        lambda chance: Touchy(hosts_of(chance)),
        lambda chance: Stubborn(hosts_of(chance)),
        lambda chance: Skipping(("h", *hosts_of(chance)), 2),
    ],
)
def test_the_walks_catch_a_broken_itinerary(make: Any) -> None:
    with pytest.raises(AssertionError, match="seed"):
        for seed in range(200):
            check(make, seed)


# The crew

CREW = MasterWorkers((("v", "a"), ("w", "b")), ("p0", "p1", "p2"), tries=2)


@pytest.mark.parametrize(
    ("events", "asks", "ends"),
    [
        ([Start()], [Ask("v", "a", 0), Ask("w", "b", 1)], None),
        ([Start(), Start()], [Ask("v", "a", 0), Ask("w", "b", 1)], None),  # replayed
        ([Start(), Answered("w", 1), Answered("w", 2)], [Ask("w", "b", 2)], None),
        ([Start(), Answered("w", 1), Answered("w", 2), Answered("v", 0), Answered("v", 9)],
         [Ask("w", "b", 2)], [0, 1, 2]),
        ([Start(), Lost("v", "dead")], [], None),
        ([Start(), Lost("v", "dead"), Answered("w", 1), Answered("w", 2), Answered("w", 0), Answered("v", 9)],
         [Ask("w", "b", 2), Ask("w", "b", 0)], [0, 1, 2]),
        ([Start(), Refused("v", "bad"), Answered("w", 1), Refused("w", "bad"), Answered("v", 2)],
         [Ask("v", "a", 2), Ask("w", "b", 0)], ["bad", 1, 2]),
        ([Start(), Lost("v", "dead"), Lost("w", "too")], [], ["no worker is left; the last words: too"] * 3),
    ],
)  # fmt: skip
def test_who_is_asked_for_what(events: list[Any], asks: list[Ask], ends: list[Any] | None) -> None:
    crew, asked = CREW, []
    for event in events:
        crew, new = crew.step(event)
        asked += new
    first = [Ask("v", "a", 0), Ask("w", "b", 1)]
    assert asked == (asks if asks[:2] == first else [*first, *asks])
    assert crew.over == (ends is not None)
    if ends is not None:
        assert [each.error or each.value for each in crew.results()] == ends


@pytest.mark.parametrize(
    ("workers", "parts", "terms"),
    [
        ((), (1,), {}),
        ((("v", "a"),), (), {}),
        ((("v",),), (1,), {}),
        ((("v", ""),), (1,), {}),
        ((("v", "a"), ("v", "b")), (1,), {}),
        ((("v", "a"),), (1,), {"tries": 0}),
        ((("v", "a"),), (1,), {"patience": 0.0}),
    ],
)
def test_what_is_no_crew_is_refused(workers: Any, parts: Any, terms: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        MasterWorkers(workers, parts, **terms)


def test_a_crew_ends_whatever_its_workers_do() -> None:
    """Each part has one outcome, nobody has two parts, and no part is tried more often than it may be."""
    first = time.time_ns() % 1_000_000
    print(f"seeds from {first}")
    for seed in range(first, first + 300):
        chance = random.Random(seed)  # noqa: S311
        workers = tuple((f"w{number}", "a") for number in range(chance.randint(1, 4)))
        crew = MasterWorkers(workers, tuple(range(chance.randint(1, 8))), tries=chance.randint(1, 3))
        crew, asks = crew.step(Start())
        under_way = {ask.worker: ask.part for ask in asks}
        tried = [ask.part for ask in asks]
        while not crew.over:
            assert under_way and under_way == crew.busy, f"seed {seed}: nobody works, and it is not over"
            worker = chance.choice(sorted(under_way))
            del under_way[worker]
            event: Any = chance.choice(
                [Answered(worker, 1), Answered(worker, 1), Refused(worker, "no"), Lost(worker, "x")]
            )
            before = pickle.loads(pickle.dumps(crew))  # noqa: S301
            crew, asks = crew.step(event)
            assert before.step(event) == (crew, asks), f"seed {seed}: it is not the same when it is replayed"
            assert not any(ask.worker in under_way or ask.worker in crew.lost for ask in asks), f"seed {seed}"
            under_way |= {ask.worker: ask.part for ask in asks}
            tried += [ask.part for ask in asks]
        assert sorted(crew.outcomes) == list(range(len(crew.parts))), f"seed {seed}"
        assert max(map(tried.count, tried)) <= crew.tries, f"seed {seed}"
