"""Seals: for one key alone, unchanged, and alike to none other."""

import pytest
from nacl import bindings

from ledger.errors import Misuse, PeerFault
from ledger.identity import SEAL_BYTES, seal
from tests.helpers.founders import identity

AUDITOR = identity("auditor")


def test_the_owner_of_the_key_opens_it() -> None:
    sealed = seal(b"who I am", AUDITOR.public, bytes(32))
    assert AUDITOR.unseal(sealed) == b"who I am"
    assert len(sealed) == SEAL_BYTES + 8 and sealed == seal(b"who I am", AUDITOR.public, bytes(32))


def test_it_is_libsodiums_sealed_box() -> None:
    """So that an auditor needs none of our code."""
    theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(AUDITOR.public)
    assert AUDITOR.unseal(bindings.crypto_box_seal(b"who I am", theirs)) == b"who I am"


def test_another_key_or_a_changed_byte_opens_nothing() -> None:
    sealed = seal(b"who I am", AUDITOR.public, bytes(32))
    with pytest.raises(PeerFault, match="not sealed to this key"):
        identity("mallory").unseal(sealed)
    for place in range(0, len(sealed), 5):
        bent = sealed[:place] + bytes([sealed[place] ^ 1]) + sealed[place + 1 :]
        with pytest.raises(PeerFault):
            AUDITOR.unseal(bent)
    for short in (b"", sealed[:10], sealed[:-1]):
        with pytest.raises(PeerFault):
            AUDITOR.unseal(short)


def test_other_seeds_give_other_seals() -> None:
    one, two = (seal(b"who I am", AUDITOR.public, bytes([n]) * 32) for n in (1, 2))
    assert not set(one[i : i + 8] for i in range(len(one) - 8)) & set(two[i : i + 8] for i in range(len(two) - 8))


def test_what_cannot_be_sealed() -> None:
    with pytest.raises(Misuse, match="a seed of 32 bytes"):
        seal(b"x", AUDITOR.public, b"short")
    for bad in (bytes(32), b"\xff" * 32, b"short"):
        with pytest.raises(Misuse, match="no Ed25519 public key"):
            seal(b"x", bad, bytes(32))
