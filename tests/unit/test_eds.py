"""The edge of the EDS: from an event to a plan that is carried out, an explanation that is kept, and experience."""

import asyncio
import math
from collections.abc import Sequence

import msgspec
import pytest

from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from services.eds import kept
from services.eds.events import (
    AgentAsked,
    AgentTold,
    Event,
    HostDraining,
    HostJoined,
    HostOffline,
    HostOpened,
    HostRevoked,
    HostSuspected,
    LinkChanged,
    Overload,
)
from services.eds.experience import Record, after, value
from services.eds.explain import Explanation, Outcome
from services.eds.plan import Plan
from services.eds.policies.falcon import Falcon
from services.eds.rules import Group
from services.eds.snapshot import Resident, Snapshot, assemble
from services.eds.weights import Weights, link_quality
from services.rms.adverts import Advert
from services.rms.link_probe import LinkMeasure
from services.tms.verdicts import Verdict
from tests.helpers.city import FACES, REVOKED, City, decided, near
from tests.helpers.edge_scenes import NOON, resources


async def test_the_group_follows_its_user_and_every_step_can_be_explained() -> None:
    city = City()
    async with city.eds() as eds:
        for name in "bcb":
            await decided(eds, near(name))
            assert city.where == {"user": name, "face": name}
        newest, *older = await eds.why("face")
        assert [each.chosen["face"] for each in (newest, *older)] == ["b", "c", "b"]
        assert newest.present == {"user": "c", "face": "c"} and newest.why == "ada moved"
        assert newest.outcome == Outcome()
        assert {access["source"] for access in newest.inputs["access"]["ada"]} == {"emulated"}
        assert newest.policy["name"] == "Falcon"
        assert newest.policy["settings"]["weights"]["network"] == Weights().network
        assert await eds.why("stranger") == []


async def test_a_revoked_host_is_among_the_rejected_with_the_ledgers_reason() -> None:
    city = City()
    async with city.eds() as eds:
        eds.happened(near("d"))
        await eds.settled()
        (explanation,) = await eds.why("face")
        assert {(each.agent, each.host): each.reason for each in explanation.rejected} == {
            ("user", "d"): f"not trusted: {REVOKED}",
            ("face", "d"): f"not trusted: {REVOKED}",
        }
        assert city.where["face"] != "d"
        rows = [dict(zip(explanation.columns, row, strict=True)) for row in explanation.rows()]
        (row,) = [row for row in rows if (row["agent"], row["host"]) == ("face", "d")]
        assert row["decision"] == "rejected" and row["remark"] == f"not trusted: {REVOKED}"


async def test_the_rows_of_an_explanation_show_what_was_chosen_and_what_it_rested_on() -> None:
    city = City()
    async with city.eds() as eds:
        eds.happened(near("b"))
        await eds.settled()
        (explanation,) = await eds.why("user")
        rows = [dict(zip(explanation.columns, row, strict=True)) for row in explanation.rows() if row[0] == "user"]
        assert [(row["host"], row["decision"]) for row in rows[:1]] == [("b", "goes")]
        assert {row["host"]: row["decision"] for row in rows[1:]} == {
            "a": "leaves",
            "c": "candidate",
            "d": "rejected",
        }
        assert rows[0]["network"] == f"{link_quality(2.0, 0.0):.2f}" and float(rows[0]["Q"]) > 0


async def test_an_explanation_survives_the_store_unchanged() -> None:
    city = City()
    async with city.eds() as eds:
        found = await decided(eds, near("b"))
        raw = await city.store.get(kept.DECISIONS, found.decision)
        assert raw == codec.encode(found) and len(found.candidates) == 6 and len(found.rejected) == 2
        assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(found)), Explanation) == found  # for --json


async def test_the_explanation_is_kept_before_the_plan_is_carried_out() -> None:
    city = City()
    async with city.eds() as eds:
        seen = []

        async def look(plan: Plan) -> Outcome:
            seen.extend(await eds.why("face"))
            return Outcome()

        city.carry = look
        eds.happened(near("b"))
        await eds.settled()
        assert [each.chosen["face"] for each in seen] == ["b"] and seen[0].outcome is None


