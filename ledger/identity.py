"""Ed25519 keys (RFC 8032, through libsodium): sign and verify, with a domain for every purpose; seal to a key. Pure.

A seal is libsodium's sealed box (X25519, XSalsa20-Poly1305) to the key that corresponds to the Ed25519 key (the two
curves are birationally equivalent, RFC 7748, 4.1), so that who signs with a key can also open what is sealed to it.
"""

from hashlib import blake2b
from typing import Annotated

import msgspec
from nacl import bindings
from nacl.exceptions import BadSignatureError, CryptoError

from ledger.errors import Misuse, PeerFault

KEY_BYTES = 32
SEED_BYTES = 32
SIGNATURE_BYTES = 64
Signature = Annotated[bytes, msgspec.Meta(max_length=SIGNATURE_BYTES)]  # as a field of a type; may be left empty
SEAL_BYTES = bindings.crypto_box_SEALBYTES  # by which a sealed content is longer


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

    def unseal(self, sealed: bytes) -> bytes:
        """What was sealed to this key. Raises PeerFault for anything else."""
        secret = bindings.crypto_sign_ed25519_sk_to_curve25519(self._secret)
        public = bindings.crypto_sign_ed25519_pk_to_curve25519(self.public)
        try:
            return bindings.crypto_box_seal_open(sealed, public, secret)
        except (CryptoError, ValueError, TypeError):
            raise PeerFault("sender unknown", f"sent {len(sealed)} bytes that are not sealed to this key") from None

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:8]}..)"


class Signed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
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


def seal(content: bytes, to: bytes, seed: bytes) -> bytes:
    """`content` for the owner of the key `to` alone. `seed`: 32 random bytes that are used once and forgotten.

    The seed is an argument because this module draws nothing (the caller uses `secrets` or `os.urandom`). Who knows
    it can see whether a guessed content is the sealed one. Raises Misuse for a key that nothing can be sealed to.
    """
    if len(seed) != SEED_BYTES:
        raise Misuse(f"a seal needs a seed of {SEED_BYTES} bytes, not {len(seed)}")
    try:
        theirs = bindings.crypto_sign_ed25519_pk_to_curve25519(to)
    except (CryptoError, ValueError, TypeError):
        raise Misuse(f"{to.hex()[:16]} is no Ed25519 public key; nothing can be sealed to it") from None
    public, secret = bindings.crypto_box_seed_keypair(seed)
    nonce = blake2b(public + theirs, digest_size=bindings.crypto_box_NONCEBYTES).digest()
    return public + bindings.crypto_box(content, nonce, theirs, secret)


def _message(domain: str, body: bytes) -> bytes:
    return domain.encode() + b"\0" + body
