"""What the EDS holds and keeps is bounded, whatever is told to it and however often."""

import asyncio

import pytest

from ledger import codec
from services.dms.memory import MemoryStore
from services.eds import kept, pending, service, users
from services.eds.events import AgentAsked, HostJoined, UserMoved
from services.eds.explain import Outcome
from services.eds.kept import Kept, encoded
from services.eds.pending import MAX_REASONS, Pending
from services.eds.plan import Plan
from services.eds.policies.falcon import Falcon
from services.eds.rules import Group
from services.eds.snapshot import Access
from services.eds.users import Users
from tests.helpers.city import FACES, City, decided, near


async def test_the_first_event_is_decided_about_at_once_and_the_rest_of_a_storm_together() -> None:
    city = City()
    city.where = {"user": "a", "face": "a"}
    async with city.eds(Falcon(minimum_stay=0.0), pause=0.05) as eds:
        for number in range(5_000):
            eds.happened(near("abc"[number % 3]))
            eds.happened(AgentAsked("face", f"storm {number % 50}"))
            if number % 10 == 0:
                await asyncio.sleep(0)
            assert len(eds._events) <= 51 and len(eds._pending) <= 1
        await eds.settled()
        decisions = list(reversed(await eds.why("face", limit=1000)))
        assert decisions[0].why == "ada moved; face asked: storm 0"  # not after a pause
        assert 2 <= len(decisions) <= 50 and len(city.plans) <= len(decisions)
        assert "more" in decisions[-1].why


async def test_events_that_nobody_looks_at_yet_are_bounded_and_those_of_hosts_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(service, "MAX_EVENTS", 10)
    city = City()
    async with city.eds() as eds:
        eds.happened(HostJoined("e"))
        for number in range(100):
            eds.happened(UserMoved(f"user {number}", ()))
            assert len(eds._events) <= 10
        await eds.settled()
        assert (await eds.why("face"))[0].why == "e joined"


async def test_a_timer_for_each_group_is_the_most_there_is() -> None:
    city = City()
    city.since = 1e12  # held for long
    async with city.eds(Falcon(minimum_stay=1.0)) as eds:
        for _ in range(5):
            await decided(eds, near("b"))
            assert len(eds._timers) == 1


async def test_groups_that_are_marked_together_are_decided_about_together_as_far_as_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending, "MAX_AGENTS", 4)
    city = City()
    names = [f"agent-{number}" for number in range(8)]
    city.where = dict.fromkeys(names, "a")
    city.groups = [Group(f"group-{number}", tuple(names[number : number + 2])) for number in range(0, 8, 2)]
    city.groups.append(Group("large", tuple(f"large-{number}" for number in range(6))))
    city.where |= {f"large-{number}": "a" for number in range(6)}
    async with city.eds() as eds:
        eds.happened(HostJoined("e"))
        await eds.settled()
        found = {name: (await eds.why(name))[0] for name in (*names, "large-0")}
    assert [found[name].groups for name in names[::2]] == [("group-0", "group-2")] * 2 + [("group-4", "group-6")] * 2
    assert found["large-0"].groups == ("large",)
    assert len({each.decision for each in found.values()}) == 3 == city.snapshots


def test_no_agent_is_in_two_groups_of_a_batch_or_in_one_that_is_busy() -> None:
    one, two, three = Group("one", ("a", "b")), Group("two", ("b", "c")), Group("three", ("d",))
    waiting = Pending()
    for group in (one, two, three):
        waiting.mark(group.name, "why")
    assert waiting.batch([one, two, three], {})[0] == (one, three)
    assert waiting.batch([one, two, three], {"one": one})[0] == ()
    assert waiting.batch([one, two, three], {})[0] == (two,)


def test_reasons_are_bounded_and_told_once_and_groups_that_left_are_forgotten() -> None:
    waiting = Pending()
    for number in range(1000):
        waiting.mark("one", f"{number % 20} " + "x" * 1000)
    waiting.mark("gone", "why")
    groups, why = waiting.batch([Group("one", ("a",))], {})
    assert groups and len(waiting) == 0
    assert why.count("; ") == MAX_REASONS and why.endswith(f"and {1000 - 50 * MAX_REASONS} more") and len(why) < 2000


async def test_the_newest_decisions_about_an_agent_are_kept_and_the_others_are_gone() -> None:
    city = City()
    async with city.eds(keep=3) as eds:
        for number in range(7):
            await decided(eds, AgentAsked("face", str(number)))
        found = await eds.why("face", limit=100)
        assert [each.why for each in found] == [f"face asked: {number}" for number in (6, 5, 4)]
        assert await city.store.keys(kept.DECISIONS) == sorted(each.decision for each in found)
        assert len(await city.store.keys(kept.ABOUT)) == 6


async def test_a_decision_that_another_agent_still_has_stays() -> None:
    city = City()
    async with city.eds(keep=2) as eds:
        await decided(eds, AgentAsked("face", "both"))
        city.groups = [Group("alone", ("face",))]
        for number in range(5):
            await decided(eds, AgentAsked("face", str(number)))
        assert [each.why for each in await eds.why("user")] == ["face asked: both"]
        assert [each.why for each in await eds.why("face")] == ["face asked: 4", "face asked: 3"]
        assert len(await city.store.keys(kept.DECISIONS)) == 3


