"""Residence: one host for each epoch, whatever is signed, delayed, repeated, stolen or voted."""

from hashlib import sha256
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import contracts
from ledger.chain import founding_state
from ledger.contracts import owners, pseudonyms, residence, trust
from ledger.contracts.accounts import Create
from ledger.contracts.membership import Rotate, prove_possession
from ledger.contracts.residence import (
    ABORT,
    END,
    FOUND,
    MAX_EPOCH,
    MAX_HOLDERS,
    MOVE,
    Abort,
    End,
    Forgo,
    Found,
    Going,
    Hold,
    Move,
    Part,
    Passage,
    Residence,
    Statement,
    VoteRehome,
    WithdrawVote,
    Yield,
)
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from tests.helpers.founders import CHAIN, NAMES, act, genesis, identity, join, revoke

AGENT = sha256(b"agent").digest()
ANN = identity("ann").public
HERE = residence.subject(ANN, AGENT)
TRANSFER = bytes(range(16))


def start(**options: Any) -> Overlay:
    """Ann has an account; her agent resides on north-1 at epoch 3."""
    state = Overlay(founding_state(genesis(4, hosts=2, auditor="auditor", **options)))
    act(state, "north", "accounts", Create(ANN, 5))
    act(state, "north-1", "residence", found(), 5)
    return state


def found(owner: str = "ann", host: str = "north-1", epoch: int = 3, by: str = "", hosted: str = "") -> Found:
    place = residence.subject(identity(owner).public, AGENT)
    statement = Statement(CHAIN, FOUND, place, epoch, "", host)
    return Found(
        identity(owner).public,
        AGENT,
        epoch,
        host,
        statement.sign(identity(by or owner), owners.DOMAIN),
        statement.sign(identity(hosted or host)),
    )


def move(
    to: str,
    epoch: int = 4,
    source: str = "north-1",
    first: str = "",
    second: str = "",
    chain: bytes = CHAIN,
    transfer: bytes = TRANSFER,
) -> Move:
    parts = (Part(source, transfer, (Going(HERE, epoch),)),)
    said = Passage(chain, MOVE, to, parts)
    return Move(to, parts, (said.sign(identity(first or source)),), said.sign(identity(second or to)))


def changed(action: Move, **changes: Any) -> Move:
    """Its one part, signed for another."""
    return msgspec.structs.replace(action, parts=(msgspec.structs.replace(action.parts[0], **changes),))


def abort(epoch: int = 4, source: str = "north-1", by: str = "") -> Abort:
    return Abort(HERE, epoch, Statement(CHAIN, ABORT, HERE, epoch, source, source).sign(identity(by or source)))


def at(state: Overlay) -> tuple[str, int]:
    now = residence.find(state, HERE)
    assert now is not None
    return now.host, now.epoch


def refused(state: Overlay, caller: str, action: object, message: str) -> None:
    before = residence.find(state, HERE)
    with pytest.raises(Misuse, match=message):
        act(state, caller, "residence", action)
    assert residence.find(state, HERE) == before


# Founding


def test_an_agent_is_founded_by_its_owner_and_its_host_together() -> None:
    state = start()
    assert residence.find(state, HERE) == Residence(ANN, 3, "north-1", (), 5)
    fresh = Overlay(founding_state(genesis(4)))
    act(fresh, "north", "accounts", Create(ANN, 5))
    act(fresh, "ann", "residence", msgspec.structs.replace(found(), owner_signature=b""))  # she calls herself
    assert at(fresh) == ("north-1", 3)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (found(by="mallory"), "owner .* did not sign"),
        (found(hosted="mallory"), "north-1 did not sign"),
        (msgspec.structs.replace(found(), owner_signature=b""), "owner .* did not sign"),
        (msgspec.structs.replace(found(), epoch=2), "did not sign"),
        (found(host="nowhere"), "is not trusted"),
        (found(owner="south-1", by="mallory"), "owner .* did not sign"),
        (msgspec.structs.replace(found(), epoch=-1), "Expected `int`"),
        (msgspec.structs.replace(found(), agent=bytes(31)), "Expected `bytes`"),
    ],
)
def test_nobody_founds_it_without_both(action: Found, message: str) -> None:
    state = Overlay(founding_state(genesis(4)))
    act(state, "north", "accounts", Create(ANN, 5))
    refused(state, "north-1", action, message)


