"""The light client: what a liar may show it, and what it refuses. It knows the genesis, and nothing else."""

from collections.abc import Callable

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import codec, identity
from ledger.certificate import PREPARE, VOTE_DOMAIN, Ballot, Member, Members
from ledger.chain import Chain, UnknownRules
from ledger.contracts import trust
from ledger.errors import PeerFault, PlatformError
from ledger.evidence import Evidence
from ledger.light import MAX_EXPORT_BYTES, MEMBERS_KEY, Export, LightClient, read_export, verify_exports
from ledger.merkle import Proof, Tree
from ledger.proof import StateProof
from tests.helpers.founders import identity as key_of
from tests.helpers.shown_chain import ShownChain, signed_by

WEST = b"trust/organisation/west"
SHOWN = ShownChain()
OTHER = ShownChain("othernet")


def verify(*exports: Export) -> LightClient:
    return verify_exports(exports, SHOWN.chain.id)[0]


def test_from_the_genesis_to_a_record_by_way_of_every_change() -> None:
    raw = SHOWN.export(WEST, b"trust/organisation/nobody").encode()
    assert len(raw) < 8192  # small enough to send by mail
    client = verify(read_export(raw, "a file"))
    assert [term.after for term in client.terms] == [0, 1, 2]
    assert client.members_at(4) == SHOWN.chain.members()
    assert [client.members_at(height).version for height in (1, 2, 3, 4)] == [0, 1, 2, 2]
    west, nobody = SHOWN.export(WEST, b"trust/organisation/nobody").proofs
    assert codec.decode(west.value or b"", trust.Standing).status == trust.REVOKED
    assert nobody.value is None


def test_the_key_of_the_members_is_the_one_that_the_contract_uses() -> None:
    assert codec.decode(SHOWN.chain.state.get(MEMBERS_KEY) or b"", Members) == trust.members(SHOWN.chain.state)


def test_the_genesis_itself_can_be_proven_from() -> None:
    fresh = Chain(SHOWN.genesis)
    LightClient(SHOWN.genesis).check(fresh.prove(WEST))
    with pytest.raises(PeerFault, match="state root"):
        LightClient(SHOWN.genesis).check(replace(fresh.prove(WEST), value=None))
    with pytest.raises(PeerFault, match="another chain"):
        LightClient(OTHER.genesis).check(fresh.prove(WEST))


def test_one_certificate_vouches_for_all_headers_below() -> None:
    client = verify(SHOWN.export())
    headers = [header for header, _ in SHOWN.headers]
    newest = SHOWN.headers[-1][1]
    client.check_chain([Chain(SHOWN.genesis).best.header, *headers], newest)
    bent = [replace(headers[0], proposer="x"), *headers[1:]]
    for wrong in (headers[1:] + headers[:1], [headers[0], headers[2]], bent):
        with pytest.raises(PeerFault, match="stand on"):
            client.check_chain(wrong, newest)
    with pytest.raises(PeerFault, match="empty"):
        client.check_chain([], newest)
    with pytest.raises(PeerFault, match="something else"):
        client.check_chain(headers[:2], newest)


# Attacks. Each bends one good export.


def bend(export: Export, place: int, **fields: object) -> Export:
    changes = list(export.changes)
    changes[place] = replace(changes[place], **fields)
    return replace(export, changes=tuple(changes))


def forged_state(members: Members) -> tuple[bytes, Proof]:
    """A state in which `members` are the members."""
    tree = Tree()
    tree.apply(tree.compute({MEMBERS_KEY: codec.encode(members)}))
    return tree.root, tree.prove(MEMBERS_KEY)


def forged_members() -> Export:
    """The value alone is exchanged for members of the liar's own."""
    mine = Members(1, (Member("mallory-1", key_of("mallory").public),))
    return bend(SHOWN.export(WEST), 0, value=codec.encode(mine))


def members_decided_by_themselves() -> Export:
    """A whole header whose state names the liar's members, signed by those."""
    mine = Members(1, tuple(Member(f"mallory-{i}", key_of(f"mallory-{i}").public) for i in range(4)))
    root, proof = forged_state(mine)
    header = replace(SHOWN.headers[0][0], state_root=root, members_digest=mine.digest())
    change = StateProof(header, signed_by(mine, header), MEMBERS_KEY, codec.encode(mine), proof)
    return replace(SHOWN.export(WEST), changes=(change,))


def too_few_of_the_members() -> Export:
    mine = Members(1, (Member("mallory-1", key_of("mallory").public),))
    root, proof = forged_state(mine)
    header = replace(SHOWN.headers[0][0], state_root=root)
    certificate = signed_by(SHOWN.founders, header, ["north-1", "east-1"])
    return replace(
        SHOWN.export(WEST), changes=(StateProof(header, certificate, MEMBERS_KEY, codec.encode(mine), proof),)
    )


