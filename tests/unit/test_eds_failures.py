"""The EDS when moves are refused: the host scores less, another candidate follows, and nothing goes on for ever."""

import asyncio

import pytest
from msgspec.structs import replace

from ledger.errors import Unavailable
from services.eds import whatif
from services.eds.events import AgentAsked
from services.eds.explain import Outcome
from services.eds.offers import Candidate, Offers
from services.eds.plan import Plan
from services.eds.policies.falcon import Falcon
from services.eds.refusals import LASTS_S, LOWERED, Refusals, lowered
from services.eds.rules import Exclusion, Group
from services.eds.weights import Terms
from tests.helpers.city import City, decided, near
from tests.helpers.edge_scenes import NOON, host, scene


def refusing(city: City, *hosts: str) -> None:
    async def carry(plan: Plan) -> Outcome:
        failed = {move.agent: f"{move.destination} is full" for move in plan.moves if move.destination in hosts}
        city.where.update({agent: at for agent, at in plan.hosts.items() if agent not in failed})
        return Outcome(failed)

    city.carry = carry


async def test_another_candidate_follows_a_refusal_at_once_and_each_attempt_is_explained() -> None:
    city = City()
    city.step = 0.1
    city.where = dict.fromkeys(city.where, "d")  # which is revoked: staying is out of the question
    refusing(city, "b")
    async with city.eds(attempts=3) as eds:
        await decided(eds, near("b"))
        second, first = await eds.why("face")
    assert (first.chosen["face"], second.chosen["face"]) == ("b", "a") and city.where == {"user": "a", "face": "a"}
    assert first.ending == "face did not go: b is full; user did not go: b is full" and second.ending == "all came"
    assert (second.follows, first.attempt, second.attempt) == (first.decision, 1, 2)
    assert second.why == "ada moved; once more, for user did not go to b: b is full"
    (refused,) = [place for place in second.candidates if (place.agent, place.host) == ("face", "b")]
    (before,) = [place for place in first.candidates if (place.agent, place.host) == ("face", "b")]
    assert "a move there failed" in refused.note and refused.score < before.score * LOWERED
    assert whatif.decide(second.snapshot(), Falcon(), second.why).chosen == second.chosen  # the picture has it all


async def test_a_host_that_refuses_everything_gets_no_more_attempts_than_are_allowed() -> None:
    city = City()
    city.step = 0.1
    refusing(city, *"abcd")
    async with city.eds(attempts=3) as eds:
        await decided(eds, near("b"))
        assert len(city.plans) <= 3 and set(city.where.values()) == {"a"}
        asked = len(city.plans)
        for number in range(20):
            await decided(eds, AgentAsked("face", f"again, {number}"))
        assert len(city.plans) <= asked + 20 * 3
        assert (await eds.why("face"))[0].chosen["face"] == "a"  # by now it scores less than staying


async def test_the_attempts_of_an_event_that_all_fail_end() -> None:
    city = City()
    city.step = 0.1
    city.where = dict.fromkeys(city.where, "d")  # revoked: each decision wants to leave it
    refusing(city, *"abc")
    async with city.eds(attempts=3) as eds:
        await decided(eds, near("b"))
        assert len(city.plans) == 3 and len(await eds.why("face")) == 3


async def test_nobody_is_moved_twice_for_one_event() -> None:
    city = City()
    city.step = 0.1
    city.where = {"user": "d", "face": "d"}
    city.groups = [Group("faces", ("user", "face"), (Exclusion(("user", "face")),), "ada")]
    tried: list[dict[str, str]] = []

    async def one_comes(plan: Plan) -> Outcome:
        tried.append({move.agent: move.destination for move in plan.moves})
        if len(tried) == 1:
            city.where["user"] = plan.hosts["user"]
            return Outcome({"face": "it was too late"})
        return await city.succeed(plan)

    city.carry = one_comes
    async with city.eds(Falcon(minimum_stay=0.0, gain=1.0), attempts=3) as eds:
        await decided(eds, near("b"))
        newest = (await eds.why("user"))[0]
    assert [set(each) for each in tried] == [{"user", "face"}, {"face"}]
    assert {each.reason for each in newest.rejected if each.agent == "user" and each.host != "d"} == {
        "it has moved for this already"
    }