def test_an_owner_needs_no_account_for_its_host_vouches() -> None:
    state = Overlay(founding_state(genesis(4)))
    act(state, "north-1", "residence", found())
    assert at(state) == ("north-1", 3)


def test_an_owner_whose_trust_has_ended_founds_nothing() -> None:
    state = Overlay(founding_state(genesis(4)))
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke(NAMES[3]))
    refused(state, "north-1", found(owner=NAMES[3]), "may transact")


def test_it_comes_into_held_custody_again_only_above_all_its_epochs() -> None:
    """Else an old epoch would come alive again. In between it is in local custody, of which the chain knows nothing."""
    state = start()
    refused(state, "north-1", found(epoch=9), "is in held custody at epoch 3 on north-1 already")
    act(state, "north-1", "residence", End(HERE, 4, b""))
    for epoch in (3, 4):
        refused(state, "north-1", found(epoch=epoch), "begins above that")
    refused(state, "east-1", found(epoch=9, host="east-1", by="mallory"), "owner .* did not sign")
    refused(state, "north-1", found(epoch=9, host="east-1", hosted="mallory"), "east-1 did not sign")
    act(state, "east-1", "residence", found(epoch=9, host="east-1"))
    assert at(state) == ("east-1", 9)
    refused(state, "north-1", found(epoch=4), "is in held custody at epoch 9")


def forgo(owner: str = "ann", host: str = "north-1", epoch: int = 3, by: str = "", hosted: str = "") -> Forgo:
    place = residence.subject(identity(owner).public, AGENT)
    said = Statement(CHAIN, END, place, epoch, host, "")
    consent = found(owner, host, epoch, by).owner_signature
    return Forgo(identity(owner).public, AGENT, epoch, host, consent, said.sign(identity(hosted or host)))


def test_a_foundation_that_is_taken_back_never_takes_place() -> None:
    """[H4] The host asked for it, did not hear of the outcome, and lets the agent go on in local custody."""
    state = Overlay(founding_state(genesis(4)))
    act(state, "north-1", "residence", forgo(), 7)
    assert residence.find(state, HERE) == Residence(ANN, 3, "", (), 7)
    refused(state, "north-1", found(), "begins above that")
    refused(state, "north-1", forgo(), "begins above that")
    act(state, "east-1", "residence", found(host="east-1", epoch=4))
    refused(state, "east-1", forgo(host="east-1", epoch=5), "is in held custody at epoch 4")
    act(state, "east-1", "residence", End(HERE, 5, b""))
    act(state, "north-1", "residence", msgspec.structs.replace(forgo(epoch=9), host_signature=b""))
    assert at(state) == ("", 9)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (forgo(by="mallory"), "owner .* did not sign"),  # who uses up another's epochs keeps its agents out
        (forgo(hosted="mallory"), "north-1 did not sign"),
        (forgo(host="nowhere"), "is not trusted"),
        (msgspec.structs.replace(forgo(), epoch=4), "did not sign"),
        (msgspec.structs.replace(forgo(), host="east-1"), "did not sign"),  # the owner consented to another host
        (msgspec.structs.replace(forgo(), host_signature=found().host_signature), "north-1 did not sign this end"),
    ],
)
def test_nobody_takes_a_foundation_back_but_who_could_ask_for_it(action: Forgo, message: str) -> None:
    refused(Overlay(founding_state(genesis(4))), "east-1", action, message)