def former_members() -> Export:
    """All founders together, west too, sign another state of height 3, where they decide no more."""
    root, proof = forged_state(SHOWN.founders)
    header = replace(SHOWN.headers[2][0], state_root=root, members_digest=SHOWN.founders.digest())
    lie = StateProof(header, signed_by(SHOWN.founders, header), MEMBERS_KEY, codec.encode(SHOWN.founders), proof)
    return replace(SHOWN.export(), proofs=(lie,))


def former_members_in_a_header_of_the_new_ones() -> Export:
    """The header names the right members, but the certificate is of the founders."""
    good = SHOWN.export(WEST)
    lie = replace(good.proofs[0], certificate=signed_by(SHOWN.founders, good.proofs[0].header))
    return replace(good, proofs=(lie,))


def header_of_another_chain() -> Export:
    """The same founders, the same keys, the same heights: another genesis."""
    return replace(SHOWN.export(), proofs=OTHER.export(WEST).proofs)


def whole_other_chain() -> Export:
    return OTHER.export(WEST)


def proof_of_another_key() -> Export:
    good = SHOWN.export(WEST)
    return replace(good, proofs=(replace(good.proofs[0], key=b"trust/organisation/east"),))


def absence_of_a_present_key() -> Export:
    good = SHOWN.export(WEST)
    return replace(good, proofs=(replace(good.proofs[0], value=None),))


def absence_by_an_emptied_bucket() -> Export:
    good = SHOWN.export(WEST)
    hidden = Proof(b"", good.proofs[0].proof.siblings)
    return replace(good, proofs=(replace(good.proofs[0], value=None, proof=hidden),))


def old_value_under_the_new_header() -> Export:
    good = SHOWN.export(WEST)
    old = Chain(SHOWN.genesis).prove(WEST)
    return replace(good, proofs=(replace(good.proofs[0], value=old.value, proof=old.proof),))


def change_left_out() -> Export:
    good = SHOWN.export(WEST)
    return replace(good, changes=good.changes[1:])


def changes_of_another_key() -> Export:
    return replace(SHOWN.export(), changes=SHOWN.export(WEST).proofs)


def no_certificate() -> Export:
    good = SHOWN.export(WEST)
    return replace(good, proofs=(replace(good.proofs[0], certificate=None),))


def signer_counted_twice() -> Export:
    good = SHOWN.export(WEST)
    certificate = good.proofs[0].certificate
    assert certificate is not None
    doubled = replace(certificate, signatures=(certificate.signatures[0],) * len(certificate.signatures))
    return replace(good, proofs=(replace(good.proofs[0], certificate=doubled),))


ATTACKS: list[tuple[Callable[[], Export], str]] = [
    (forged_members, "state root"),
    (members_decided_by_themselves, "other members"),
    (too_few_of_the_members, "3 are needed"),
    (former_members, "other members"),
    (former_members_in_a_header_of_the_new_ones, "another membership version"),
    (header_of_another_chain, "another chain"),
    (whole_other_chain, "not of the trusted one"),
    (proof_of_another_key, "state root"),
    (absence_of_a_present_key, "state root"),
    (absence_by_an_emptied_bucket, "state root"),
    (old_value_under_the_new_header, "state root"),
    (change_left_out, "other members"),
    (changes_of_another_key, "no proof of trust/members"),
    (no_certificate, "no certificate"),
    (signer_counted_twice, "counts a signer twice"),
]


@pytest.mark.parametrize(("attack", "says"), ATTACKS, ids=lambda each: getattr(each, "__name__", ""))
def test_an_attack_is_refused_with_the_reason(attack: Callable[[], Export], says: str) -> None:
    raw = attack().encode()
    with pytest.raises(PeerFault, match=says):
        verify(read_export(raw, "a file"))


def test_former_members_who_hide_their_revocation_are_caught_by_who_knows_of_it() -> None:
    """A long-range attack: seen alone it cannot be told from the truth, beside an older proof it can."""
    root, proof = forged_state(SHOWN.founders)
    header = replace(SHOWN.headers[2][0], state_root=root, members_digest=SHOWN.founders.digest())
    lie = StateProof(header, signed_by(SHOWN.founders, header), MEMBERS_KEY, codec.encode(SHOWN.founders), proof)
    alone = replace(SHOWN.export(), changes=(), proofs=(lie,))
    verify(alone)
    for both in ((SHOWN.export(), alone), (alone, SHOWN.export())):
        with pytest.raises(PeerFault, match="other members"):
            verify(*both)
    client = verify(SHOWN.export())
    with pytest.raises(PeerFault, match="none that this chain has had"):
        other = Members(1, SHOWN.founders.members[1:])
        client.follow(replace(SHOWN.changes[0], value=codec.encode(other)))


