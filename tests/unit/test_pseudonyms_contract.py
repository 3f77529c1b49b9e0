"""Pseudonyms and shared data: anonymity, traceability, confidentiality, public verifiability. One test a promise."""

from hashlib import sha256

import msgspec
import pytest

from ledger import codec
from ledger.chain import Chain, founding_state
from ledger.contracts import accounts, pseudonyms, shared
from ledger.contracts.accounts import Create
from ledger.contracts.pseudonyms import SEALED_BYTES, Open, Register, registration, reveal
from ledger.contracts.shared import SHARE, WITHDRAW, Share, Withdraw, commit, consent
from ledger.contracts.state import Overlay
from ledger.contracts.trust import VoteJoin
from ledger.errors import Misuse, PeerFault
from ledger.genesis import Organisation
from ledger.identity import seal
from ledger.links.base import Passport
from tests.helpers.founders import CHAIN, act, call, decide, genesis, identity, organisation

AUDITOR = identity("auditor")
SALT = sha256(b"salt").digest()
CONTENT = b"blood group A"


def start(auditor: str | None = "auditor") -> Overlay:
    state = Overlay(founding_state(genesis(4, auditor=auditor)))
    for name in ("ann", "bob"):
        act(state, "north", "accounts", Create(identity(name).public, 5))
    return state


def register(owner: str = "ann", name: str = "nobody", seed: int = 1, chain: bytes = CHAIN) -> Register:
    return registration(identity(owner), identity(name), chain, AUDITOR.public, bytes([seed]) * 32)


def share(owner: str, content: bytes = CONTENT, salt: bytes = SALT, chain: bytes = CHAIN, by: str = "") -> Share:
    digest = commit(content, identity(owner).public, salt)
    return Share(identity(owner).public, digest, consent(identity(by or owner), chain, SHARE, digest))


def withdraw(owner: str, by: str = "") -> Withdraw:
    digest = commit(CONTENT, identity(owner).public, SALT)
    return Withdraw(identity(owner).public, digest, consent(identity(by or owner), CHAIN, WITHDRAW, digest))


def named(state: Overlay, name: str = "nobody") -> pseudonyms.Pseudonym:
    found = pseudonyms.find(state, identity(name).public)
    assert found is not None
    return found


# Traceability: the auditor, and only the auditor, and not in silence


def test_the_auditor_finds_the_owner_and_leaves_a_record() -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register(), 5)
    name = identity("nobody").public
    act(state, "auditor", "pseudonyms", Open(name, "order 17 of the court"), 9)
    assert pseudonyms.opening(state, name) == pseudonyms.Opening("order 17 of the court", 9)
    assert reveal(AUDITOR, CHAIN, name, named(state)) == identity("ann").public
    with pytest.raises(Misuse, match="was opened at height 9"):
        act(state, "auditor", "pseudonyms", Open(name, "again"))


@pytest.mark.parametrize("caller", ["north", "north-1", "ann"])
def test_nobody_else_opens(caller: str) -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register())
    with pytest.raises(Misuse, match="only the auditor"):
        act(state, caller, "pseudonyms", Open(identity("nobody").public, "I want to know"))
    for name in (caller, "nobody", "east-1"):
        with pytest.raises(PeerFault, match="cannot be opened"):
            reveal(identity(name), CHAIN, identity("nobody").public, named(state))


def test_an_opening_has_a_reason_and_a_name() -> None:
    state = start()
    with pytest.raises(Misuse, match="there is no pseudonym"):
        act(state, "auditor", "pseudonyms", Open(identity("nobody").public, "x"))
    act(state, "north-1", "pseudonyms", register())
    with pytest.raises(Misuse, match="gives its reason"):
        act(state, "auditor", "pseudonyms", Open(identity("nobody").public, " "))


def test_the_auditor_may_do_nothing_else() -> None:
    state = start()
    with pytest.raises(Misuse, match="only a trusted host registers"):
        act(state, "auditor", "pseudonyms", register())
    with pytest.raises(Misuse, match="has 0 units"):
        act(state, "auditor", "accounts", Create(identity("eve").public, 1))


def test_nobody_makes_the_auditor_mute_by_taking_its_key() -> None:
    """As a host that it gives up again: then the key would be one that lost its trust, and could record nothing."""
    state = start()
    upper = organisation("upper")
    stolen = Passport("upper-2", "upper", AUDITOR.public, "127.0.0.1:7999")
    for hosts in ((stolen,), (*upper.hosts, stolen)):
        with pytest.raises(Misuse, match="is the auditor's"):
            act(state, "north", "trust", VoteJoin(Organisation("upper", upper.key, hosts), "we know them"))
    with pytest.raises(Misuse, match="is the auditor's"):
        act(state, "north", "trust", VoteJoin(Organisation("upper", AUDITOR.public, upper.hosts), "we know them"))