def test_an_owner_whose_trust_has_ended_keeps_no_agent_in_doubt() -> None:
    state = Overlay(founding_state(genesis(4)))
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke(NAMES[3]))
    refused(state, "north-1", found(owner=NAMES[3]), "may transact")
    act(state, "north-1", "residence", forgo(owner=NAMES[3]))
    now = residence.find(state, residence.subject(identity(NAMES[3]).public, AGENT))
    assert now is not None and (now.host, now.epoch) == ("", 3)


def test_another_owner_cannot_take_the_agents_place() -> None:
    """By founding the same agent first, on a host of its own."""
    state = Overlay(founding_state(genesis(4)))
    for name in ("ann", "eve"):
        act(state, "north", "accounts", Create(identity(name).public, 5))
    act(state, "east-1", "residence", found(owner="eve", host="east-1"))
    act(state, "north-1", "residence", found())
    assert at(state) == ("north-1", 3)


# Moving


@pytest.mark.parametrize("carrier", ["north-1", "east-1", "south-1", "ann"])
def test_it_moves_with_both_signatures_whoever_carries_them(carrier: str) -> None:
    state = start()
    act(state, carrier, "residence", move("east-1"), 9)
    assert residence.find(state, HERE) == Residence(ANN, 4, "east-1", (), 9, TRANSFER)


def test_a_party_that_calls_itself_need_not_sign_again() -> None:
    state = start()
    act(state, "east-1", "residence", msgspec.structs.replace(move("east-1"), destination_signature=b""))
    assert at(state) == ("east-1", 4)
    stolen = msgspec.structs.replace(move("west-1", 5, "east-1"), source_signatures=(b"",))
    refused(state, "south-1", stolen, "did not sign")


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (move("east-1", first="mallory"), "north-1 did not sign"),
        (move("east-1", second="mallory"), "east-1 did not sign"),  # a destination that has nothing
        (move("east-1", first="east-1"), "north-1 did not sign"),  # the destination takes it by itself
        (move("east-1", first="north"), "north-1 did not sign"),  # the organisation's key is not the host's
        (move("east-1", source="north-2"), "is on north-1; this says, on north-2"),
        (move("east-1", epoch=3), "too late or too early"),
        (move("east-1", epoch=5), "too late or too early"),
        (move("east-1", epoch=2**63), "Expected `int`"),
        (move("north-1"), "on north-1 already"),
        (move("mallory"), "mallory is not trusted"),
        (move("east-1", chain=bytes(32)), "did not sign"),
        (msgspec.structs.replace(move("east-1"), destination="south-1"), "did not sign"),
        (changed(move("east-1"), transfer=bytes(16)), "did not sign"),  # of another handoff
        (changed(move("east-1"), transfer=bytes(15)), "Expected `bytes`"),
        (msgspec.structs.replace(move("east-1"), source_signatures=(bytes(65),)), "Expected `bytes`"),
        (msgspec.structs.replace(move("east-1"), source_signatures=()), "has 0 signatures"),
        (changed(move("east-1"), agents=(Going(bytes(32), 4),)), "not in held custody"),
        (changed(move("east-1"), agents=()), "names 0 agents"),
        (changed(move("east-1"), agents=(Going(HERE, 4),) * 2), "names an agent or a source twice"),
        (changed(move("east-1"), agents=tuple(Going(bytes([n]) * 32, 4) for n in range(65))), "65 agents"),
    ],
)
def test_moves_that_do_not_take_place(action: Move, message: str) -> None:
    refused(start(), "east-1", action, message)


def test_a_signature_to_move_is_none_to_abort_or_end() -> None:
    (signature,) = move("east-1").source_signatures
    for action in (Abort(HERE, 4, signature), End(HERE, 4, signature)):
        refused(start(), "east-1", action, "did not sign this")


def test_two_destinations_of_one_epoch_one_wins() -> None:
    """A source that signs twice does not make two copies."""
    state = start()
    act(state, "east-1", "residence", move("east-1"))
    refused(state, "south-1", move("south-1"), "at epoch 4 on east-1")


