"""Attackers among the ledger's clients: what they sign does not get in, and what gets in runs once."""

import pytest

from ledger import codec
from ledger.chain import Chain
from ledger.contracts.records import RecordHop
from ledger.errors import Misuse, PeerFault
from ledger.identity import Signed
from ledger.transaction import DOMAIN, MAX_TRANSACTION_BYTES, Transaction
from tests.helpers.founders import NAMES, call, decide, genesis, identity, join, revoke, vote

HOP = RecordHop(bytes(32), 1, "north-1", "east-1", bytes(32), bytes(32))


@pytest.fixture
def chain() -> Chain:
    return Chain(genesis())


def refuse(chain: Chain, raw: bytes, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        chain.take(raw, "mallory")
    assert len(chain.mempool) == 0
    assert chain.build(chain.best.header.timestamp + 1, "north-1") is None


def test_a_stranger_has_no_vote(chain: Chain) -> None:
    refuse(chain, call(chain.id, "stranger", 0, revoke("west")), Misuse, "no trusted organisation")
    refuse(chain, call(chain.id, "stranger", 3, revoke("west")), Misuse, "no trusted organisation")


def test_the_one_concerned_has_no_vote(chain: Chain) -> None:
    refuse(chain, call(chain.id, "west", 0, revoke("west")), Misuse, "no vote on its own")


def test_nobody_votes_twice(chain: Chain) -> None:
    vote(chain, ("north",), revoke("west"))
    refuse(chain, call(chain.id, "north", 1, revoke("west")), Misuse, "voted on this already")
    refuse(chain, call(chain.id, "north", 1, revoke("west", "another reason")), Misuse, "voted on this already")


def test_a_transaction_is_not_replayed(chain: Chain) -> None:
    raw = call(chain.id, "north", 0, join("upper"))
    decide(chain, raw)
    refuse(chain, raw, Misuse, "nonce 0; the account's next is 1")


def test_nor_replayed_on_another_chain(chain: Chain) -> None:
    refuse(chain, call(genesis(5).chain_id(), "north", 0, revoke("west")), PeerFault, "mallory: sent .* another chain")


def test_a_third_host_records_no_hop(chain: Chain) -> None:
    refuse(chain, call(chain.id, "south-1", 0, HOP, contract="records"), Misuse, "only north-1 or east-1")
    refuse(chain, call(chain.id, "north", 0, HOP, contract="records"), Misuse, "only north-1 or east-1")


def test_the_revoked_and_its_hosts_are_mute_at_once(chain: Chain) -> None:
    """In the very block that revokes it, too."""
    last = call(chain.id, "north-1", 0, HOP, contract="records")
    votes = [call(chain.id, voter, 0, revoke("north")) for voter in NAMES[1:4]]
    for raw in (*votes, last):
        chain.take(raw, "a")
    block = chain.build(chain.best.header.timestamp + 1, "east-1")
    assert block is not None and set(block.transactions) == set(votes)


def test_one_transaction_has_one_encoding(chain: Chain) -> None:
    """MessagePack would allow more: each is another hash for the same signed act."""
    signer = identity("north")
    transaction = Transaction(chain.id, signer.public, 0, "trust", codec.encode(revoke("west")))
    body = codec.encode(transaction)
    signed = signer.signed(DOMAIN, body)
    raw = codec.encode(signed)
    nonce_at = body.index(signer.public) + 32
    assert body[nonce_at] == 0
    long_nonce = body[:nonce_at] + b"\xcc\x00" + body[nonce_at + 1 :]
    long_frame = b"\xdc\x00\x03" + raw[1:]
    refuse(chain, codec.encode(signer.signed(DOMAIN, long_nonce)), PeerFault, "not canonically encoded")
    refuse(chain, long_frame, PeerFault, "not canonically encoded")
    refuse(chain, raw + b"\x00", PeerFault, "no Signed")
    chain.take(raw, "a client")


def test_a_signature_is_for_one_body_one_key_one_purpose(chain: Chain) -> None:
    signer, other = identity("north"), identity("east")
    body = codec.encode(Transaction(chain.id, signer.public, 0, "trust", codec.encode(revoke("west"))))
    refuse(chain, codec.encode(other.signed(DOMAIN, body)), PeerFault, "another key than its account's")
    refuse(chain, codec.encode(signer.signed("agentplatform/vote", body)), PeerFault, "bad signature")
    signature = other.sign(DOMAIN, body)
    refuse(chain, codec.encode(Signed(signer.public, body, signature)), PeerFault, "bad signature")


@pytest.mark.parametrize("raw", [b"", b"\x00", b"\xff" * 100, b"\x93\xc4\x00\xc4\x00\xc4\x00"])
def test_garbage_is_a_named_peers_fault(chain: Chain, raw: bytes) -> None:
    refuse(chain, raw, PeerFault, "mallory")


def test_a_large_one_is_refused_unopened(chain: Chain) -> None:
    refuse(chain, bytes(MAX_TRANSACTION_BYTES + 1), PeerFault, "at most")


def test_a_deep_one_is_refused(chain: Chain) -> None:
    signer = identity("north")
    bomb = b"\x91" * 50_000 + b"\xc0"
    refuse(chain, codec.encode(signer.signed(DOMAIN, bomb)), PeerFault, "mallory")
    act = codec.encode(
        signer.signed(DOMAIN, codec.encode(Transaction(chain.id, signer.public, 0, "trust", b"\x91" * 50_000)))
    )
    refuse(chain, act, Misuse, "the transaction")