def test_a_copied_seal_frames_nobody() -> None:
    """Eve puts Ann's seal to a name of her own; the auditor sees that Ann never signed for it, and who let it in."""
    state = start()
    act(state, "north-1", "pseudonyms", register())
    sealed, eve = named(state).sealed, identity("eves-name")
    act(
        state,
        "east-1",
        "pseudonyms",
        Register(eve.public, sealed, eve.sign(pseudonyms.NAME_DOMAIN, codec.encode((CHAIN, sealed)))),
    )
    with pytest.raises(PeerFault, match=r"east-1: .* did not sign for it"):
        reveal(AUDITOR, CHAIN, eve.public, named(state, "eves-name"))


def test_a_seal_of_rubbish_points_at_the_host_that_registered_it() -> None:
    state = start()
    eve = identity("eves-name")
    for number, sealed in enumerate((bytes(SEALED_BYTES), seal(bytes(96), AUDITOR.public, bytes(32)))):
        name = identity(f"eves-name-{number}")
        signature = name.sign(pseudonyms.NAME_DOMAIN, codec.encode((CHAIN, sealed)))
        act(state, "east-1", "pseudonyms", Register(name.public, sealed, signature))
        with pytest.raises(PeerFault, match="east-1"):
            reveal(AUDITOR, CHAIN, name.public, named(state, f"eves-name-{number}"))
    assert pseudonyms.find(state, eve.public) is None


@pytest.mark.parametrize(
    ("caller", "action", "message"),
    [
        ("ann", register(), "only a trusted host registers"),  # she would show who she is
        ("north", register(), "only a trusted host registers"),
        ("north-1", msgspec.structs.replace(register(), signature=bytes(64)), "did not sign this seal"),
        ("north-1", register(chain=bytes(32)), "did not sign this seal"),
        ("north-1", msgspec.structs.replace(register(), name=identity("eve").public), "did not sign this seal"),
        ("north-1", msgspec.structs.replace(register(), sealed=bytes(SEALED_BYTES - 1)), "a seal has 144 bytes"),
        ("north-1", msgspec.structs.replace(register(), sealed=bytes(60_000)), "a seal has 144 bytes"),
        ("north-1", register(name="east-1"), "is taken"),
    ],
)
def test_registrations_that_are_refused(caller: str, action: Register, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), caller, "pseudonyms", action)


def test_a_name_is_registered_once() -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register())
    with pytest.raises(Misuse, match="is taken"):
        act(state, "east-1", "pseudonyms", register("bob"))


def test_a_chain_without_an_auditor_has_no_pseudonyms() -> None:
    with pytest.raises(Misuse, match="names no auditor"):
        act(start(auditor=None), "north-1", "pseudonyms", register())


# Anonymity: what is on the chain tells nobody which names are one owner's


def test_what_is_on_the_chain_does_not_link_names_of_one_owner() -> None:
    """Two names of Ann and two of Bob, sharing the same content, look alike in all that the chain has of them."""
    state: dict[bytes, bytes] = {}
    chain = Chain(
        genesis(4, auditor="auditor"),
        on_append=lambda _, changes: state.update((key, value or b"") for key, value in changes.items()),
    )
    nonce = 0
    for number, owner in enumerate(("ann", "ann", "bob", "bob")):
        name, salt = f"name-{number}", bytes([number]) * 32
        for contract, action in (
            ("pseudonyms", register(owner, name, seed=number, chain=chain.id)),
            ("shared", share(name, CONTENT, salt, chain.id)),
        ):
            decide(chain, call(chain.id, "north-1", nonce, action, contract))
            nonce += 1
    everything = b"".join(key + value for key, value in state.items())
    for secret in (identity("ann").public, identity("bob").public, CONTENT):
        assert secret not in everything
    registered = [state[pseudonyms.state_key(identity(f"name-{n}").public)] for n in range(4)]
    digests = [commit(CONTENT, identity(f"name-{n}").public, bytes([n]) * 32) for n in range(4)]
    records = [state[shared.state_key(identity(f"name-{n}").public, digest)] for n, digest in enumerate(digests)]
    assert len({len(value) for value in registered}) == len({len(value) for value in records}) == 1
    seals = [codec.decode(value, pseudonyms.Pseudonym).sealed for value in registered]
    for one in range(4):
        for two in range(one):
            parts = {seals[one][i : i + 4] for i in range(SEALED_BYTES - 4)}
            assert not parts & {seals[two][i : i + 4] for i in range(SEALED_BYTES - 4)}
    assert len(set(digests)) == 4


def test_a_seed_that_is_used_twice_would_link_and_a_seal_says_nothing_to_a_guess() -> None:
    """The broken twin: with one seed for two names the first half of the seals is the same."""
    one, two = register(name="name-1", seed=1), register(name="name-2", seed=1)
    assert one.sealed[:32] == two.sealed[:32]
    assert register(name="name-1", seed=2).sealed[:32] != one.sealed[:32]


def test_a_name_serves_once() -> None:
    """Two things in one name could be linked."""
    state = start()
    act(state, "north-1", "pseudonyms", register(), 5)
    act(state, "north-1", "shared", share("nobody"), 6)
    assert named(state).used == 6
    with pytest.raises(Misuse, match="has served already"):
        act(state, "north-1", "shared", share("nobody", b"other"))


