"""What ranks policies: traces, the simulation, and the best plan in hindsight (benchmarks/regret)."""

from pathlib import Path

import msgspec
import networkx as nx
import pytest

from benchmarks import decide_regret
from benchmarks.regret import cost, generate, hindsight, simulate
from benchmarks.regret.trace import Start, Step, Trace, read
from services.eds.offers import Offers, of_each_place
from services.eds.policies import POLICIES
from services.eds.policies.falcon import Falcon
from services.eds.policies.never_move import NeverMove
from services.eds.snapshot import Snapshot

MEGABYTE = 1_000_000


class Flapping(msgspec.Struct, frozen=True):
    """The broken twin: anywhere but here."""

    def offers(self, snapshot: Snapshot) -> Offers:
        return of_each_place(snapshot, lambda resident, host, _terms: 1.0 if host.host == resident.host else 2.0)


def two_hosts(*changes: Step, end: float = 20.0, size: int = MEGABYTE) -> Trace:
    """The user is near `a` at first; both are half idle."""
    begin = Step(
        0.0,
        "the user's device reports",
        access={"a": (2.0, 0.0), "b": (42.0, 0.0)},
        links={"a>b": (4.0, 0.0), "b>a": (4.0, 0.0)},
        cpu_free={"a": 0.5, "b": 0.5},
    )
    return Trace(Start("two", ("a", "b"), "a", size, 100.0, end), (begin, *changes))


def beginning(trace: Trace, end: float) -> Trace:
    steps = tuple(step for step in trace.steps if step.at < end)
    return Trace(msgspec.structs.replace(trace.head, end=end), steps)


NEAR_B = Step(10.0, "the user's device reports", access={"a": (42.0, 0.0), "b": (2.0, 0.0)})
HOP = 20 + 1.5 * 4 + 80  # ms: see services.eds.experience.expected_ms


def test_what_is_paid_for_service_moves_and_bytes() -> None:
    stayed = simulate.run(two_hosts(NEAR_B), NeverMove())
    assert stayed.cost == pytest.approx(10 * 10 * (0.002 + 0.040) + 10 * 10 * (0.042 + 0.040))
    went = simulate.run(two_hosts(NEAR_B), POLICIES["nearest"]())
    assert went.hosts == ["a", "b"] and went.downtime_ms == pytest.approx(HOP)
    assert went.cost == pytest.approx(20 * 10 * 0.042 + 10 * HOP / 1000 + cost.PER_MB)
    assert hindsight.best(two_hosts(NEAR_B)) == (pytest.approx(went.cost), 1)


def test_the_best_plan_stays_where_a_move_does_not_pay() -> None:
    """Two seconds are left, of 0.4 s each; a move costs more."""
    soon_over = two_hosts(NEAR_B, end=12.0)
    assert hindsight.best(soon_over)[1] == 0
    assert simulate.run(soon_over, POLICIES["nearest"]()).cost > hindsight.best(soon_over)[0]


def test_the_best_plan_leaves_before_its_host_is_revoked_and_its_link_fails() -> None:
    fails = Step(9.0, "the link fails", links={"a>b": (0.0, 1.0)})
    gone = Step(10.0, "a was revoked", revoked=("a",))
    paid, moves = hindsight.best(two_hosts(fails, gone))
    assert moves == 1 and paid < 15.0
    caught = simulate.run(two_hosts(fails, gone), Falcon())
    assert caught.hosts == ["a"] and caught.cost > 100.0