def test_an_old_proof_still_holds_beside_a_newer_one() -> None:
    old = Export(1, codec.encode(SHOWN.genesis), (), (SHOWN.changes[0],))
    client = verify(SHOWN.export(WEST), old)
    client.follow(SHOWN.changes[0])  # known: nothing changes
    assert len(client.terms) == 3


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damaged_file_is_believed(data: st.DataObject) -> None:
    raw = bytearray(SHOWN.export(WEST).encode())
    if data.draw(st.booleans()):
        raw = raw[: data.draw(st.integers(0, len(raw) - 1))]
    else:
        raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(PlatformError):
        verify(read_export(bytes(raw), "a file"))


@pytest.mark.parametrize("raw", [b"", b"\xc1", b"\x90", bytes(100), b"{}", codec.encode([1, b"", (), (), ()])])
def test_garbage_is_refused(raw: bytes) -> None:
    with pytest.raises(PlatformError):
        verify(read_export(raw, "a file"))


def test_a_huge_file_and_another_format_are_refused_unread() -> None:
    with pytest.raises(PeerFault, match="more than"):
        read_export(bytes(MAX_EXPORT_BYTES + 1), "a file")
    with pytest.raises(PeerFault, match="format 2"):
        read_export(replace(SHOWN.export(), format=2).encode(), "a file")


# Evidence of double signing


def vote(host: str, height: int, version: int, word: str, **other: object) -> identity.Signed:
    ballot = Ballot(SHOWN.chain.id, version, PREPARE, height, 0, codec.digest(word))
    return key_of(host).signed(VOTE_DOMAIN, msgspec.structs.replace(ballot, **other).encode())


def accused(first: identity.Signed, second: identity.Signed, host: str = "west-1") -> Export:
    return replace(SHOWN.export(), evidence=(Evidence(host, VOTE_DOMAIN, first, second),))


def test_two_votes_for_one_place_are_evidence_also_against_a_former_member() -> None:
    _, (place,) = verify_exports([accused(vote("west-1", 1, 0, "a"), vote("west-1", 1, 0, "b"))], SHOWN.chain.id)
    assert (place.kind, place.height, place.view) == (PREPARE, 1, 0)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        (vote("west-1", 1, 0, "a"), vote("west-1", 1, 0, "a"), "same statement twice"),
        (vote("west-1", 1, 0, "a"), vote("west-1", 1, 0, "b", view=1), "two places"),
        (vote("west-1", 1, 0, "a"), vote("west-1", 1, 0, "b", kind="commit"), "two places"),
        (vote("west-1", 1, 0, "a"), vote("east-1", 1, 0, "b"), "two keys"),
        (vote("east-1", 1, 0, "a"), vote("east-1", 1, 0, "b"), "names west-1"),
        (vote("west-1", 2, 1, "a"), vote("west-1", 2, 1, "b"), "names west-1"),  # it was no member any more
        (vote("west-1", 1, 0, "a"), replace(vote("west-1", 1, 0, "b"), signature=bytes(64)), "does not hold"),
        (vote("west-1", 1, 0, "a", chain=bytes(32)), vote("west-1", 1, 0, "b", chain=bytes(32)), "another chain"),
        (vote("west-1", 1, 0, "a", kind="x"), vote("west-1", 1, 0, "b", kind="x"), "unknown kind"),
    ],
)
def test_an_honest_member_cannot_be_framed(first: identity.Signed, second: identity.Signed, says: str) -> None:
    with pytest.raises(PeerFault, match=says):
        verify_exports([accused(first, second)], SHOWN.chain.id)


def test_evidence_of_an_unknown_kind_is_refused() -> None:
    lie = Evidence("west-1", "agentplatform/transaction", vote("west-1", 1, 0, "a"), vote("west-1", 1, 0, "b"))
    with pytest.raises(PeerFault, match="agentplatform/transaction"):
        verify(replace(SHOWN.export(), evidence=(lie,)))


# Rules


def test_what_is_proven_by_rules_that_it_does_not_know_is_not_judged() -> None:
    """The header is decided, so it is no lie; but what its roots mean is not known here."""
    (proof,) = SHOWN.export(WEST).proofs
    old = LightClient(SHOWN.genesis, known_rules={0})
    with pytest.raises(UnknownRules, match=r"block 1 is made by rules of version 1, .* software knows 0: install"):
        old.follow(SHOWN.changes[0])
    knows = verify(SHOWN.export())
    knows._known_rules = {0}
    with pytest.raises(UnknownRules, match="block 3"):
        knows.check(proof)
    with pytest.raises(UnknownRules, match="block 3"):
        knows.check_chain([header for header, _ in SHOWN.headers], SHOWN.headers[-1][1])


def test_a_liar_cannot_hide_behind_rules_that_are_not_known() -> None:
    """A version that nobody decided is a false header, not one of the future."""
    (proof,) = SHOWN.export(WEST).proofs
    with pytest.raises(PeerFault, match="certificate of something else"):
        verify(SHOWN.export()).check(replace(proof, header=replace(proof.header, rules=99)))
