"""Where agents are believed to be: who is believed, and that a host which lies does not keep mail for ever."""

import random
from functools import cache

import pytest
from msgspec.structs import replace

from agentplatform import passes
from agentplatform.parcel.manifest import MAX_EPOCH
from agentplatform.passes import MAX_TRAIL, Pass
from agentplatform.whereabouts import MAX_FROM_ONE_HOST, Located, Whereabouts
from ledger.errors import Misuse
from tests.helpers.linked_hosts import CHAIN, identity
from tests.helpers.mail_desk import AGENT, OTHER

HOSTS = ("north", "east", "south", "west", "mallory", "judas")
KEYS = {host: identity(host).public for host in HOSTS}
AUTHENTIC = passes.authentic(CHAIN, KEYS.get)


@cache
def went(epoch: int, source: str, destination: str, signer: str | None = None, agent: str = AGENT) -> Pass:
    return passes.sign(CHAIN, agent, epoch, source, destination, identity(signer or source))


def journey(*hosts: str, since: int = 0) -> tuple[Pass, ...]:
    """The trail of an agent that went from host to host."""
    return tuple(went(since + at, *hosts[at - 1 : at + 1]) for at in range(1, len(hosts)))


def on(host: str, epoch: int, *trail: Pass) -> Located:
    return Located(AGENT, epoch, host, None, trail[-MAX_TRAIL:])


def knowing(*located: Located) -> Whereabouts:
    known = Whereabouts(AUTHENTIC)
    for each in located:
        known.learn(each)
    return known


def heard(teller: str, located: Located) -> Whereabouts:
    known = Whereabouts(AUTHENTIC)
    assert known.hear(teller, located)
    return known


def test_names_resolve_to_one_agent_or_say_why_not() -> None:
    known = knowing(
        Located(AGENT, 1, "north"), Located("counter-0000000000000003", 1, "east"), Located(OTHER, 1, "east")
    )
    assert known.resolve("other") == OTHER
    assert known.resolve("counter-0000000000000001") == AGENT
    named = r"2 agents are called 'counter': counter-0+1 \(on north\), counter-0+3 \(on east\); give the id"
    for resolve in (known.resolve, known.named):
        with pytest.raises(Misuse, match=named):
            resolve("counter")
    with pytest.raises(Misuse, match="may be any of"):
        known.resolve("counter-0")
    assert known.named("nobody") is None and known.named("oth") is None and known.resolve("oth") == OTHER
    with pytest.raises(Misuse, match="no agent 'nobody'"):
        known.resolve("nobody")
    with pytest.raises(Misuse, match="name an agent"):
        known.resolve("")


@pytest.mark.parametrize("agent", ["counter", "Counter-0000000000000001", "counter-1", "", "x" * 200])
def test_nobody_takes_a_name_for_an_id(agent: str) -> None:
    """Else a host could announce an agent called "counter", and get the mail of everybody's counter."""
    with pytest.raises(ValueError, match="no agent's id"):
        Located(agent, 1, "north")


def test_what_this_host_knows_itself_is_replaced_by_a_later_epoch_and_by_an_end() -> None:
    known = knowing(on("north", 2))
    assert not known.learn(on("east", 1))
    assert known.learn(replace(on("north", 2), ended=1))
    assert not known.learn(on("north", 2))
    assert known.host_of(AGENT) == "" and known.alive() == []


def test_signed_passes_lead_over_several_hops_whoever_shows_them() -> None:
    known = knowing(on("north", 3))
    trail = journey("north", "east", "south", "west", since=3)
    assert known.hear("mallory", on("west", 6, *trail))
    assert known.host_of(AGENT) == "west"
    assert known.believed(AGENT) == on("west", 6, *trail), "it can show them to others"


TRAILS = {
    "no pass": (),
    "a gap": (went(4, "north", "east"), went(6, "south", "mallory")),
    "another source": (went(4, "south", "east"), went(5, "east", "south"), went(6, "south", "mallory")),
    "not from the place that we know": journey("west", "south", "mallory", since=4),
    "a step to another host": (went(4, "north", "east"), went(5, "south", "east"), went(6, "east", "mallory")),
    "signed by who gains": (
        went(4, "north", "east", "mallory"),
        went(5, "east", "south", "mallory"),
        went(6, "south", "mallory", "mallory"),
    ),
    "of another agent": tuple(went(epoch, "north", "mallory", agent=OTHER) for epoch in (4, 5, 6)),
    "to another host": journey("north", "east", "south", "west", since=3),
    "by a host that is not registered": (*journey("north", "east", "gone", since=3), went(6, "gone", "mallory")),
}


