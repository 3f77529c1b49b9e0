"""Heartbeats and leases by themselves: what counts, for how long, and what is refused with whose fault."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import codec, heartbeats
from ledger.certificate import Member, Members
from ledger.errors import PeerFault
from ledger.heartbeats import DOMAIN, DRIFT, LEASE, Ask, Beat, Giver, Heartbeat, Lease, Promise
from tests.helpers.founders import CHAIN, identity

HOSTS = ("north", "east", "south", "west")
MEMBERS = Members(3, tuple(Member(host, identity(host).public) for host in HOSTS))
NONCE, OTHER_NONCE = b"n" * 16, b"o" * 16
SAID = Heartbeat(CHAIN, 3, 5, 1, "home", NONCE)


def beat(member: str, **changes: Any) -> Beat:
    return heartbeats.beat(replace(SAID, **changes), identity(member))


def lease(asked: float = 100.0) -> Lease:
    made = Lease(CHAIN, "home", MEMBERS, 5)
    made.ask(asked, 1, NONCE)
    return made


def take(here: Lease, *members: str, **changes: Any) -> Lease:
    for member in members:
        here.take(member, beat(member, **changes))
    return here


def test_a_quorum_makes_a_lease_from_when_it_was_asked_for() -> None:
    here = take(lease(), "north", "east")
    assert not here.holds(100.0)
    take(here, "south")
    assert here.until == 100 + LEASE and here.holds(100 + LEASE - 0.001) and not here.holds(100 + LEASE)


def test_answers_to_several_questions_make_a_lease_from_the_one_that_a_quorum_has_answered() -> None:
    here = take(lease(), "north", "east", "south")
    here.ask(103.0, 1, OTHER_NONCE)
    take(here, "north", "east", nonce=OTHER_NONCE)
    assert here.until == 100 + LEASE
    take(here, "west", nonce=OTHER_NONCE)
    assert here.until == 103 + LEASE
    take(here, "west")  # its answer to the earlier question comes late
    assert here.until == 103 + LEASE


def test_what_was_asked_a_lease_ago_counts_no_more() -> None:
    here = lease()
    here.ask(100 + LEASE, 1, OTHER_NONCE)
    assert not take(here, "north", "east", "south").holds(100.0)


@pytest.mark.parametrize(
    "worthless",
    [
        [("north", {}), ("east", {}), ("east", {})],
        [("north", {}), ("east", {}), ("upper", {})],  # no member
        [("north", {}), ("east", {}), ("south", {"version": 2})],
        [("north", {}), ("east", {}), ("south", {"version": 4})],
        [("north", {}), ("east", {}), ("south", {"nonce": OTHER_NONCE})],
        [("north", {}), ("east", {}), ("south", {"height": 6})],
    ],
)
def test_what_does_not_count_is_nobodys_fault(worthless: list[tuple[str, dict[str, Any]]]) -> None:
    here = lease()
    for member, changes in worthless:
        take(here, member, **changes)
    assert not here.holds(100.0)
    assert take(here, "south").holds(100.0)


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (beat("south", chain=codec.digest("another")), "of another chain"),
        (beat("south", host="elsewhere"), "for 'elsewhere'"),
        (beat("south", incarnation=0), "an earlier start than before"),
        (Beat(replace(beat("south").signed, body=codec.encode(replace(SAID, height=4)))), "bad signature"),
        (Beat(identity("south").signed("agentplatform/vote", codec.encode(SAID))), "bad signature"),
        (Beat(identity("south").signed(DOMAIN, b"\x90")), "no Heartbeat"),
    ],
)
def test_what_no_honest_member_sends_is_refused(message: Beat, says: str) -> None:
    here = take(lease(), "south", height=6)
    with pytest.raises(PeerFault, match=says) as fault:
        here.take("south", message)
    assert fault.value.peer == "south" and not take(here, "north", "east").holds(100.0)


def test_nobody_answers_in_anothers_name() -> None:
    here = take(lease(), "north", "east")
    here.take("east", beat("south"))  # passed on: a link says who sends
    here.take("south", beat("east"))
    assert not here.holds(100.0)


def test_a_heartbeat_from_above_counts_when_the_chain_has_come_there() -> None:
    """The member may have seen the agent get a new home."""
    here = take(lease(), "north", "east", "south", height=7)
    here.follow(MEMBERS, 6)
    assert not here.holds(100.0)
    here.follow(MEMBERS, 7)
    assert here.until == 100 + LEASE


def test_a_change_of_members_ends_the_counting_and_not_the_lease() -> None:
    here = take(lease(), "north", "east", "south")
    here.ask(105.0, 1, OTHER_NONCE)
    take(here, "north", "east", nonce=OTHER_NONCE)
    here.follow(replace(MEMBERS, version=4), 6)
    take(here, "south", nonce=OTHER_NONCE)
    assert here.until == 100 + LEASE
    take(here, "south", "north", "west", nonce=OTHER_NONCE, version=4)
    assert here.until == 105 + LEASE


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 30)), max_size=30))
def test_it_never_lasts_longer_than_a_quorum_has_been_asked(answers: list[tuple[int, float]]) -> None:
    """Whoever answers what and whenever: at any time, q members were asked less than LEASE ago and answered that."""
    here = Lease(CHAIN, "home", MEMBERS, 5)
    heard: dict[str, float] = {}
    for number, (member, asked) in enumerate(sorted(answers, key=lambda each: each[1])):
        nonce = number.to_bytes(16, "big")
        here.ask(asked, 1, nonce)
        take(here, HOSTS[member], nonce=nonce)
        heard[HOSTS[member]] = asked
        best = sorted(heard.values(), reverse=True)
        assert here.until == (best[2] + LEASE if len(best) >= 3 else float("-inf"))


# The member's side


def test_a_member_waits_from_its_start_its_last_heartbeat_and_the_last_change() -> None:
    giver = Giver(50.0, 3)
    wait = LEASE + DRIFT
    assert giver.wait("home", 50.0) == wait and giver.wait("home", 50 + wait) == 0
    assert giver.give("home", Ask(1, NONCE), 58.0)
    assert giver.wait("home", 60.0) == wait - 2 and giver.wait("elsewhere", 50 + wait) == 0
    giver.follow(3, 70.0)
    assert giver.wait("home", 70.0) == 0
    giver.follow(4, 70.0)
    assert giver.wait("home", 70.0) == giver.wait("elsewhere", 70.0) == wait


def test_what_was_promised_is_kept_from_one_start_to_the_next() -> None:
    promise = Promise("home", codec.digest("agent"), 4, 3, 0)
    giver = Giver(50.0, 3)
    giver.promise(promise)
    for each in (giver, Giver(90.0, 3, giver.promises.values())):
        assert not each.give("home", Ask(1, NONCE), 91.0) and each.give("elsewhere", Ask(1, NONCE), 91.0)


def test_a_host_that_asks_from_an_old_copy_of_its_data_gets_none() -> None:
    giver = Giver(50.0, 3)
    assert giver.give("home", Ask(7, NONCE), 51.0)
    with pytest.raises(PeerFault, match="home: asks for a heartbeat as of an earlier start"):
        giver.give("home", Ask(6, NONCE), 52.0)
    assert giver.give("home", Ask(8, NONCE), 53.0)


# What comes over the link


@given(st.binary(max_size=200))
def test_garbage_is_refused(raw: bytes) -> None:
    try:
        message = heartbeats.decode(raw, "east")
    except PeerFault as fault:
        assert fault.peer == "east"
    else:
        assert isinstance(message, Ask | Beat)


@pytest.mark.parametrize(
    "wrong", [["ask", -1, NONCE], ["ask", 1, b"short"], ["ask", 2**64 - 1, NONCE], ["ask", 1, NONCE, 1], ["beat", 1]]
)
def test_a_message_of_another_form_is_refused(wrong: list[Any]) -> None:
    with pytest.raises(PeerFault):
        heartbeats.decode(codec.encode(wrong), "east")
