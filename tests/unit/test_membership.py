"""Suspension by vote, and an organisation's own acts, as an attacker would try them."""

import pytest

from ledger import contracts
from ledger.chain import Chain, founding_state
from ledger.contracts import accounts, membership, trust
from ledger.contracts.membership import MAX_NOTICE, AddHost, Leave, RemoveHost, Rotate, prove_possession
from ledger.contracts.records import RecordHop
from ledger.contracts.state import Overlay
from ledger.contracts.trust import VoteReinstate, VoteSuspend
from ledger.errors import Misuse
from ledger.links.base import Passport
from tests.helpers.founders import (
    CHAIN,
    NAMES,
    act,
    call,
    certify,
    decide,
    genesis,
    identity,
    join,
    organisation,
    revoke,
    vote,
)

HOP = RecordHop(bytes(32), 1, "west-1", "east-1", bytes(32), bytes(32))


def key(name: str) -> bytes:
    return identity(name).public


def start(size: int = 4, hosts: int = 1) -> Overlay:
    return Overlay(founding_state(genesis(size, hosts)))


def seats(state: Overlay) -> list[str]:
    return [member.host for member in trust.members(state).members]


def suspend(name: str) -> VoteSuspend:
    return VoteSuspend(name, "it signed twice")


def reinstate(name: str) -> VoteReinstate:
    return VoteReinstate(name, "it was a copied disk, which is gone")


def rotate(
    new: str, height: int, host: str | None, own: str = "west", signer: str = "", chain: bytes = CHAIN
) -> Rotate:
    return Rotate(host, key(new), height, prove_possession(identity(signer or new), chain, own, host))


def add(host: str, own: str = "west", signer: str = "") -> AddHost:
    passport = Passport(host, own, key(host), "127.0.0.1:9")
    return AddHost(passport, prove_possession(identity(signer or host), CHAIN, "west", host))


# Suspension


def suspended() -> Overlay:
    state = start(hosts=2)
    for voter in NAMES[:3]:
        act(state, voter, "trust", suspend("west"), 9)
    return state


def test_the_suspended_have_neither_seat_nor_trust_nor_voice() -> None:
    state = suspended()
    now = trust.organisations(state)["west"]
    assert (now.status, now.since, now.reason, len(now.votes)) == (trust.SUSPENDED, 9, "it signed twice", 3)
    assert seats(state) == ["north-1", "east-1", "south-1"] and trust.members(state).version == 1
    assert not {"west-1", "west-2"} & trust.registry(state).keys()
    assert trust.host_key(state, "west-1") is None
    for name in ("west", "west-1", "west-2"):
        assert trust.holder(state, key(name)) is None
        with pytest.raises(Misuse, match="only such keys may transact"):
            act(state, name, "membership", Leave("I go"))


def test_a_vote_brings_the_suspended_back_under_its_name_at_the_end_of_the_order() -> None:
    state = suspended()
    for voter in NAMES[:2]:
        act(state, voter, "trust", reinstate("west"), 12)
        assert "west-1" not in trust.registry(state)
    act(state, "south", "trust", reinstate("west"), 12)
    now = trust.organisations(state)["west"]
    assert (now.status, now.since, now.organisation) == (trust.TRUSTED, 12, organisation("west", 2))
    assert seats(state) == ["north-1", "east-1", "south-1", "west-1"] and trust.members(state).version == 2
    act(state, "west-1", "records", HOP)
    assert accounts.balance(state, key("west")) == accounts.GRANT  # no second grant for coming back


def test_it_does_not_bring_itself_back() -> None:
    state = suspended()
    for action in (reinstate("west"), join("west")):
        with pytest.raises(Misuse):
            act(state, "west", "trust", action)
    with pytest.raises(Misuse, match="vote to reinstate it"):
        act(state, "north", "trust", join("west"))


def test_one_is_suspended_once_and_reinstated_when_it_was() -> None:
    state = suspended()
    with pytest.raises(Misuse, match="is suspended since height 9"):
        act(state, "north", "trust", suspend("west"))
    with pytest.raises(Misuse, match="is trusted since height 0"):
        act(state, "north", "trust", reinstate("east"))
    with pytest.raises(Misuse, match="no vote on its own"):
        act(state, "north", "trust", suspend("north"))


def test_the_suspended_can_be_revoked_for_ever() -> None:
    state = suspended()
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke("west"))
    with pytest.raises(Misuse, match="revoked already"):
        act(state, "north", "trust", reinstate("west"))
    assert seats(state) == ["north-1", "east-1", "south-1"]


def test_votes_of_before_a_suspension_do_not_count_after_it() -> None:
    state = start()
    act(state, "west", "trust", suspend("east"))
    for voter in NAMES[:3]:
        act(state, voter, "trust", suspend("west"))
    assert trust.proposals(state) == ()