@pytest.mark.parametrize("trail", TRAILS.values(), ids=TRAILS)
def test_a_host_that_lies_does_not_get_the_mail_of_an_agent_whose_place_is_known(trail: tuple[Pass, ...]) -> None:
    known = knowing(on("north", 3))
    for epoch in (6, MAX_EPOCH):
        known.hear("mallory", on("mallory", epoch, *trail))
        for _ in range(5):
            known.unanswered(AGENT)  # however slow the agent is
            place = known.place(AGENT)
            assert place is not None and place.host == "north"


def test_the_check_above_can_fail() -> None:
    trusting = Whereabouts(lambda each: True)
    trusting.learn(on("north", 3))
    trusting.hear("mallory", on("mallory", 6, *TRAILS["signed by who gains"]))
    assert trusting.host_of(AGENT) == "mallory"


def test_the_host_where_it_is_believed_to_be_says_where_it_went() -> None:
    known = knowing(on("north", 3))
    assert not known.hear("south", on("east", 4)), "hearsay"
    assert known.hear("north", on("east", 4)) and known.host_of(AGENT) == "east"
    assert known.hear("east", replace(on("east", 4), ended=1)) and known.host_of(AGENT) == ""


def test_a_former_host_that_lies_does_not_keep_the_mail() -> None:
    """It had the agent once, so its word counts; signed passes count more, however late its epoch is."""
    known = knowing(on("mallory", 3))
    assert known.hear("mallory", on("west", MAX_EPOCH)) and known.host_of(AGENT) == "west"
    assert known.hear("south", on("south", 5, *journey("mallory", "east", "south", since=3)))
    assert known.host_of(AGENT) == "south"
    assert not known.hear("mallory", on("west", MAX_EPOCH)), "it has no say any more"


def test_without_passes_mail_that_has_no_answer_is_tried_at_all_who_claim_the_agent() -> None:
    """Of an agent that was never heard of, and of one that went further than a trail reaches."""
    first = heard("mallory", on("mallory", MAX_EPOCH))
    former = knowing(on("mallory", 3))
    former.hear("mallory", on("mallory", MAX_EPOCH))
    for known in (first, former):
        known.hear("north", on("north", 50))
        tried = []
        for epoch in range(6):
            tried.append(known.place(AGENT).host)  # type: ignore[union-attr]
            known.hear("mallory", on("mallory", MAX_EPOCH - 5 + epoch))  # it goes on lying
            known.unanswered(AGENT)
        assert tried.count("north") == 3, tried


def test_what_nobody_can_prove_is_not_said_again() -> None:
    known = knowing(on("north", 3))
    known.hear("mallory", on("mallory", 9))
    assert known.believed(AGENT) == on("north", 3)
    assert known.doubtful(AGENT) == 3, "passes are asked for"
    known.hear("east", on("east", 4, *journey("north", "east", since=3)))
    assert known.doubtful(AGENT) == 4 and known.host_of(AGENT) == "east"
    known.hear("east", on("south", 10, *journey("east", "south", "east", "south", "east", "west", "south", since=4)))
    assert known.host_of(AGENT) == "south" and known.doubtful(AGENT) is None