def test_a_move_is_not_repeated_when_the_agent_is_back() -> None:
    state = start()
    first = move("east-1")
    act(state, "east-1", "residence", first)
    act(state, "east-1", "residence", move("north-1", 5, "east-1"))
    refused(state, "east-1", first, "too late")


# Moving together

MAIL = sha256(b"mail").digest()
THERE = residence.subject(ANN, MAIL)  # another agent of hers
TWO = bytes(range(16, 32))


def together(state: Overlay, host: str = "north-1") -> Overlay:
    """The other one resides on `host`, at epoch 7."""
    said = Statement(CHAIN, FOUND, THERE, 7, "", host)
    signatures = said.sign(identity("ann"), owners.DOMAIN), said.sign(identity(host))
    act(state, host, "residence", Found(ANN, MAIL, 7, host, *signatures), 5)
    return state


def group(*parts: Part, to: str = "east-1", by: dict[str, str] | None = None) -> Move:
    said = Passage(CHAIN, MOVE, to, parts)
    signer = {part.source: part.source for part in parts} | {to: to} | (by or {})
    signed = tuple(said.sign(identity(signer[part.source])) for part in parts)
    return Move(to, parts, signed, said.sign(identity(signer[to])))


BOTH = Part("north-1", TRANSFER, (Going(HERE, 4), Going(THERE, 8)))
ONE, OTHER = Part("north-1", TRANSFER, (Going(HERE, 4),)), Part("south-1", TWO, (Going(THERE, 8),))


@pytest.mark.parametrize(("parts", "host"), [((BOTH,), "north-1"), ((ONE, OTHER), "south-1")])
def test_several_arrive_together_from_one_source_or_more(parts: tuple[Part, ...], host: str) -> None:
    state = together(start(), host)
    act(state, "west-1", "residence", group(*parts), 9)
    assert residence.find(state, HERE) == Residence(ANN, 4, "east-1", (), 9, TRANSFER)
    assert residence.find(state, THERE) == Residence(ANN, 8, "east-1", (), 9, parts[-1].transfer)


def rehomed(state: Overlay, subject: bytes, epoch: int, host: str) -> None:
    act(state, host, "residence", Hold(subject, epoch - 1, ("west-1",)))
    act(state, host, "residence", Yield(subject, epoch, "west-1"))


@pytest.mark.parametrize("order", [BOTH, Part("north-1", TRANSFER, BOTH.agents[::-1])])
def test_all_stay_when_one_does_not_fit_and_it_is_named(order: Part) -> None:
    """It was re-homed by itself before the commit, or its source has asked to keep it."""
    state = together(start())
    rehomed(state, THERE, 8, "north-1")
    refused(state, "east-1", group(order), f"agent {THERE.hex()[:16]} is at epoch 8 on west-1")
    kept = together(start())
    act(kept, "north-1", "residence", abort())
    refused(kept, "east-1", group(order), f"agent {HERE.hex()[:16]} is at epoch 4 on north-1")
    assert residence.find(kept, THERE) == Residence(ANN, 7, "north-1", (), 5)


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (group(ONE, OTHER, by={"north-1": "south-1"}), "north-1 did not sign"),  # one source for another
        (group(ONE, OTHER, by={"south-1": "north-1"}), "south-1 did not sign"),
        (group(ONE, OTHER, by={"east-1": "south-1"}), "east-1 did not sign"),
        (group(ONE, Part("north-2", TWO, OTHER.agents)), "is on south-1; this says, on north-2"),
        (group(ONE, Part("north-1", TWO, OTHER.agents)), "names an agent or a source twice"),
        (group(ONE, Part("south-1", TWO, ONE.agents)), "names an agent or a source twice"),
        (group(ONE, Part("south-1", TWO, ())), "names 1 agents"),
        (group(ONE, Part("east-1", TWO, OTHER.agents)), "on east-1 already"),
        (group(), "names 0 agents"),
    ],
)
def test_a_group_does_not_move_without_all_that_give_and_take(action: Move, message: str) -> None:
    refused(together(start(), "south-1"), "west-1", action, message)


