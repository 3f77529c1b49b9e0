"""Ed25519 keys (RFC 8032, through libsodium): sign and verify, with a domain for every purpose. Pure."""

import msgspec
from nacl import bindings
from nacl.exceptions import BadSignatureError

from ledger.errors import Misuse, PeerFault

KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64


class Identity:
    """A private key. Its 32-byte seed is all there is to keep."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise Misuse(f"a key's seed has {SEED_BYTES} bytes, not {len(seed)}")
        self.seed = seed
        self.public, self._secret = bindings.crypto_sign_seed_keypair(seed)

    def sign(self, domain: str, body: bytes) -> bytes:
        """The 64-byte signature of `body` for `domain` alone: no other domain accepts it."""
        return bindings.crypto_sign(_message(domain, body), self._secret)[:SIGNATURE_BYTES]

    def signed(self, domain: str, body: bytes) -> "Signed":
        return Signed(self.public, body, self.sign(domain, body))

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:8]}..)"


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A body and who signed it. The body stays bytes until `verify` has passed (verify, then parse)."""

    signer: bytes
    body: bytes
    signature: bytes

    def verify(self, domain: str, sender: str = "sender unknown") -> bytes:
        """The body, when `signer` signed it for `domain`; else PeerFault. Whether the signer may is asked elsewhere."""
        if not verify(self.signer, domain, self.body, self.signature):
            raise PeerFault(sender, f"sent a {domain} with a bad signature")
        return self.body


def verify(public: bytes, domain: str, body: bytes, signature: bytes) -> bool:
    if len(public) != KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        bindings.crypto_sign_open(signature + _message(domain, body), public)
    except BadSignatureError:
        return False
    return True


def _message(domain: str, body: bytes) -> bytes:
    return domain.encode() + b"\0" + body