def test_two_cannot_suspend_each_other_down_to_none() -> None:
    state = start(2)
    act(state, "north", "trust", suspend("east"))
    with pytest.raises(Misuse):
        act(state, "east", "trust", suspend("north"))
    assert seats(state) == ["north-1"]


# Leaving


def test_who_leaves_gives_its_reason_and_does_not_come_back() -> None:
    state = start()
    act(state, "north", "trust", revoke("east"))
    act(state, "west", "membership", Leave("our grant has ended"), 11)
    now = trust.organisations(state)["west"]
    assert (now.status, now.since, now.reason, now.votes) == (trust.LEFT, 11, "our grant has ended", ())
    assert seats(state) == ["north-1", "east-1", "south-1"]
    assert trust.proposals(state) == ()
    with pytest.raises(Misuse, match="left at height 11"):
        act(state, "north", "trust", join("west"))
    for action in (revoke("west"), suspend("west"), reinstate("west")):
        with pytest.raises(Misuse, match="is left since"):
            act(state, "north", "trust", action)


def test_a_stolen_host_key_makes_nobody_leave() -> None:
    with pytest.raises(Misuse, match="a host's key does not"):
        act(start(), "west-1", "membership", Leave("ha"))


@pytest.mark.parametrize("reason", ["", " ", "x" * 501])
def test_nobody_leaves_without_a_reason(reason: str) -> None:
    with pytest.raises(Misuse, match="gives its reason"):
        act(start(), "west", "membership", Leave(reason))


def test_the_last_one_cannot_leave() -> None:
    state = start(2)
    act(state, "north", "membership", Leave("enough"))
    with pytest.raises(Misuse, match="one must stay"):
        act(state, "east", "membership", Leave("me too"))
    assert seats(state) == ["east-1"]


# Hosts


def test_a_host_is_added_and_removed_with_a_trace() -> None:
    state = start()
    act(state, "west", "membership", add("west-9"))
    assert trust.registry(state)["west-9"].key == key("west-9")
    assert trust.members(state).version == 0  # it has no seat
    act(state, "west", "membership", RemoveHost("west-1", "it is old"), 12)
    assert seats(state) == ["north-1", "east-1", "south-1", "west-9"] and trust.members(state).version == 1
    assert trust.host_key(state, "west-1") is None and trust.holder(state, key("west-1")) is None
    assert membership.removal(state, "west-1") == membership.Removal("west", "it is old", 12)
    for voter in NAMES[:3]:
        act(state, voter, "trust", suspend("west"))
    assert trust.host_key(state, "west-9") is None
    for voter in NAMES[:3]:
        act(state, voter, "trust", reinstate("west"))
    assert trust.host_key(state, "west-9") == key("west-9") and trust.host_key(state, "west-1") is None


def test_the_last_host_stays_and_others_hosts_are_not_ones_own() -> None:
    state = start()
    with pytest.raises(Misuse, match="is the last host"):
        act(state, "west", "membership", RemoveHost("west-1", "x"))
    with pytest.raises(Misuse, match="west has no host 'north-1'"):
        act(state, "west", "membership", RemoveHost("north-1", "x"))


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (add("north-1"), "is or was in use"),
        (add("new-1", own="north"), "says it is of north"),
        (add("new-1", signer="mallory"), "proof of possession"),
        (AddHost(Passport("new-1", "west", key("north-1"), "127.0.0.1:9"), bytes(64)), "is or was used by north"),
        (AddHost(Passport("new-1", "west", bytes(5), "127.0.0.1:9"), bytes(64)), "has 5 bytes"),
        (AddHost(Passport("NEW", "west", key("NEW"), "127.0.0.1:9"), bytes(64)), "proof of possession"),
        (add("NEW"), "is no name"),
    ],
)
def test_hosts_that_are_not_added(action: AddHost, message: str) -> None:
    state = start()
    before = trust.registry(state)
    with pytest.raises(Misuse, match=message):
        act(state, "west", "membership", action)
    assert trust.registry(state) == before


def test_a_removed_hosts_name_and_key_are_never_used_again() -> None:
    state = start(hosts=2)
    act(state, "west", "membership", RemoveHost("west-2", "stolen"))
    with pytest.raises(Misuse, match="is or was in use"):
        act(state, "west", "membership", add("west-2"))
    again = Passport("west-3", "west", key("west-2"), "127.0.0.1:9")
    with pytest.raises(Misuse, match="is or was used"):
        act(state, "west", "membership", AddHost(again, prove_possession(identity("west-2"), CHAIN, "west", "west-3")))


# Rotation


