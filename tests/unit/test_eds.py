"""The edge of the EDS: from an event to a plan that is carried out, an explanation that is kept, and experience."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest

from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable
from services.dms.memory import MemoryStore
from services.eds import service
from services.eds.events import AgentAsked, Event, HostJoined, HostRevoked, Overload, UserMoved
from services.eds.explain import Outcome
from services.eds.plan import Plan
from services.eds.policies.falcon import Falcon
from services.eds.rules import Atomic, Group
from services.eds.service import Eds
from services.eds.snapshot import Access, Resident, Snapshot, assemble
from services.rms.catalogue import Advert
from services.rms.link_probe import LinkMeasure
from services.tms.verdicts import Verdict
from tests.helpers.edge_scenes import NOON, host, mesh, resources

FACES = Group("faces", ("user", "face"), (Atomic(("user", "face")),), "ada")
REVOKED = "delta is revoked since height 42: it lost its key"


class City:
    """Four hosts, one of them revoked, and the group "faces" on the first; plans are carried out by a script."""

    def __init__(self) -> None:
        self.where = dict.fromkeys(FACES.agents, "a")
        self.revoked = {"d": REVOKED}
        self.groups = [FACES]
        self.plans: list[Plan] = []
        self.snapshots = 0
        self.minutes = 0
        self.carry: Callable[[Plan], Awaitable[Outcome]] = self.succeed
        self.since = NOON - 1000

    async def snapshot_of(self, group: Group) -> Snapshot:
        self.snapshots += 1
        self.minutes += 1
        return Snapshot(
            (group,),
            NOON + 60 * self.minutes,
            tuple(host(name, revoked=self.revoked.get(name), task_weight=2.0) for name in "abcd"),
            mesh("abcd"),
            tuple(Resident(agent, self.where[agent], self.since) for agent in group.agents),
        )

    async def carry_out(self, plan: Plan, why: str) -> Outcome:
        self.plans.append(plan)
        return await self.carry(plan)

    async def succeed(self, plan: Plan) -> Outcome:
        self.where.update(plan.hosts)
        return Outcome()

    @asynccontextmanager
    async def eds(self, policy: Falcon | None = None) -> AsyncIterator[Eds]:
        eds = Eds(
            policy or Falcon(),
            self.snapshot_of,
            self.carry_out,
            MemoryStore(),
            groups=lambda: self.groups,
            settle=0.0,
        )
        yield eds
        await eds.close()


def near(name: str, user: str = "ada") -> UserMoved:
    """The user is next to one host and far from the others."""
    return UserMoved(user, tuple(Access(each, 2.0 if each == name else 60.0, 0.0, "emulated") for each in "abcd"))


async def test_the_group_follows_its_user_and_every_step_can_be_explained() -> None:
    city = City()
    async with city.eds() as eds:
        for name in "bcb":
            assert await eds.happened(near(name)) == ("faces",)
            await eds.settled()
            assert city.where == {"user": name, "face": name}
        newest, *older = await eds.why("face")
        assert [each.chosen["face"] for each in (newest, *older)] == ["b", "c", "b"]
        assert newest.present == {"user": "c", "face": "c"} and newest.why == "ada moved"
        assert newest.outcome == Outcome()
        assert {access["source"] for access in newest.inputs["access"]["ada"]} == {"emulated"}
        assert newest.policy["name"] == "Falcon" and newest.policy["settings"]["weights"]["network"] == 0.5
        assert await eds.why("stranger") == []


async def test_a_revoked_host_is_among_the_rejected_with_the_ledgers_reason() -> None:
    city = City()
    async with city.eds() as eds:
        await eds.happened(near("d"))
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
        await eds.happened(near("b"))
        await eds.settled()
        (explanation,) = await eds.why("user")
        rows = [dict(zip(explanation.columns, row, strict=True)) for row in explanation.rows() if row[0] == "user"]
        assert [(row["host"], row["decision"]) for row in rows[:1]] == [("b", "goes")]
        assert {row["host"]: row["decision"] for row in rows[1:]} == {
            "a": "leaves",
            "c": "candidate",
            "d": "rejected",
        }
        assert rows[0]["network"] == f"{1 / 1.1:.2f}" and float(rows[0]["Q"]) > 0


async def test_an_explanation_survives_the_store_unchanged() -> None:
    city = City()
    async with city.eds() as eds:
        made = await eds.decide(FACES, "asked")
        (kept,) = await eds.why("face")
        assert codec.encode(kept) == codec.encode(made)
        assert msgspec.json.encode(kept)  # plain data, for --json


async def test_the_explanation_is_kept_before_the_plan_is_carried_out() -> None:
    city = City()
    async with city.eds() as eds:
        seen = []

        async def look(plan: Plan) -> Outcome:
            seen.extend(await eds.why("face"))
            return Outcome()

        city.carry = look
        await eds.happened(near("b"))
        await eds.settled()
        assert [each.chosen["face"] for each in seen] == ["b"] and seen[0].outcome is None


@pytest.mark.parametrize(
    ("event", "concerned"),
    [
        (near("b"), ("faces",)),
        (near("b", user="bob"), ()),
        (AgentAsked("face", "too slow"), ("faces",)),
        (AgentAsked("stranger", "too slow"), ()),
        (Overload("a", "memory"), ("faces", "other")),
        (HostRevoked("d", "it lost its key"), ("faces", "other")),
        (HostJoined("e"), ("faces", "other")),
    ],
)
async def test_an_event_concerns_the_groups_that_it_can_change(event: Event, concerned: tuple[str, ...]) -> None:
    city = City()
    city.groups = [FACES, Group("other", ("user",))]
    async with city.eds() as eds:
        assert await eds.happened(event) == concerned
        await eds.settled()
        assert city.snapshots == len(concerned)
        for name, group in (("faces", "face"), ("other", "user")):
            if name in concerned:
                assert (await eds.why(group))[0].why == event.why


async def test_events_that_come_together_give_one_decision() -> None:
    city = City()
    async with city.eds() as eds:
        for event in (near("b"), near("c"), Overload("a", "memory")):
            await eds.happened(event)
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
        await eds.happened(near("b"))
        await moving.wait()
        await eds.happened(near("c"))
        asked = asyncio.create_task(eds.decide(FACES, "by hand"))
        may_end.set()
        await asked
        await eds.settled()
        assert city.where["face"] == "c" and len(city.plans) == 2


@pytest.mark.parametrize("error", [Unavailable("b is busy", 1.0), PeerFault("b", "refused"), Misuse("not so")])
async def test_a_move_that_fails_is_told_and_lowers_the_experience(error: Exception) -> None:
    city = City()

    async def fail(plan: Plan) -> Outcome:
        raise error

    async with city.eds() as eds:
        city.carry = fail
        await eds.happened(near("b"))
        await eds.settled()
        (failed,) = await eds.why("face")
        assert failed.outcome == Outcome({"user": str(error), "face": str(error)})
        assert city.where["face"] == "a"
        await eds.decide(FACES, "again")
        newest = (await eds.why("face"))[0]
        experience = {each["host"]: each["experience"] for each in newest.inputs["hosts"]}
        assert experience["b"] == pytest.approx(0.4) and experience["c"] == 0.5


async def test_experience_is_an_exponentially_weighted_mean_for_each_destination() -> None:
    city = City()
    async with city.eds() as eds:
        expected = {"a": 0.5, "b": 0.5}
        for name in "bab":
            await eds.happened(near(name))
            await eds.settled()
            expected[name] += service.NEW_OUTCOME * (1 - expected[name])
        await eds.decide(FACES, "look")
        hosts = (await eds.why("face"))[0].inputs["hosts"]
        found = {each["host"]: each["experience"] for each in hosts}
        assert {name: found[name] for name in expected} == pytest.approx(expected)


async def test_an_agent_that_failed_to_move_alone_counts_against_its_destination() -> None:
    city = City()

    async def half(plan: Plan) -> Outcome:
        return Outcome({"face": "it cannot be pickled"})

    async with city.eds() as eds:
        city.carry = half
        await eds.happened(near("b"))
        await eds.settled()
        assert (await eds.why("user"))[0].outcome == Outcome({"face": "it cannot be pickled"})
        explanation = await eds.decide(FACES, "look")
        assert {each["host"]: each["experience"] for each in explanation.inputs["hosts"]}["b"] == pytest.approx(0.4)


async def test_what_the_minimum_stay_held_back_is_decided_again_when_it_is_over() -> None:
    city = City()
    city.since = NOON + 60 - 0.999  # held for one millisecond more at the first decision, free at the next
    async with city.eds(Falcon(minimum_stay=1.0)) as eds:
        await eds.happened(near("b"))
        await eds.settled()
        assert city.where["face"] == "a"
        async with asyncio.timeout(10):
            while city.where["face"] != "b":
                await asyncio.sleep(0.001)
                await eds.settled()
        assert (await eds.why("face"))[0].why == "the minimum stay is over"


async def test_a_group_that_left_meanwhile_is_not_decided_for() -> None:
    city = City()
    async with city.eds() as eds:
        await eds.happened(near("b"))
        city.groups = []
        await eds.settled()
        assert city.snapshots == 0


async def test_a_snapshot_that_is_not_to_be_had_does_not_stop_the_service() -> None:
    city = City()
    async with city.eds() as eds:
        true_snapshot = city.snapshot_of

        async def broken(group: Group) -> Snapshot:
            raise Unavailable("the replica is catching up", 1.0)

        eds._snapshot_of = broken
        await eds.happened(near("b"))
        await eds.settled()
        with pytest.raises(Unavailable):
            await eds.decide(FACES, "by hand")
        eds._snapshot_of = true_snapshot
        await eds.happened(near("b"))
        await eds.settled()
        assert city.where["face"] == "b"


async def test_rules_that_nothing_keeps_leave_everybody_and_say_so() -> None:
    city = City()
    city.where = {"user": "a", "face": "b"}
    city.since = NOON + 60 * 100
    async with city.eds() as eds:  # the minimum stay holds both, apart; the rule wants them together
        explanation = await eds.decide(FACES, "look")
        assert list(explanation.stuck) == ["faces"] and explanation.chosen == explanation.present == city.where
        assert "no plan keeps all rules" in explanation.remark and "must be together" in explanation.remark
        assert city.plans == []


async def test_closing_cancels_what_runs() -> None:
    city = City()
    started = asyncio.Event()

    async def forever(plan: Plan) -> Outcome:
        started.set()
        await asyncio.Event().wait()
        return Outcome()

    city.carry = forever
    async with city.eds() as eds:
        await eds.happened(near("b"))
        await started.wait()
        await eds.close()
        await eds.settled()  # returns at once: nothing is left
        city.groups = [Group("other", ("user",))]
        await eds.happened(Overload("a", "memory"))
        await eds.close()  # before the task had its first turn
        await eds.settled()


async def test_access_is_remembered_for_a_bounded_number_of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_USERS", 3)
    async with City().eds() as eds:
        for user in ("ada", "bob", "cyd", "ada", "dan"):
            await eds.happened(near("b", user))
        assert list(eds._access) == ["cyd", "ada", "dan"]


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