def test_what_one_source_signed_for_a_group_moves_no_agent_without_the_others() -> None:
    state = together(start(), "south-1")
    signed = group(ONE, OTHER)
    alone = Move("east-1", (ONE,), signed.source_signatures[:1], signed.destination_signature)
    refused(state, "west-1", alone, "north-1 did not sign")


def test_a_delayed_commit_fails_after_the_abort() -> None:
    """H4: the commit was signed by both, lay about, and comes when the source runs the agent again."""
    state = start()
    delayed = move("east-1")
    act(state, "north-1", "residence", abort())
    assert at(state) == ("north-1", 4)
    refused(state, "east-1", delayed, "too late")
    act(state, "east-1", "residence", move("east-1", 5))


def test_an_abort_fails_after_the_commit() -> None:
    state = start()
    act(state, "east-1", "residence", move("east-1"))
    refused(state, "north-1", abort(), "too late")
    refused(state, "north-1", abort(5), "east-1 did not sign")


@pytest.mark.parametrize("caller", ["east-1", "north", "ann", "south-1"])
def test_only_the_source_aborts(caller: str) -> None:
    refused(start(), caller, Abort(HERE, 4, b""), "north-1 did not sign")
    refused(start(), caller, abort(by=caller), "north-1 did not sign")


def test_who_is_no_longer_trusted_neither_gives_nor_takes() -> None:
    state = start()
    for voter in NAMES[1:4]:
        act(state, voter, "trust", revoke("north"))
    refused(state, "east-1", move("east-1"), "north-1 is not trusted")
    refused(state, "east-1", abort(), "north-1 is not trusted")
    other = start()
    for voter in (NAMES[0], *NAMES[2:4]):
        act(other, voter, "trust", revoke("east"))
    refused(other, "north-1", move("east-1"), "east-1 is not trusted")


def test_a_signature_with_a_key_that_was_rotated_away_is_refused() -> None:
    state = start()
    fresh = identity("fresh")
    rotation = Rotate("north-1", fresh.public, 8, prove_possession(fresh, CHAIN, "north", "north-1"))
    act(state, "north", "membership", rotation, 7)
    contracts.end_block(state, 7)
    refused(state, "east-1", move("east-1"), "with its present key")
    act(state, "east-1", "residence", move("east-1", first="fresh"))


def test_the_last_epoch_is_the_last() -> None:
    state = Overlay(founding_state(genesis(4)))
    act(state, "north", "accounts", Create(ANN, 5))
    act(state, "north-1", "residence", found(epoch=MAX_EPOCH))
    refused(state, "north-1", abort(MAX_EPOCH + 1), "Expected `int`")


# The end


def test_nothing_moves_or_re_homes_it_after_its_end() -> None:
    state = start()
    refused(state, "east-1", End(HERE, 4, b""), "north-1 did not sign")
    signature = Statement(CHAIN, END, HERE, 4, "north-1", "").sign(identity("north-1"))
    act(state, "east-1", "residence", End(HERE, 4, signature))
    assert at(state) == ("", 4)
    for action in (move("east-1", 5), abort(5), End(HERE, 5, b""), VoteRehome(HERE, 5, "east-1", 0)):
        refused(state, "north-1", action, "not in held custody")


# Re-homing


def held(*holders: str) -> Overlay:
    state = start()
    act(state, "north-1", "residence", Hold(HERE, 3, holders))
    return state


def rehome(state: Overlay, member: str, to: str = "south-2", epoch: int = 4, height: int = 7) -> None:
    act(state, member, "residence", VoteRehome(HERE, epoch, to, trust.members(state).version), height)


