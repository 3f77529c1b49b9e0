"""Votes: who may join or must go, by more than two thirds of the others."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.chain import founding_state
from ledger.contracts import trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from tests.helpers.founders import CHAIN, NAMES, genesis, identity, join, organisation, revoke


def start(size: int = 4, hosts: int = 1) -> Overlay:
    return Overlay(founding_state(genesis(size, hosts)))


def cast(state: Overlay, voter: str, action: object, height: int = 7) -> None:
    trust.execute(state, Call(identity(voter).public, codec.encode(action), height, CHAIN))


def trusted(state: Overlay) -> set[str]:
    return {name for name, standing in trust.organisations(state).items() if standing.status == trust.TRUSTED}


def hosts_of(state: Overlay) -> list[str]:
    return [member.host for member in trust.members(state).members]


def test_the_founders_are_trusted() -> None:
    state = start(4, hosts=2)
    assert trusted(state) == set(NAMES[:4])
    assert len(trust.registry(state)) == 8
    assert trust.registry(state)["east-2"] == organisation("east", 2).hosts[1]
    assert hosts_of(state) == ["north-1", "east-1", "south-1", "west-1"]
    assert trust.members(state).version == 0
    assert trust.organisations(state)["north"].reason == trust.FOUNDED
    assert trust.proposals(state) == ()


def test_a_revocation_needs_all_three_of_the_others() -> None:
    state = start(4, hosts=2)
    cast(state, "north", revoke("west", "it lost a disk"), 5)
    cast(state, "east", revoke("west", "so it did"), 6)
    assert "west" in trusted(state)
    (proposal,) = trust.proposals(state)
    assert (proposal.kind, proposal.organisation) == (trust.REVOKE, "west")
    assert [(vote.organisation, vote.reason, vote.height) for vote in proposal.votes] == [
        ("north", "it lost a disk", 5),
        ("east", "so it did", 6),
    ]
    cast(state, "south", revoke("west"), 8)
    standing = trust.organisations(state)["west"]
    assert (standing.status, standing.since, standing.reason) == (trust.REVOKED, 8, "it lost a disk")
    assert len(standing.votes) == 3
    assert not {"west-1", "west-2"} & trust.registry(state).keys()
    assert hosts_of(state) == ["north-1", "east-1", "south-1"]
    assert trust.members(state).version == 1
    assert trust.proposals(state) == ()
    assert trust.holder(state, identity("west").public) is None
    assert trust.holder(state, identity("west-2").public) is None


def test_a_join_needs_three_of_four() -> None:
    state = start()
    for voter in NAMES[:2]:
        cast(state, voter, join("upper", hosts=2))
    assert "upper" not in trusted(state)
    cast(state, "west", join("upper", hosts=2), 9)
    assert trust.organisations(state)["upper"].since == 9
    assert hosts_of(state)[-1] == "upper-1"
    assert trust.members(state).version == 1
    assert {"upper-1", "upper-2"} <= trust.registry(state).keys()
    cast(state, "upper", revoke("west"))  # it has a vote now
    assert trust.proposals(state)[0].votes[0].organisation == "upper"


def test_other_reasons_are_votes_for_the_same() -> None:
    state = start()
    for voter in NAMES[:3]:
        cast(state, voter, revoke("west", f"{voter} says so"))
    assert "west" not in trusted(state)


def test_another_organisation_of_the_same_name_is_another_proposal() -> None:
    state = start()
    cast(state, "north", join("upper"))
    cast(state, "east", join("upper", hosts=2))
    assert len({proposal.digest for proposal in trust.proposals(state)}) == 2


def test_a_change_closes_open_proposals() -> None:
    """Votes of the old consortium do not count in the new one."""
    state = start()
    cast(state, "north", revoke("east"))
    cast(state, "south", revoke("east"))
    for voter in NAMES[:3]:
        cast(state, voter, revoke("west"))
    assert trust.proposals(state) == ()
    cast(state, "north", revoke("east"))  # 1 of 2; with the vote of before it would be all
    assert "east" in trusted(state)
    cast(state, "south", revoke("east"))
    assert trusted(state) == {"north", "south"}


def test_the_last_one_stays() -> None:
    state = start(2)
    cast(state, "north", revoke("east"))
    assert trusted(state) == {"north"} and hosts_of(state) == ["north-1"]
    with pytest.raises(Misuse, match="no vote on its own"):
        cast(state, "north", revoke("north"))
    cast(state, "north", join("upper"))
    assert hosts_of(state) == ["north-1", "upper-1"]


REFUSED = [
    ("stranger", revoke("west"), "only the key of a trusted organisation"),
    ("north-1", revoke("west"), "a host's key does not"),
    ("north", revoke("nobody"), "there is no organisation"),
    ("west", revoke("west"), "no vote on its own"),
    ("north", revoke("west", ""), "gives its reason"),
    ("north", revoke("west", "  "), "gives its reason"),
    ("north", revoke("west", "x" * 501), "gives its reason"),
    ("north", join("east"), "is trusted already"),
]


@pytest.mark.parametrize(("voter", "action", "message"), REFUSED)
def test_what_is_refused(voter: str, action: object, message: str) -> None:
    state = start()
    with pytest.raises(Misuse, match=message):
        cast(state, voter, action)
    assert not state.changes


def test_a_vote_counts_once() -> None:
    state = start()
    cast(state, "north", revoke("west"))
    with pytest.raises(Misuse, match="has voted on this already"):
        cast(state, "north", revoke("west", "for another reason"))


def test_the_revoked_does_not_come_back_silently() -> None:
    state = start()
    for voter in NAMES[:3]:
        cast(state, voter, revoke("west"), 8)
    with pytest.raises(Misuse, match="revoked already, at height 8"):
        cast(state, "north", revoke("west"))
    with pytest.raises(Misuse, match="only the key of a trusted"):
        cast(state, "west", revoke("north"))
    with pytest.raises(Misuse, match="was revoked at height 8"):
        cast(state, "north", join("west"))
    west = organisation("west")
    renamed = organisation("upper")
    for joining, message in (
        (trust.VoteJoin(type(west)("upper", west.key, renamed.hosts), "back"), "is or was used by west"),
        (
            trust.VoteJoin(
                type(west)("upper", renamed.key, (type(west.hosts[0])("west-1", "upper", b"k" * 32, "a:1"),)), "back"
            ),
            "host name west-1",
        ),
    ):
        with pytest.raises(Misuse, match=message):
            cast(state, "north", joining)


def test_one_organisation_cannot_fill_the_state() -> None:
    state = start()
    for number in range(trust.MAX_OPEN):
        cast(state, "north", join(f"new{number}"))
    with pytest.raises(Misuse, match="wait until one is decided"):
        cast(state, "north", join("more"))
    cast(state, "east", join("more"))  # others may
    cast(state, "north", join("more"))  # and it may vote for theirs


@pytest.mark.parametrize("raw", [b"", b"\xc0", b"\x93\xa6revoke\xa4west", b"\x92\xa3buy\xa4west", b"\x81\x01\x02"])
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(Misuse, match=r"sent bytes that are no|is not canonically"):
        trust.execute(start(), Call(identity("north").public, raw, 1, CHAIN))


def test_a_bad_organisation_is_refused_with_its_own_reason() -> None:
    raw = codec.encode(join("upper")).replace(b"upper", b"UPPER")
    with pytest.raises(Misuse, match="is no name"):
        trust.execute(start(), Call(identity("north").public, raw, 1, CHAIN))


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(1, 6),
    steps=st.lists(
        st.tuples(
            st.sampled_from([*NAMES, "x1"]), st.sampled_from(["join", "revoke"]), st.sampled_from([*NAMES, "x1"])
        ),
        max_size=40,
    ),
)
def test_rules_that_hold_whatever_is_voted(size: int, steps: list[tuple[str, str, str]]) -> None:
    state = start(size)
    for voter, kind, concerned in steps:
        before, version = trusted(state), trust.members(state).version
        try:
            cast(state, voter, join(concerned) if kind == "join" else revoke(concerned))
        except Misuse:
            assert trusted(state) == before
            continue
        assert voter in before and voter != concerned
        after = trusted(state)
        assert after ^ before <= {concerned}
        assert trust.members(state).version == version + (after != before)
        if after != before:
            votes = {vote.organisation for vote in trust.organisations(state)[concerned].votes}
            assert votes <= before - {concerned}
            assert 3 * len(votes) > 2 * len(before - {concerned})
        members = {name + "-1" for name in after}
        assert members and set(hosts_of(state)) == members == set(trust.registry(state))