def test_a_hosts_key_changes_at_the_stated_height_and_not_before() -> None:
    state = start()
    act(state, "west", "membership", rotate("fresh", 20, "west-1"), 10)
    for height in range(10, 19):
        contracts.end_block(state, height)
    assert trust.host_key(state, "west-1") == key("west-1") and trust.members(state).version == 0
    with pytest.raises(Misuse, match="may transact"):
        act(state, "fresh", "records", HOP, 19)
    contracts.end_block(state, 19)
    assert trust.host_key(state, "west-1") == key("fresh") and membership.pending(state, "west") == ()
    assert trust.members(state).key_of("west-1") == key("fresh") and trust.members(state).version == 1
    assert seats(state)[3] == "west-1"  # in its place
    with pytest.raises(Misuse, match="may transact"):
        act(state, "west-1", "records", HOP, 20)
    act(state, "fresh", "records", HOP, 20)


def test_an_organisations_key_changes_and_its_units_go_with_it() -> None:
    state = start()
    act(state, "west", "membership", rotate("fresh", 11, None), 10)
    contracts.end_block(state, 10)
    assert accounts.balance(state, key("west")) == 0 and accounts.balance(state, key("fresh")) == accounts.GRANT
    with pytest.raises(Misuse, match="may transact"):
        act(state, "west", "trust", revoke("north"), 11)
    act(state, "fresh", "trust", revoke("north"), 11)
    act(state, "fresh", "membership", rotate("fresher", 12, None), 11)
    with pytest.raises(Misuse, match="is or was used by west"):
        act(state, "fresh", "membership", rotate("west", 12, None), 11)


@pytest.mark.parametrize(
    ("caller", "action", "message"),
    [
        ("west-1", rotate("fresh", 20, "west-1"), "a host's key does not"),
        ("north", rotate("fresh", 20, "west-1"), "north has no host"),
        ("west", rotate("fresh", 20, "west-1", signer="mallory"), "proof of possession"),
        ("west", rotate("fresh", 20, "west-1", own="north"), "proof of possession"),
        ("west", rotate("fresh", 20, "west-1", chain=bytes(32)), "proof of possession"),
        ("west", rotate("north-1", 20, "west-1"), "is or was used by north"),
        ("west", rotate("west-1", 20, "west-1"), "is or was used by west"),
        ("west", rotate("fresh", 10, "west-1"), "this is 10"),
        ("west", rotate("fresh", 11 + MAX_NOTICE, "west-1"), "this is 10"),
    ],
)
def test_rotations_that_are_refused(caller: str, action: Rotate, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), caller, "membership", action, 10)


def test_a_later_announcement_replaces_one_that_waits() -> None:
    """So a thief's rotation can be undone while the owner still has the key too."""
    state = start()
    act(state, "west", "membership", rotate("thief", 20, None), 10)
    act(state, "west", "membership", rotate("fresh", 15, None), 11)
    for height in range(11, 21):
        contracts.end_block(state, height)
    assert trust.organisations(state)["west"].organisation.key == key("fresh")


def test_one_key_is_announced_for_one_place() -> None:
    """Else one signature would count as the host's and as the organisation's."""
    state = start()
    act(state, "west", "membership", rotate("fresh", 20, "west-1"), 10)
    with pytest.raises(Misuse, match="is or was used by west"):
        act(state, "west", "membership", rotate("fresh", 20, None), 10)
    with pytest.raises(Misuse, match="is or was used by west"):
        act(state, "north", "trust", join("fresh"))


def test_what_a_thief_announced_before_a_suspension_is_void_after_it() -> None:
    state = start()
    act(state, "west", "membership", rotate("thief", 20, None), 10)
    for action, height in ((suspend("west"), 12), (reinstate("west"), 14)):
        for voter in NAMES[:3]:
            act(state, voter, "trust", action, height)
    contracts.end_block(state, 19)
    assert trust.organisations(state)["west"].organisation.key == key("west")


def test_a_rotation_of_a_host_that_was_removed_does_nothing() -> None:
    state = start(hosts=2)
    act(state, "west", "membership", rotate("fresh", 11, "west-2"), 10)
    act(state, "west", "membership", RemoveHost("west-2", "gone"), 10)
    contracts.end_block(state, 10)
    assert [passport.host for passport in trust.organisations(state)["west"].organisation.hosts] == ["west-1"]


def test_on_a_chain_each_height_is_decided_by_its_own_members() -> None:
    """The header of the stated height names the new key; the one before, the old."""
    chain, other = Chain(genesis()), Chain(genesis())
    action = rotate("fresh", 3, "west-1", chain=chain.id)
    blocks = [decide(chain, call(chain.id, "west", 0, action, "membership"))]
    old = chain.members()
    blocks.append(vote(chain, ("north",), revoke("east")))
    new = chain.members()
    assert (old.key_of("west-1"), new.key_of("west-1")) == (key("west-1"), key("fresh"))
    assert blocks[1].header.members_digest == old.digest()
    third = vote(chain, ("east",), revoke("south"))
    assert third.header.members_digest == new.digest()
    for block in blocks:
        assert other.check(block) is None
        other.append(block, certify(block, other.members()))
    assert other.members() == new and other.check(third) is None
    with pytest.raises(Misuse, match="may transact"):
        chain.take(call(chain.id, "west-1", 0, HOP, "records"), "a")