@pytest.mark.parametrize("carrier", ["ann", "bob", "north"])
def test_an_owner_does_not_give_itself_away(carrier: str) -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register())
    with pytest.raises(Misuse, match="only a trusted host carries"):
        act(state, carrier, "shared", share("nobody"))


# Shared data


def test_it_is_shared_verified_and_withdrawn() -> None:
    state = start()
    act(state, "ann", "shared", msgspec.structs.replace(share("ann"), signature=b""), 5)
    act(state, "north-1", "shared", share("bob"), 5)  # another carries it
    digest = commit(CONTENT, identity("ann").public, SALT)
    found = shared.find(state, identity("ann").public, digest)
    assert found == shared.Shared(identity("ann").public, digest, 5, None)
    assert shared.verify(found, CONTENT, SALT)
    assert not shared.verify(found, CONTENT + b"!", SALT) and not shared.verify(found, CONTENT, bytes(32))
    act(state, "north-1", "shared", withdraw("ann"), 8)
    gone = shared.find(state, identity("ann").public, digest)
    assert gone is not None and gone.withdrawn == 8 and not shared.verify(gone, CONTENT, SALT)
    for again in (withdraw("ann"), share("ann")):
        with pytest.raises(Misuse, match=r"cannot withdraw|was shared at height 5"):
            act(state, "ann", "shared", again)


def test_what_stands_under_a_pseudonym_is_withdrawn_under_it() -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register())
    act(state, "north-1", "shared", share("nobody"))
    with pytest.raises(Misuse, match="only a trusted host carries"):
        act(state, "ann", "shared", withdraw("nobody"))
    act(state, "east-1", "shared", withdraw("nobody"), 9)


@pytest.mark.parametrize(
    ("caller", "action", "message"),
    [
        ("bob", share("ann", by="bob"), "did not sign"),
        ("bob", msgspec.structs.replace(share("ann"), signature=b""), "did not sign"),
        ("bob", share("ann", chain=bytes(32)), "did not sign"),
        ("bob", share("stranger"), "no account was created"),
        ("bob", msgspec.structs.replace(share("ann"), digest=bytes(31)), "digest of 32 bytes"),
        ("bob", withdraw("ann"), "cannot withdraw"),
    ],
)
def test_nobody_shares_in_anothers_name(caller: str, action: object, message: str) -> None:
    with pytest.raises(Misuse, match=message):
        act(start(), caller, "shared", action)


def test_nobody_withdraws_anothers_data_and_a_consent_to_share_is_none_to_withdraw() -> None:
    state = start()
    act(state, "ann", "shared", share("ann"))
    bent = msgspec.structs.replace(withdraw("ann"), signature=share("ann").signature)
    for action in (withdraw("ann", by="bob"), bent, msgspec.structs.replace(bent, signature=b"")):
        with pytest.raises(Misuse, match="did not sign"):
            act(state, "bob", "shared", action)


def test_a_copied_digest_proves_nothing_for_the_thief_and_stops_nobody() -> None:
    """Eve sees Ann's transaction, and is first."""
    state = start()
    stolen = share("ann").digest
    act(state, "bob", "shared", Share(identity("bob").public, stolen, b""))
    act(state, "ann", "shared", share("ann"))
    theirs = shared.find(state, identity("bob").public, stolen)
    assert theirs is not None and not shared.verify(theirs, CONTENT, SALT)


def test_anyone_verifies_a_record_with_the_members_alone() -> None:
    """Public verifiability: a proof and the content, no state, no trust in who gave them."""
    chain = Chain(genesis(4))
    members, north = chain.members(), identity("north").public
    digest = commit(CONTENT, north, SALT)
    decide(chain, call(chain.id, "north", 0, Share(north, digest, b""), "shared"))
    proof = chain.prove(shared.state_key(north, digest))
    proof.check(members)
    assert proof.value is not None
    record = codec.decode(proof.value, shared.Shared)
    assert shared.verify(record, CONTENT, SALT)
    forged = codec.encode(msgspec.structs.replace(record, owner=identity("eve").public))
    with pytest.raises(PeerFault, match="does not lead"):
        msgspec.structs.replace(proof, value=forged).check(members)


def test_a_salt_keeps_a_short_content_from_being_guessed() -> None:
    owner = identity("ann").public
    digest = commit(b"yes", owner, SALT)
    assert digest not in {commit(guess, owner, bytes(32)) for guess in (b"yes", b"no")}
    with pytest.raises(Misuse, match="a salt has 32 bytes"):
        commit(b"yes", owner, b"")


def test_an_account_on_the_key_of_a_name_changes_nothing() -> None:
    state = start()
    act(state, "north-1", "pseudonyms", register())
    act(state, "bob", "accounts", Create(identity("nobody").public, 1))
    assert accounts.balance(state, identity("nobody").public) == 1
    with pytest.raises(Misuse, match="only a trusted host carries"):
        act(state, "bob", "shared", share("nobody"))
