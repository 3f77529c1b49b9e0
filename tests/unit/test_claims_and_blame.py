"""Claims of hosts, decisions and blame: who may say what about whom, and what is proven."""

from hashlib import sha256

import msgspec
import pytest

from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot
from ledger.chain import founding_state
from ledger.contracts import claims, records
from ledger.contracts.claims import MAX_FACTS, MAX_VALUE, Claim, Claimed
from ledger.contracts.records import Blame, RecordBlame, RecordDecision, RecordDoubleSigning
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from ledger.evidence import Evidence
from ledger.identity import Signed
from tests.helpers.founders import CHAIN, NAMES, act, genesis, identity, revoke

FACTS = (("jail", "landlock, seccomp"), ("version", "0.1.0"))
ONE, TWO = sha256(b"one").digest(), sha256(b"two").digest()


def start() -> Overlay:
    return Overlay(founding_state(genesis(4)))


def ballot(digest: bytes, height: int = 4, chain: bytes = CHAIN) -> bytes:
    return Ballot(chain, 0, COMMIT, height, 0, digest).encode()


def double(
    first: bytes = ballot(ONE), second: bytes = ballot(TWO), signer: str = "west-1", accused: str = "west-1"
) -> RecordDoubleSigning:
    signed = [identity(signer).signed(VOTE_DOMAIN, body) for body in (first, second)]
    return RecordDoubleSigning(Evidence(accused, VOTE_DOMAIN, *signed))


def test_a_host_claims_about_itself_and_the_last_claim_counts() -> None:
    state = start()
    act(state, "west-1", "claims", Claim(FACTS), 5)
    assert claims.of(state, "west-1") == Claimed(FACTS, 5) and claims.of(state, "north-1") is None
    act(state, "west-1", "claims", Claim(FACTS[1:]), 6)
    assert claims.of(state, "west-1") == Claimed(FACTS[1:], 6)


def test_what_the_revoked_claimed_is_not_shown() -> None:
    state = start()
    act(state, "west-1", "claims", Claim(FACTS))
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke("west"))
    assert claims.of(state, "west-1") is None


@pytest.mark.parametrize(
    ("caller", "facts", "message"),
    [
        ("west", FACTS, "only a trusted host"),
        ("west-1", tuple((f"f{n:02}", "x") for n in range(MAX_FACTS + 1)), "at most 16 facts"),
        ("west-1", FACTS[::-1], "sorted by name"),
        ("west-1", (FACTS[0], FACTS[0]), "each name once"),
        ("west-1", (("Jail", "x"),), "no name of a fact"),
        ("west-1", (("j" * 33, "x"),), "no name of a fact"),
        ("west-1", (("jail", "x" * (MAX_VALUE + 1)),), "at most 200"),
        ("west-1", (("jail", "\x1b[31m"),), "printable"),  # would play with the terminal of who reads it
    ],
)
def test_claims_that_are_refused(caller: str, facts: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), caller, "claims", Claim(facts))


def test_a_decision_is_recorded_by_the_host_that_made_it_once() -> None:
    state = start()
    action = RecordDecision(ONE, TWO)
    act(state, "west-1", "records", action, 5)
    assert records.decision(state, "west-1", TWO) == records.Decision(action, 5, "west-1")
    assert records.decision(state, "north-1", TWO) is None
    with pytest.raises(Misuse, match="recorded at height 5"):
        act(state, "west-1", "records", action)
    with pytest.raises(Misuse, match="by the host that made it"):
        act(state, "west", "records", action)
    act(state, "north-1", "records", action)  # whoever copies the digest does not take its place


def test_signing_twice_is_proven_by_the_chain() -> None:
    state = start()
    action = double()
    act(state, "north-1", "records", action, 9)
    digest = records.evidence_digest(action.evidence)
    found = records.blame(state, "west-1", digest)
    assert found is not None and (found.proven, found.height, found.by) == (True, 9, "north-1")
    with pytest.raises(Misuse, match="accused of this at height 9"):
        act(state, "east-1", "records", double(ballot(TWO), ballot(ONE)))  # the same, the other way round


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (double(second=ballot(ONE)), "the same statement twice"),
        (double(second=ballot(TWO, height=5)), "two places"),
        (double(accused="north-1"), "never was north-1's"),
        (double(signer="mallory"), "never was west-1's"),
        (double(signer="west"), "never was west-1's"),
        (double(ballot(ONE, chain=ONE), ballot(TWO, chain=ONE)), "another chain"),
        (double(b"\xc0", b"\xc1"), "evidence"),
        (RecordBlame("nowhere", "x", ONE), "not known to the chain"),
        (RecordBlame("west-1", " ", ONE), "gives its reason"),
    ],
)
def test_nobody_is_blamed_for_what_is_none(action: object, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), "north-1", "records", action)


def test_a_forged_signature_proves_nothing() -> None:
    evidence = double().evidence
    for place in ("first", "second"):
        true = getattr(evidence, place)
        for forged in (Signed(true.signer, true.body, bytes(64)), identity("eve").signed("x", true.body)):
            bent = msgspec.structs.replace(evidence, **{place: msgspec.structs.replace(forged, signer=true.signer)})
            with pytest.raises(Misuse, match="does not hold"):
                act(start(), "north-1", "records", RecordDoubleSigning(bent))


def test_a_word_alone_is_not_proven_and_does_not_stand_in_the_way_of_proof() -> None:
    state = start()
    digest = records.evidence_digest(double().evidence)
    act(state, "north", "records", RecordBlame("west-1", "it lost mail", digest), 5)
    assert records.blame(state, "west-1", digest) == Blame("west-1", "it lost mail", digest, False, 5, "north")
    act(state, "east-1", "records", double(), 6)
    found = records.blame(state, "west-1", digest)
    assert found is not None and found.proven
    with pytest.raises(Misuse, match="accused of this"):
        act(state, "north", "records", RecordBlame("west-1", "it lost mail", digest))


def test_strangers_and_the_revoked_accuse_nobody() -> None:
    state = start()
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke("west"))
    for caller in ("west-1", "mallory"):
        with pytest.raises(Misuse, match="may transact"):
            act(state, caller, "records", RecordBlame("north-1", "revenge", ONE))
    act(state, "north", "records", double())  # the revoked one can still be proven wrong