def test_a_quorum_of_members_re_homes_to_a_holder() -> None:
    state = held("south-2", "east-2")
    rehome(state, "east-1")
    rehome(state, "south-1")
    assert at(state) == ("north-1", 3)
    assert [vote.member for vote in residence.votes(state, HERE)] == ["east-1", "south-1"]
    rehome(state, "west-1", height=9)
    assert residence.find(state, HERE) == Residence(ANN, 4, "south-2", ("east-2",), 9)
    assert residence.votes(state, HERE) == ()


def test_the_host_that_was_gone_comes_back_to_nothing() -> None:
    state = held("south-2")
    delayed = move("east-1")
    for member in ("east-1", "south-1", "west-1"):
        rehome(state, member)
    for action in (delayed, abort(), End(HERE, 4, b"")):
        refused(state, "north-1", action, "too late")
    refused(state, "north-1", Hold(HERE, 3, ()), "too late")


def test_one_member_has_one_vote() -> None:
    state = held("south-2", "east-2")
    for _ in range(3):
        rehome(state, "east-1")
    rehome(state, "south-1", "east-2")
    assert at(state) == ("north-1", 3)
    rehome(state, "west-1")
    assert at(state) == ("north-1", 3)  # two for one, one for the other
    rehome(state, "south-1")  # it changes its mind
    assert at(state) == ("south-2", 4)


@pytest.mark.parametrize("caller", ["east", "east-2", "ann"])
def test_only_the_members_hosts_vote(caller: str) -> None:
    refused(held("south-2"), caller, VoteRehome(HERE, 4, "south-2", 0), "only the hosts that hold the members' seats")


def test_it_goes_only_where_its_state_is() -> None:
    refused(held("south-2"), "east-1", VoteRehome(HERE, 4, "east-1", 0), "no trusted holder")
    refused(start(), "east-1", VoteRehome(HERE, 4, "east-1", 0), "it has none")
    state = held("south-2")
    for voter in (*NAMES[:2], "west"):
        act(state, voter, "trust", revoke("south"))
    refused(state, "east-1", VoteRehome(HERE, 4, "south-2", 0), "no trusted holder")


@pytest.mark.parametrize("epoch", [3, 5])
def test_a_vote_is_for_the_next_epoch_alone(epoch: int) -> None:
    refused(held("south-2"), "east-1", VoteRehome(HERE, epoch, "south-2", 0), "too late or too early")


def test_a_vote_of_before_a_change_of_members_is_refused_after_it() -> None:
    """It was signed when the member had not waited for the new quorums; it may come as late as it likes."""
    state = held("south-2")
    late = VoteRehome(HERE, 4, "south-2", trust.members(state).version)
    for voter in ("north", "east", "south"):
        act(state, voter, "trust", join("upper"))
    refused(state, "east-1", late, "for members of version 0; they are of version 1")
    rehome(state, "east-1")
    assert [vote.member for vote in residence.votes(state, HERE)] == ["east-1"]


def test_a_vote_that_was_withdrawn_does_not_count() -> None:
    """The member heard the host again and will sign heartbeats: with its old vote both could run."""
    state = held("south-2")
    for member in ("east-1", "south-1"):
        rehome(state, member)
    act(state, "east-1", "residence", WithdrawVote(HERE, 4))
    refused(state, "east-1", WithdrawVote(HERE, 4), "nothing to withdraw")
    rehome(state, "west-1")
    assert at(state) == ("north-1", 3)


def test_votes_do_not_outlive_an_epoch_or_a_change_of_members() -> None:
    state = held("south-2")
    for member in ("east-1", "south-1"):
        rehome(state, member)
    act(state, "north-1", "residence", abort())
    rehome(state, "west-1", epoch=5)
    assert at(state) == ("north-1", 4)
    other = held("south-2")
    for member in ("east-1", "south-1"):
        rehome(other, member)
    for voter in NAMES[:3]:
        act(other, voter, "trust", join("upper"))
    rehome(other, "west-1")
    assert at(other) == ("north-1", 3) and len(residence.votes(other, HERE)) == 1