async def test_groups_whose_moves_did_not_fail_are_not_decided_about_again() -> None:
    city = City()
    city.step = 0.1
    city.where = {"user": "a", "other": "a"}
    city.groups = [Group("one", ("user",), (), "ada"), Group("two", ("other",), (), "ada")]

    async def half(plan: Plan) -> Outcome:
        city.where["user"] = plan.hosts["user"]
        return Outcome({"other": "no"}) if "other" in plan.hosts else Outcome()

    city.carry = half
    async with city.eds(attempts=2) as eds:
        eds.happened(near("b"))
        await eds.settled()
        (only,) = await eds.why("user")
        again, first = await eds.why("other")
    assert only.decision == first.decision and only.groups == ("one", "two") and again.groups == ("two",)


async def test_the_moves_of_one_group_do_not_wait_for_those_of_another() -> None:
    city = City()
    city.step = 0.1
    city.where = {"user": "a", "other": "a"}
    city.groups = [Group("one", ("user",), (), "ada"), Group("two", ("other",), (), "bob")]
    may_end, started, other_came = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def carry(plan: Plan) -> Outcome:
        if "user" in plan.hosts:
            started.set()
            await may_end.wait()
        else:
            other_came.set()
        return await city.succeed(plan)

    city.carry = carry
    async with city.eds() as eds:
        eds.happened(near("b"))
        await started.wait()
        eds.happened(near("c", "bob"))
        async with asyncio.timeout(10):
            await other_came.wait()
        assert city.where["user"] == "a"
        may_end.set()
        await eds.settled()
        assert city.where == {"user": "b", "other": "c"}


async def test_what_cannot_be_decided_about_one_group_keeps_no_other_from_it() -> None:
    city = City()
    city.step = 0.1
    city.where = {"user": "a", "other": "a"}
    city.groups = [Group("one", ("user",), (), "ada"), Group("bad", ("other",), (), "ada")]

    class Choosy(Falcon, frozen=True):
        def offers(self, snapshot):  # type: ignore[no-untyped-def]
            if any(group.name == "bad" for group in snapshot.groups):
                raise Unavailable("this group is beyond it")
            return super().offers(snapshot)

    async with city.eds(Choosy()) as eds:
        eds.happened(near("b"))
        await eds.settled()
        assert city.where == {"user": "b", "other": "a"}
        eds.happened(near("c"))
        await eds.settled()
        assert city.where == {"user": "c", "other": "a"}


async def test_an_eds_that_ends_in_the_middle_says_that_no_outcome_is_known() -> None:
    city = City()
    city.step = 0.1
    started = city.hang()
    async with city.eds() as eds:
        eds.happened(near("b"))
        await started.wait()
    city.carry = city.succeed
    async with city.eds() as restarted:
        (lost,) = await restarted.why("face")
        assert lost.outcome is None and lost.ending.startswith("no outcome is known")
        found = await decided(restarted, near("b"))
        assert found.ending == "all came" and city.where["face"] == "b"


TERMS = Terms(0.5, 0.5, 0.5, 0.5)


def offers(**scores: float) -> Offers:
    places = [Candidate("face", name, score, TERMS, 1.0, ("a", name)) for name, score in scores.items()]
    return Offers({"face": tuple(places)})


@pytest.mark.parametrize("score", [2.0, 0.5, -2.0])
def test_a_score_is_lowered_whatever_its_sign_and_more_with_each_refusal(score: float) -> None:
    snapshot = scene([host(name) for name in "abc"], {"face": "a"})
    refusals = Refusals()
    seen = [score]
    for _ in range(3):
        refusals.add("group", "b", NOON - 1)
        after = lowered(offers(a=9.0, b=score), replace(snapshot, refused=refusals.of({"group"}, NOON)))
        (found,) = [place.score for place in after.candidates["face"] if place.host == "b"]
        seen.append(found)
    assert seen == sorted(seen, reverse=True) and len(set(seen)) == 4


def test_a_refusal_counts_for_its_group_and_host_alone_and_for_a_while() -> None:
    snapshot = scene([host(name) for name in "abc"], {"face": "a"})
    refusals = Refusals()
    refusals.add("other", "b", NOON - 1)
    refusals.add("group", "a", NOON - 1)  # where it is: staying is no move
    refusals.add("group", "c", NOON - LASTS_S)
    given = offers(b=3.0, c=2.0, a=1.0)
    for groups in ({"group"}, {"group", "other"}):
        picture = replace(snapshot, refused=refusals.of(groups, NOON))
        assert lowered(given, picture).candidates == given.candidates
    assert [each.host for each in refusals.of({"group", "other"}, NOON)] == ["a", "b"]


def test_refusals_that_are_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.eds.refusals.MAX_REFUSALS", 3)
    refusals = Refusals()
    for name in "abcde":
        refusals.add("group", name, NOON)
    assert [each.host for each in refusals.of({"group"}, NOON)] == ["c", "d", "e"]