def test_the_best_plan_is_the_shortest_path_through_the_time_expanded_graph() -> None:
    """Held against networkx, in which a path may hop at both ends of every interval."""
    for kind, make in generate.KINDS.items():
        short = beginning(make(7), 10.0)
        graph = nx.DiGraph()
        worlds = list(short.worlds())
        for index, world in enumerate(worlds):
            for host in short.head.hosts:
                served = cost.of_service(world, host) * (world.until - world.at)
                graph.add_edge((index, host, "begin"), (index, host, "end"), cost=served)
                graph.add_edge((index, host, "end"), (index + 1, host, "begin"), cost=0.0)
            for pair in world.links:
                downtime, succeeds = cost.downtime_ms(short.head, world, *pair)
                if succeeds:
                    for side in ("begin", "end"):
                        paid = cost.of_move(short.head, downtime, True)
                        graph.add_edge((index, pair[0], side), (index, pair[1], side), cost=paid)
        reached = nx.single_source_dijkstra_path_length(graph, (0, short.head.start, "begin"), weight="cost")
        best = min(
            reached[len(worlds), host, "begin"] for host in short.head.hosts if (len(worlds), host, "begin") in reached
        )
        assert hindsight.best(short)[0] == pytest.approx(best), kind


@pytest.mark.parametrize("kind", generate.KINDS)
def test_no_policy_beats_hindsight_and_one_that_flaps_is_ranked_worst(kind: str) -> None:
    judge(beginning(generate.KINDS[kind](1), 15.0))


@pytest.mark.slow
@pytest.mark.parametrize("kind", generate.KINDS)
def test_no_policy_beats_hindsight_with_any_seed_of_the_benchmark(kind: str) -> None:
    for seed in (*decide_regret.TRAINING, *decide_regret.HELD_OUT):
        judge(generate.KINDS[kind](seed))


def judge(trace: Trace) -> None:
    paid, _ = hindsight.best(trace)
    costs = {name: simulate.run(trace, make()).cost for name, make in POLICIES.items()}
    costs["flapping"] = simulate.run(trace, Flapping()).cost
    assert all(each >= paid * (1 - 1e-9) for each in costs.values()), (trace.head.name, paid, costs)
    assert max(costs, key=lambda name: costs[name]) == "flapping", (trace.head.name, costs)


def test_hindsight_that_hops_at_the_beginning_of_an_interval_alone_would_be_beaten() -> None:
    """The broken twin of the bound: the last moment before a link fails is a moment too."""
    fails = Step(10.0, "the link fails", links={"a>b": (0.0, 1.0)}, access=NEAR_B.access)
    dear = Step(5.0, "", access={"a": (2.0, 0.0), "b": (900.0, 0.0)})
    trace = two_hosts(dear, fails, end=60.0)
    best, moves = hindsight.best(trace)
    assert moves == 1
    at_ten = 5 * 10 * 0.042 + 5 * 10 * 0.042 + 50 * 10 * 0.042 + 10 * HOP / 1000 + cost.PER_MB
    assert best == pytest.approx(at_ten)


def test_one_that_refuses_is_tried_a_few_times_and_then_left_alone() -> None:
    refuses = Step(0.0, "the user's device reports", refusing=("b",), access=NEAR_B.access)
    begin = two_hosts().steps[0]
    steps = (begin, *(Step(0.5 * n, "the user's device reports") for n in range(1, 100)))
    trace = Trace(
        two_hosts(end=50.0).head, (msgspec.structs.replace(begin, refusing=("b",), access=refuses.access), *steps[1:])
    )
    run = simulate.run(trace, Falcon())
    assert run.moves == 0 and 1 <= run.failed <= 3


def test_traces_are_equal_for_equal_seeds_and_are_written_and_read_again(tmp_path: Path) -> None:
    assert generate.links(3) == generate.links(3) != generate.links(4)
    path = tmp_path / "trace.jsonl"
    trace = generate.mixture(3)
    path.write_bytes(b"\n".join(trace.lines()))
    assert list(read(path).worlds()) == list(trace.worlds())


def test_a_policy_in_a_file_is_ranked(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from services.eds.policies.nearest import Nearest\n\n\nclass Mine(Nearest, frozen=True):\n    pass\n"
    )
    trace = generate.walk(1)
    mine = decide_regret.load(f"{file}:Mine")
    assert simulate.run(trace, mine).cost == simulate.run(trace, POLICIES["nearest"]()).cost
    for wrong in ("mine", f"{file}:Yours", f"{tmp_path}/no.py:Mine"):
        with pytest.raises(SystemExit, match=r"policy|no class"):
            decide_regret.load(wrong)