@pytest.mark.parametrize(
    ("caller", "holders", "message"),
    [
        ("east-1", ("south-2",), "only north-1"),
        ("north", ("south-2",), "only north-1"),
        ("north-1", ("south-2", "south-2"), "each named once"),
        ("north-1", tuple(f"h{n}" for n in range(MAX_HOLDERS + 1)), "at most"),
        ("north-1", ("north-1",), "cannot hold"),
        ("north-1", ("nowhere",), "cannot hold"),
    ],
)
def test_holders_that_are_refused(caller: str, holders: tuple[str, ...], message: str) -> None:
    refused(start(), caller, Hold(HERE, 3, holders), message)


@pytest.mark.parametrize(
    ("caller", "action", "message"),
    [
        ("south-2", Yield(HERE, 4, "south-2"), "only north-1"),
        ("ann", Yield(HERE, 4, "south-2"), "only north-1"),
        ("north-1", Yield(HERE, 4, "east-2"), "is no trusted holder"),
        ("north-1", Yield(HERE, 4, "north-1"), "is no trusted holder"),
        ("north-1", Yield(HERE, 3, "south-2"), "too late or too early"),
        ("north-1", Yield(HERE, 5, "south-2"), "too late or too early"),
    ],
)
def test_only_the_host_itself_yields_and_to_a_holder(caller: str, action: Yield, message: str) -> None:
    refused(held("south-2"), caller, action, message)


def test_a_host_that_lost_the_agent_yields_it_to_a_holder() -> None:
    """As after a re-homing: no transfer stands there, so the holder goes on from the checkpoint."""
    state = held("south-2", "east-2")
    act(state, "north-1", "residence", Yield(HERE, 4, "east-2"), 9)
    assert residence.find(state, HERE) == Residence(ANN, 4, "east-2", ("south-2",), 9)
    refused(state, "north-1", Yield(HERE, 5, "south-2"), "only east-2")


# Under a pseudonym


def test_it_may_stand_under_a_pseudonym_once() -> None:
    state = start()
    register = pseudonyms.registration(
        identity("ann"), identity("nobody"), CHAIN, identity("auditor").public, bytes(32)
    )
    act(state, "north-1", "pseudonyms", register)
    refused(state, "ann", found(owner="nobody"), "only a trusted host carries")
    act(state, "north-1", "residence", found(owner="nobody"))
    place = residence.subject(identity("nobody").public, AGENT)
    now = residence.find(state, place)
    assert now is not None and (now.owner, now.host) == (identity("nobody").public, "north-1")
    other = Statement(CHAIN, FOUND, residence.subject(identity("nobody").public, bytes(32)), 0, "", "north-1")
    again = Found(
        identity("nobody").public,
        bytes(32),
        0,
        "north-1",
        other.sign(identity("nobody"), owners.DOMAIN),
        other.sign(identity("north-1")),
    )
    refused(state, "north-1", again, "has served already")


HOSTS = ["north-1", "east-1", "south-1"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["move", "abort", "vote"]),
            st.sampled_from(HOSTS),
            st.sampled_from(HOSTS),
            st.sampled_from([0, 1, 1, 1, 2]),
        ),
        max_size=25,
    )
)
def test_no_epoch_has_two_hosts_and_none_goes_back(steps: list[tuple[str, str, str, int]]) -> None:
    state = start()
    act(state, "north-1", "residence", Hold(HERE, 3, ("east-1", "south-1")))
    seen = {3: "north-1"}
    for kind, source, to, ahead in steps:
        before = at(state)
        epoch = before[1] + ahead
        action: Any = VoteRehome(HERE, epoch, to, 0)
        if kind != "vote":
            action = move(to, epoch, source) if kind == "move" else abort(epoch, source)
        try:
            act(state, source, "residence", action)
        except Misuse:
            assert at(state) == before
            continue
        host, now = at(state)
        assert seen.setdefault(now, host) == host and now - before[1] in (0, 1)
