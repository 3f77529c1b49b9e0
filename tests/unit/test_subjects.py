"""Every key that the contracts write is named, and its value shown with the names of its fields."""

import pytest

from ledger import codec, subjects
from ledger.chain import founding_state
from ledger.contracts import membership, owners, pseudonyms, records, residence, shared, trust
from ledger.contracts.accounts import Create
from ledger.contracts.claims import Claim
from ledger.contracts.membership import RemoveHost, Rotate, prove_possession
from ledger.contracts.pseudonyms import Open
from ledger.contracts.records import RecordBlame, RecordDecision, RecordHop
from ledger.contracts.residence import FOUND, Found, Hold, Statement, VoteRehome
from ledger.contracts.shared import Share
from ledger.contracts.state import Overlay
from ledger.subjects import SUBJECTS
from tests.helpers.founders import CHAIN, act, genesis, identity, join

ONE, TWO = codec.digest("one"), codec.digest("two")
ANN = identity("ann").public


def everything() -> dict[bytes, bytes]:
    """A state in which each contract has kept all that it can."""
    below = founding_state(genesis(4, hosts=2, auditor="auditor"))
    state = Overlay(below)
    act(state, "north", "accounts", Create(ANN, 5))
    act(state, "north", "trust", join("upper"))
    proof = prove_possession(identity("fresh"), CHAIN, "east", None)
    act(state, "east", "membership", Rotate(None, identity("fresh").public, 9, proof))
    proof = prove_possession(identity("newer"), CHAIN, "south", "south-2")
    act(state, "south", "membership", Rotate("south-2", identity("newer").public, 8, proof))
    membership.apply_due(state, 8)
    act(state, "west", "membership", RemoveHost("west-2", "too old"))
    act(state, "north-1", "claims", Claim((("version", "1"),)))
    act(state, "north-1", "records", RecordHop(ONE, 2, "north-1", "east-1", ONE, TWO))
    act(state, "north-1", "records", RecordDecision(ONE, TWO))
    act(state, "north-1", "records", RecordBlame("east-1", "it is slow", ONE))
    name = pseudonyms.registration(identity("ann"), identity("name"), CHAIN, identity("auditor").public, bytes(32))
    act(state, "north-1", "pseudonyms", name)
    act(state, "auditor", "pseudonyms", Open(identity("name").public, "the court asks"))
    act(state, "ann", "shared", Share(ANN, ONE, b""))
    place = residence.subject(ANN, ONE)
    statement = Statement(CHAIN, FOUND, place, 3, "", "north-1")
    signed = statement.sign(identity("ann"), owners.DOMAIN), statement.sign(identity("north-1"))
    act(state, "north-1", "residence", Found(ANN, ONE, 3, "north-1", *signed))
    act(state, "north-1", "residence", Hold(place, 3, ("south-1",)))
    act(state, "east-1", "residence", VoteRehome(place, 4, "south-1", 0))
    return below | {key: value for key, value in state.changes.items() if value is not None}


STATE = everything()


def test_every_kind_of_key_that_there_is_is_in_the_table_and_the_other_way_round() -> None:
    starts = {subjects._find(key)[0] for key in STATE}
    assert starts == set(SUBJECTS)  # b"" among them would be a key without a row


@pytest.mark.parametrize("start", SUBJECTS)
def test_values_have_their_fields_and_keys_no_raw_bytes(start: bytes) -> None:
    key = next(key for key in STATE if subjects._find(key)[0] == start)
    raw = codec.decode(STATE[key], SUBJECTS[start].kind)
    shown = subjects.plain(key, STATE[key])
    assert not subjects.title(key).startswith("key ")
    fields = getattr(raw, "__struct_fields__", None)
    assert fields is None or set(shown) == set(fields)


@pytest.mark.parametrize(
    ("key", "title"),
    [
        (b"claims/north-1", "claims/north-1"),
        (b"rules", "rules"),
        (b"account/" + ANN, f"account of key {ANN.hex()}"),
        (b"membership/due/" + (9).to_bytes(8, "big"), "membership/due of height 9"),
        (b"records/blame/" + ONE + b"east-1", f"records/blame of evidence {ONE.hex()}, host east-1"),
        (shared.state_key(ANN, TWO), f"shared of owner {ANN.hex()}, digest {TWO.hex()}"),
        (subjects.hop_key(ONE, 2), f"records/hop of agent {ONE.hex()}, epoch 2"),
        (trust.MEMBERS, "trust/members"),
        (b"account/" + ANN[:-1], f"key {(b'account/' + ANN[:-1]).hex()}"),
        (b"account/" + ANN + b"x", f"key {(b'account/' + ANN + b'x').hex()}"),
        (b"records/blame/" + ONE + b"\xff\x1b", f"key {(b'records/blame/' + ONE + bytes([255, 27])).hex()}"),
        (b"nothing/of/ours", "nothing/of/ours"),
        (b"", ""),
    ],
)
def test_keys_are_read_by_people(key: bytes, title: str) -> None:
    assert subjects.title(key) == title


def test_what_a_value_is_not_is_shown_raw() -> None:
    assert subjects.plain(b"claims/north-1", b"\xc1") == "c1"
    assert subjects.plain(b"claims/north-1", None) is None
    assert subjects.plain(records._decision_key("north-1", ONE), codec.encode(7)) == "07"