@pytest.mark.parametrize(
    ("event", "concerned"),
    [
        (near("b"), {"faces"}),
        (near("b", user="bob"), set()),
        (AgentAsked("face", "too slow"), {"faces"}),
        (AgentAsked("stranger", "too slow"), set()),
        (AgentTold("other", "frames-dropped", 12.0), {"other"}),
        (LinkChanged("c", "a", "rtt_ms", 90.0), {"faces"}),
        (LinkChanged("c", "b", "rtt_ms", 90.0), {"other"}),
        (Overload("a", "memory"), {"faces"}),
        (HostRevoked("d", "it lost its key"), set()),
        (HostRevoked("b", "it lost its key"), {"other"}),
        (HostSuspected("a", "it sent what it must not"), {"faces"}),
        (HostDraining("a", "repair"), {"faces"}),
        (HostOffline("b", 5.0), {"other"}),
        (HostJoined("e"), {"faces", "other"}),
        (HostOpened("e"), {"faces", "other"}),
    ],
    ids=lambda each: each.why if not isinstance(each, set) else "",
)
async def test_an_event_concerns_the_groups_that_it_can_change(event: Event, concerned: set[str]) -> None:
    city = City()
    city.where["other"] = "b"
    city.groups = [FACES, Group("other", ("other",))]
    async with city.eds(Falcon(minimum_stay=1e9)) as eds:
        eds.happened(event)
        await eds.settled()
        found = {name: await eds.why(agent) for name, agent in (("faces", "face"), ("other", "other"))}
        assert {name for name, each in found.items() if each} == concerned
        assert all(each[0].why == event.why for each in found.values() if each)
        assert city.snapshots == (1 if concerned else 0)  # both groups are decided about as one


async def test_an_event_may_be_for_some_groups_alone() -> None:
    city = City()
    async with city.eds() as eds:
        eds.happened(HostJoined("e"), whom=("other",))
        await eds.settled()
        assert await eds.why("face") == []
        eds.happened(HostJoined("e"), whom=("faces",))
        await eds.settled()
        assert len(await eds.why("face")) == 1


async def test_events_that_come_together_give_one_decision() -> None:
    city = City()
    async with city.eds() as eds:
        for event in (near("b"), near("c"), Overload("a", "memory")):
            eds.happened(event)
        await eds.settled()
        (explanation,) = await eds.why("face")
        assert explanation.why == "ada moved; a runs short of memory"
        assert city.where["face"] == "c"  # the newest of what the user's access point measured


async def test_an_event_during_a_move_is_decided_after_it_and_moves_never_overlap() -> None:
    city = City()
    moving, may_end = asyncio.Event(), asyncio.Event()
    running = 0

    async def slow(plan: Plan) -> Outcome:
        nonlocal running
        running += 1
        assert running == 1
        moving.set()
        await may_end.wait()
        running -= 1
        return await city.succeed(plan)

    async with city.eds() as eds:
        city.carry = slow
        eds.happened(near("b"))
        await moving.wait()
        eds.happened(near("c"))
        may_end.set()
        await eds.settled()
        assert city.where["face"] == "c" and len(city.plans) == 2


@pytest.mark.parametrize("error", [Unavailable("b is busy", 1.0), PeerFault("b", "refused"), Misuse("not so")])
async def test_a_move_that_fails_is_told_and_lowers_the_experience(error: Exception) -> None:
    city = City()

    async def fail(plan: Plan) -> Outcome:
        raise error

    async with city.eds() as eds:
        city.carry = fail
        eds.happened(near("b"))
        await eds.settled()
        (failed,) = await eds.why("face")
        assert failed.outcome == Outcome({"user": str(error), "face": str(error)})
        assert city.where["face"] == "a"
        newest = await decided(eds, AgentAsked("face", "again"))
        experience = {each["host"]: each["experience"] for each in newest.inputs["hosts"]}
        once = value(after(Record(), came=False, now=NOON + 60), NOON + 120)
        assert experience["b"] == pytest.approx(once) and once < 0.5 and experience["c"] == 0.5


async def test_experience_is_kept_for_each_destination_across_a_restart() -> None:
    city = City()
    records = {"a": Record(), "b": Record()}
    for name in "bab":
        async with city.eds() as eds:
            await decided(eds, near(name))
            records[name] = after(records[name], came=True, now=NOON + 60 * city.minutes)
    async with city.eds() as eds:
        look = await decided(eds, AgentAsked("face", "look"))
    found = {each["host"]: each["experience"] for each in look.inputs["hosts"]}
    expected = {name: value(record, look.at) for name, record in records.items()}
    assert {name: found[name] for name in "ab"} == pytest.approx(expected) and found["c"] == 0.5


