"""Who may say that an agent is the clone of another: certificates as an attacker would forge them."""

import msgspec
import pytest

from agentplatform.parcel.manifest import (
    CLONE_DOMAIN,
    Birth,
    Descent,
    agent_id,
    certify_clone,
    give_birth,
    open_birth,
    open_certificate,
)
from ledger import codec
from ledger.errors import PeerFault
from ledger.identity import Identity, Signed

OWNER, MALLORY = Identity(b"o" * 32), Identity(b"m" * 32)
NORTH, SOUTH = Identity(b"n" * 32), Identity(b"s" * 32)
CHAIN, CODE, SALT = b"c" * 32, b"k" * 32, b"1" * 16
KEYS = {("north", NORTH.public), ("south", SOUTH.public)}  # every key that the ledger ever had, by host
ORIGIN = give_birth("ada", OWNER, bytes(16), CODE, "module:Ada", False, custody="held", kept=False)
ADA = open_birth(ORIGIN, "test").agent


def was_key_of(host: str, key: bytes) -> bool:
    return (host, key) in KEYS


def opened(raw: bytes) -> Birth:
    return open_certificate(raw, "the sender", CHAIN, was_key_of)


def forged(identity: Identity = NORTH, domain: str = CLONE_DOMAIN, **fields: object) -> bytes:
    descent = msgspec.structs.replace(Descent(CHAIN, ORIGIN, ADA, "north", SALT), **fields)
    return codec.encode(identity.signed(domain, codec.encode(descent)))


def test_a_clone_is_what_its_origin_is_under_an_id_of_its_own_and_in_local_custody() -> None:
    raw = certify_clone(ORIGIN, ADA, SALT, CHAIN, "north", NORTH)
    assert raw == forged()
    birth = opened(raw)
    assert birth == msgspec.structs.replace(
        open_birth(ORIGIN, "test"), agent=agent_id("ada", OWNER.public, SALT), salt=SALT, custody="local"
    )


def test_a_clone_of_a_clone_names_the_owners_certificate_and_does_not_grow() -> None:
    first = certify_clone(ORIGIN, ADA, SALT, CHAIN, "north", NORTH)
    second = certify_clone(first, opened(first).agent, b"2" * 16, CHAIN, "south", SOUTH)
    assert len(second) <= len(first) + 1
    birth = opened(second)
    assert (birth.owner, birth.code) == (OWNER.public, CODE) and birth.agent not in (ADA, opened(first).agent)
    descent = codec.decode(codec.decode(second, Signed).body, Descent)
    assert (descent.parent, descent.host, descent.origin) == (opened(first).agent, "south", ORIGIN)


FORGERIES = {
    "in another host's name": (forged(SOUTH), "signed by a key that it never had"),
    "by a key of no host": (forged(MALLORY), "signed by a key that it never had"),
    "of a host that nobody knows": (forged(host="atlantis"), "signed by a key that it never had"),
    "by the owner, as a birth": (forged(OWNER, domain="agentplatform/birth"), "are no Birth"),
    "of another consortium": (forged(chain=b"x" * 32), "belongs to another consortium"),
    "with an origin that the thief signed": (
        forged(origin=codec.encode(MALLORY.signed("agentplatform/birth", codec.decode(ORIGIN, Signed).body))),
        "its owner did not sign",
    ),
    "with a clone in the place of the origin": (forged(origin=forged()), "bad signature"),
    "with an origin of another owner's": (
        forged(origin=give_birth("eve", MALLORY, bytes(16), CODE, "module:Ada", False)),
        "not of the line",
    ),
    "of a parent that is none": (forged(parent="ada"), "not of the line"),
    "under its origin's id": (forged(salt=bytes(16)), "no salt of its own"),
    "with a short salt": (forged(salt=b"1"), "no salt of its own"),
}


@pytest.mark.parametrize(("raw", "words"), FORGERIES.values(), ids=FORGERIES)
def test_forgeries_are_refused(raw: bytes, words: str) -> None:
    with pytest.raises(PeerFault, match=words):
        opened(raw)


def test_a_changed_certificate_is_refused() -> None:
    raw = bytearray(forged())
    for at in range(0, len(raw), 7):
        raw[at] ^= 1
        with pytest.raises(PeerFault):
            opened(bytes(raw))
        raw[at] ^= 1
    assert opened(bytes(raw))


def test_a_client_cannot_create_a_clone() -> None:
    with pytest.raises(PeerFault, match="bad signature"):
        open_birth(forged(), "the client")