def test_one_host_cannot_fill_the_memory_with_agents_that_it_invents(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_FROM_ONE_HOST >= 10_000
    monkeypatch.setattr("agentplatform.whereabouts.MAX_FROM_ONE_HOST", 3)
    known = Whereabouts(AUTHENTIC)
    invented = [Located(f"x-{number:016x}", 0, "mallory") for number in range(5)]
    assert [known.hear("mallory", each) for each in invented] == [True, True, True, False, False]
    assert known.hear("north", on("north", 0))


def test_nor_with_passes_that_prove_nothing() -> None:
    for names in ((AGENT, "x" * 64, "mallory"), (AGENT, "east", "x" * 64), ("x" * 64, "east", "mallory")):
        with pytest.raises(ValueError, match="at most 63 characters"):
            Pass(names[0], 1, *names[1:], bytes(64))
    known = heard("mallory", on("mallory", 5, *journey("north", "east", "south", "west", "mallory", since=1)))
    assert len(known.place(AGENT).trail) == 1  # type: ignore[union-attr]


def test_a_pass_to_the_host_itself_is_none() -> None:
    """Else who had an agent last, as far as others know, would lead them further than its true trail, alone."""
    with pytest.raises(ValueError, match="from one host to another"):
        Pass(AGENT, 4, "mallory", "mallory", bytes(64))


def test_who_hands_an_agent_over_twice_does_not_lead_mail_astray_for_good() -> None:
    known = knowing(on("mallory", 5))
    true, lie = on("south", 6, went(6, "mallory", "south")), on("west", 6, went(6, "mallory", "west"))
    assert known.hear("mallory", lie) and known.host_of(AGENT) == "west"
    assert not known.hear("east", true), "hearsay"
    assert known.hear("west", true) and known.vouched(AGENT, "south") == 6, "it is not with west, and west says so"
    assert not known.hear("mallory", lie) and not known.hear("west", lie), "neither has a say any more"


def test_of_an_agent_never_heard_of_the_host_that_handed_it_over_counts_for_more_than_the_first_word() -> None:
    known = heard("mallory", on("mallory", MAX_EPOCH))
    for lie in (on("west", 9, went(9, "east", "west", "mallory")), on("west", 9, went(8, "east", "west"))):
        assert known.hear("west", lie) and known.vouched(AGENT, "west") is None, "a claim"
    assert known.hear("south", on("south", 5, went(5, "north", "south")))
    assert known.vouched(AGENT, "south") == 0 and known.vouched(AGENT, "mallory") is None, "heard, and not for sure"
    known.hear("mallory", on("mallory", 4, went(4, "east", "mallory")))  # it had the agent once
    assert known.host_of(AGENT) == "south"


def test_a_trail_is_as_long_as_is_allowed_and_has_no_gap() -> None:
    there_and_back = journey(*["north", "east"] * MAX_TRAIL)
    assert passes.joined(there_and_back[:3], there_and_back[3:]) == there_and_back[-MAX_TRAIL:]
    assert passes.joined(there_and_back[:3], there_and_back[5:7]) == there_and_back[5:7]
    with pytest.raises(ValueError, match="too long"):
        Located(AGENT, 1, "north", None, there_and_back)


def agent_that_travels(known: Whereabouts, chance: random.Random) -> str:
    """Two liars say what they like while the agent travels between honest hosts; in the end each of those has said
    where it went from there. Returns where it is."""
    route = ["north"]
    while len(route) < chance.randrange(2, 12):
        route.append(chance.choice([host for host in HOSTS[1:4] if host != route[-1]]))
    trail = journey(*route)
    known.learn(on("north", 0))
    for _ in range(20):
        epoch, at = chance.randrange(1, 30), chance.randrange(len(route))
        if chance.random() < 0.5:
            made_up = journey(*["mallory", "judas"] * MAX_TRAIL, since=max(0, epoch - 2 * MAX_TRAIL + 1))
            place = on(chance.choice(["mallory", "judas", route[at]]), epoch, *made_up)
            known.hear(chance.choice(["mallory", "judas"]), replace(place, ended=chance.choice([None, 7])))
        else:
            known.hear(chance.choice(HOSTS), on(route[at], at, *trail[:at]))
        known.unanswered(AGENT)
    for at, step in enumerate(trail):
        known.hear(route[at], on(route[at + 1], at + 1, step))
    return route[-1]


def test_whatever_liars_say_mail_comes_to_where_the_agent_is() -> None:
    for seed in range(150):
        known = Whereabouts(AUTHENTIC)
        home = agent_that_travels(known, random.Random(seed))  # noqa: S311  drawn again from its seed
        place = known.place(AGENT)
        assert place is not None and (place.host, place.ended) == (home, None), f"seed {seed}: {place}, not {home}"


class Credulous(Whereabouts):
    """Believes the latest epoch, whoever names it."""

    def hear(self, teller: str, located: Located) -> bool:
        return self.learn(located)


def test_the_walk_above_can_fail() -> None:
    known = Credulous(AUTHENTIC)
    assert agent_that_travels(known, random.Random(1)) != known.host_of(AGENT)  # noqa: S311