async def test_all_decisions_of_a_host_are_bounded_also_those_about_agents_that_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kept, "MAX_DECISIONS", 4)
    city = City()
    for number in range(9):  # also across restarts
        async with city.eds() as eds:
            agent = f"agent-{number}"
            city.where, city.groups = {agent: "a"}, [Group("passing", (agent,))]
            eds.happened(HostJoined("e"))
            await eds.settled()
            assert len(await eds.why(agent)) == 1
    assert len(await city.store.keys(kept.DECISIONS)) == 4
    assert [key.partition("/")[0] for key in await city.store.keys(kept.ABOUT)] == [f"agent-{n}" for n in (5, 6, 7, 8)]


async def test_an_explanation_of_an_earlier_shape_is_skipped() -> None:
    city = City()
    async with city.eds() as eds:
        old = await decided(eds, AgentAsked("face", "old"))
        await city.store.put(kept.DECISIONS, old.decision, codec.encode({"decision": old.decision, "group": "faces"}))
        new = await decided(eds, AgentAsked("face", "new"))
        assert [each.decision for each in await eds.why("face")] == [new.decision]


async def test_an_explanation_that_is_too_large_is_kept_without_its_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MAX_BYTES", 1000)
    monkeypatch.setattr("services.eds.explain.SHORT", 1)
    city = City()
    async with city.eds() as eds:
        found = await decided(eds, near("b"))
        assert found.chosen == {"user": "b", "face": "b"} and found.inputs == {}
        assert {(each.agent, each.host) for each in found.candidates} == {("user", "b"), ("face", "b")}
        assert "too large to be kept whole" in found.remark


async def test_decisions_sort_by_their_time_whatever_the_clock_does() -> None:
    city = City()
    city.step = -1.0
    async with city.eds() as eds:
        names = [(await decided(eds, AgentAsked("face", str(number)))).decision for number in range(5)]
    assert names == sorted(names)


def test_the_users_that_one_host_tells_of_push_out_none_of_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_FROM_ONE", 3)
    known = Users()
    ada = near("b")
    known.moved(ada, "")
    for number in range(100):
        known.moved(near("c", f"invented {number}"), "mallory")
    assert known.access("ada") == ada.access
    assert [number for number in range(100) if known.access(f"invented {number}") is not None] == [97, 98, 99]


def test_the_numbers_that_are_remembered_of_one_hosts_users_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_MEASURED", 10)
    known = Users()
    access = tuple(Access(f"host {number}", 1.0, 0.0, "measured") for number in range(4))
    known.moved(near("b"), "")
    for number in range(100):
        known.moved(UserMoved(f"invented {number % 50}", access), "mallory")
    assert [number for number in range(50) if known.access(f"invented {number}") is not None] == [48, 49]
    assert known.access("ada") is not None and known._measured == {"": len(near("b").access), "mallory": 8}
    known.moved(UserMoved("ada", access), "mallory")
    assert known._measured == {"mallory": 8}


def test_users_are_bounded_in_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "MAX_USERS", 3)
    known = Users()
    for user in ("ada", "bob", "cyd", "ada", "dan"):
        known.moved(near("b", user), f"teller of {user}")
    assert [user for user in ("ada", "bob", "cyd", "dan") if known.access(user) is not None] == ["ada", "cyd", "dan"]


async def test_what_is_kept_is_durable_in_one_write() -> None:
    """Neither an explanation that no agent finds, nor one that is found and is not there."""
    city = City()
    written: list[int] = []

    class Counting(MemoryStore):
        async def write(self, entries=(), documents=(), deleted=()) -> None:  # type: ignore[no-untyped-def]
            written.append(len(documents))
            await super().write(entries, documents, deleted)

    city.store = Counting()
    seen: list[int] = []

    async def look(plan: Plan) -> Outcome:
        seen.extend(written)
        return Outcome()

    city.carry = look
    async with city.eds() as eds:
        found = await decided(eds, near("b"))
    assert seen == [1 + len(FACES.agents)]
    again = Kept(city.store, 5)
    assert [encoded(each) for each in await again.newest("face", 5)] == [encoded(found)]


async def test_a_flood_of_users_whom_nobody_follows_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "LOOK_S", 3600.0)
    city = City()
    looks: list[int] = []
    async with city.eds(pause=3600.0) as eds:
        eds._groups = lambda: looks.append(1) or city.groups  # type: ignore[func-returns-value]
        for number in range(1000):
            eds.happened(UserMoved(f"invented {number}", ()))
            await asyncio.sleep(0)  # one turn of the loop for each
        assert len(looks) == 1 and city.snapshots == 0


async def test_what_comes_while_a_flood_is_not_looked_at_is_not_forgotten() -> None:
    city = City()
    async with city.eds(pause=0.001) as eds:
        eds.happened(UserMoved("invented", ()))
        await asyncio.sleep(0)
        found = await decided(eds, near("b"))
        assert found.why == "ada moved" and city.where["face"] == "b"