async def test_a_move_that_took_longer_than_the_link_explains_counts_less() -> None:
    found = []
    for downtime in (1.0, 10_000.0):
        city = City()

        async def slow(plan: Plan, city: City = city, downtime: float = downtime) -> Outcome:
            city.where.update(plan.hosts)
            return Outcome(downtime_ms={"user": 1.0, "face": downtime})

        city.carry = slow
        async with city.eds() as eds:
            await decided(eds, near("b"))
            look = await decided(eds, AgentAsked("face", "look"))
        found.append({each["host"]: each["experience"] for each in look.inputs["hosts"]}["b"])
    assert found[0] > found[1]


async def test_a_large_state_may_take_as_long_as_it_must() -> None:
    found = []
    for size in (0, 3 << 20):
        city = City()

        async def slow(plan: Plan, city: City = city, size: int = size) -> Outcome:
            city.where.update(plan.hosts)
            return Outcome(downtime_ms=dict.fromkeys(plan.hosts, 500.0), sizes=dict.fromkeys(plan.hosts, size))

        city.carry = slow
        async with city.eds() as eds:
            await decided(eds, near("b"))
            look = await decided(eds, AgentAsked("face", "look"))
        found.append({each["host"]: each["experience"] for each in look.inputs["hosts"]}["b"])
    in_time = value(after(Record(), came=True, now=NOON + 60), NOON + 120)
    assert found[0] < found[1] == pytest.approx(in_time)  # 6 MiB at 100 Mbit/s


async def test_an_agent_that_failed_to_move_alone_counts_against_its_destination() -> None:
    city = City()

    async def half(plan: Plan) -> Outcome:
        return Outcome({"face": "it cannot be pickled"})

    async with city.eds() as eds:
        city.carry = half
        eds.happened(near("b"))
        await eds.settled()
        assert (await eds.why("user"))[0].outcome == Outcome({"face": "it cannot be pickled"})
        explanation = await decided(eds, AgentAsked("face", "look"))
        assert {each["host"]: each["experience"] for each in explanation.inputs["hosts"]}["b"] < 0.5


async def test_what_is_no_fault_of_the_destination_does_not_count_against_it() -> None:
    city = City()
    city.step = 0.1

    async def veto(plan: Plan) -> Outcome:
        return Outcome(dict.fromkeys(plan.hosts, "it likes it here"), excused=tuple(plan.hosts))

    async with city.eds() as eds:
        city.carry = veto
        await decided(eds, near("b"))
        explanation = await decided(eds, AgentAsked("face", "look"))
        assert {each["host"]: each["experience"] for each in explanation.inputs["hosts"]}["b"] == 0.5
        assert [(each["group"], each["host"]) for each in explanation.inputs["refused"]] == [("faces", "b")]


async def test_a_decision_that_is_asked_for_waits_for_the_moves_of_its_agents_and_gives_the_outcome() -> None:
    city = City()
    moving, may_end = asyncio.Event(), asyncio.Event()

    async def slow(plan: Plan) -> Outcome:
        moving.set()
        await may_end.wait()
        return await city.succeed(plan)

    async with city.eds() as eds:
        city.carry = slow
        eds.happened(near("b"))
        await moving.wait()
        asked = asyncio.create_task(eds.decide(Group("only face", ("face",)), "a drain"))
        await asyncio.sleep(0)
        assert city.snapshots == 1
        may_end.set()
        found = await asked
        assert (found.why, found.groups, found.present) == ("a drain", ("only face",), {"face": "b"})
        city.groups = []
        await eds.decide(FACES, "a drain")  # also for a group that is decided about elsewhere
        assert (await eds.why("user"))[0].why == "a drain" and not eds._pending


async def test_what_the_minimum_stay_held_back_is_decided_again_when_it_is_over() -> None:
    city = City()
    city.since = NOON + 60 - 0.999  # held for one millisecond more at the first decision, free at the next
    async with city.eds(Falcon(minimum_stay=1.0)) as eds:
        eds.happened(near("b"))
        await eds.settled()
        assert city.where["face"] == "a"
        async with asyncio.timeout(10):
            while city.where["face"] != "b":
                await asyncio.sleep(0.001)
                await eds.settled()
        assert (await eds.why("face"))[0].why == "the minimum stay is over"


async def test_a_group_that_nothing_held_back_is_not_decided_about_again_for_others() -> None:
    city = City()
    city.where = {"user": "a", "other": "a"}
    city.groups = [Group("one", ("user",), (), "ada"), Group("two", ("other",), (), "ada")]
    city.came = {"user": NOON + 60}
    async with city.eds(Falcon(minimum_stay=600.0)) as eds:
        eds.happened(near("b"))
        await eds.settled()
        assert city.where == {"user": "a", "other": "b"} and eds.load()["timers"] == 1


async def test_a_group_that_left_meanwhile_is_not_decided_for() -> None:
    city = City()
    async with city.eds() as eds:
        eds.happened(near("b"))
        city.groups = []
        await eds.settled()
        assert city.snapshots == 0


async def test_a_snapshot_that_is_not_to_be_had_does_not_stop_the_service() -> None:
    city = City()
    async with city.eds() as eds:
        true_snapshot = city.snapshot_of

        async def broken(groups: Sequence[Group]) -> Snapshot:
            raise Unavailable("the replica is catching up", 1.0)

        eds._snapshot_of = broken
        eds.happened(near("b"))
        await eds.settled()
        assert await eds.why("face") == []
        eds._snapshot_of = true_snapshot
        eds.happened(near("b"))
        await eds.settled()
        assert city.where["face"] == "b"


async def test_rules_that_nothing_keeps_leave_everybody_and_say_so() -> None:
    city = City()
    city.where = {"user": "a", "face": "b"}
    city.since = NOON + 60 * 100
    async with city.eds() as eds:  # the minimum stay holds both, apart; the rule wants them together
        explanation = await decided(eds, AgentAsked("face", "look"))
        assert list(explanation.stuck) == ["faces"] and explanation.chosen == explanation.present == city.where
        assert "no plan keeps all rules" in explanation.remark and "must be together" in explanation.remark
        assert city.plans == []


async def test_closing_cancels_what_runs() -> None:
    city = City()
    started = city.hang()
    async with city.eds() as eds:
        eds.happened(near("b"))
        await started.wait()
        await eds.close()
        await eds.settled()  # returns at once: nothing is left
        city.groups = [Group("other", ("user",))]
        eds.happened(Overload("a", "memory"))
        await eds.close()  # before the task had its first turn
        await eds.settled()


async def test_decisions_about_nobody_are_misuse() -> None:
    async with City().eds() as eds:
        with pytest.raises(Misuse):
            await eds.why("")


ACCESS = {"host": "a", "rtt_ms": 1.0, "loss": 0.0, "source": "measured"}


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "user-moved", "user": "ada", "access": [{**ACCESS, "rtt_ms": -1.0}]},
        {"type": "user-moved", "user": "ada", "access": [{**ACCESS, "source": "guessed"}]},
        {"type": "user-moved", "user": "ada", "access": [ACCESS, ACCESS]},
        {"type": "user-moved", "user": "ada", "access": [ACCESS], "position": [1.0, math.nan]},
        {"type": "user-moved", "user": "ada", "access": [ACCESS], "position": [1.0]},
        {"type": "overload", "host": "a"},
        {"type": "earthquake"},
    ],
)
def test_an_event_from_outside_that_cannot_be_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(PeerFault, match="ada's client"):
        codec.decode(codec.encode(bad), Event, "ada's client")  # type: ignore[arg-type]


def test_a_snapshot_is_assembled_from_what_tms_and_rms_answer() -> None:
    verdicts = {"b": Verdict("b", False, "gone", 5), "a": Verdict("a", True, "trusted", 5)}
    adverts = {"a": Advert(resources(cpu_free=0.25), task_weight=3.0), "unnamed": Advert(resources())}
    links = {("b", "a"): LinkMeasure(2.0, 0.0), ("a", "b"): LinkMeasure(1.0, 0.5)}
    residents = {"user": Resident("user", "a", 1.0), "face": Resident("face", "a", 2.0)}
    snapshot = assemble((FACES,), NOON, verdicts, adverts, links, residents)
    assert [each.host for each in snapshot.hosts] == ["a", "b"]  # only hosts that the ledger names
    a, b = snapshot.hosts
    assert a.resources == resources(cpu_free=0.25) and a.task_weight == 3.0
    assert b.resources is None and not b.verdict.trusted
    assert [(link.source, link.rtt_ms, link.loss) for link in snapshot.links] == [("a", 1.0, 0.5), ("b", 2.0, 0.0)]
    assert [each.agent for each in snapshot.residents] == ["face", "user"]
