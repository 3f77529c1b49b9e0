"""What is written to a disk is sealed with a key of its owner's own. Pure: randomness is an argument.

A host has secrets, of which the first seals and all open. From a secret and an owner's public key follows the owner's
key (BLAKE2b, keyed), from that and 24 random bytes the key of one blob, which seals nothing else (AES-256-GCM): so it
does not matter how many blobs there are. A sealed blob is

    version: 1 byte | secret: 8 | owner: 32 | random: 24 | ciphertext | tag: 16

and opens only under what it was bound to, such as the agent and the place that it was written for.

A file of a spool has a key of its own too, which follows from its name: AES-256-CTR, so it is as long as what is in it,
and each of its pieces is sealed by itself. What is in it is known by its digests, which lie in sealed blobs.
"""

import hashlib
from collections.abc import Sequence
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR

from ledger.errors import Misuse

SECRET_BYTES = 32
OWNER_BYTES = 32
SALT_BYTES = 24
NOBODY = bytes(OWNER_BYTES)  # the host itself, where nothing is one owner's
_VERSION = b"\1"
_ID_BYTES = 8
_HEAD_BYTES = 1 + _ID_BYTES + OWNER_BYTES + SALT_BYTES
OVERHEAD = _HEAD_BYTES + 16
FILE_SALT_BYTES = 12
_FILE_ID_BYTES = 4  # of a secret, in the name of a file: 4 and 12 bytes, in hexadecimal
_UNSEALED = bytes(_FILE_ID_BYTES)
_BLOCK_BYTES = 16
_NONCE = bytes(12)  # one key, one blob


class Keyring:
    def __init__(self, secrets: Sequence[bytes]) -> None:
        """The first secret seals."""
        if not secrets or any(len(secret) != SECRET_BYTES for secret in secrets):
            raise Misuse(f"data is sealed with one or more secrets of {SECRET_BYTES} bytes")
        self.secrets = tuple(secrets)
        self._by_id = {_id(secret): secret for secret in secrets}
        self._first = _id(secrets[0])

    def seal(self, owner: bytes, bound: bytes, raw: bytes, salt: bytes) -> bytes:
        """`salt`: random, SALT_BYTES of it, and never used again."""
        head = b"".join((_VERSION, self._first, owner, salt))
        cipher = AESGCM(_hash(salt, _owner_key(self._by_id[self._first], owner)))
        return head + cipher.encrypt(_NONCE, raw, head + bound)

    def name_file(self, salt: bytes, sealed: bool = True) -> str:
        """For a new file. `salt`: random, FILE_SALT_BYTES of it."""
        return ((self._first[:_FILE_ID_BYTES] if sealed else _UNSEALED) + salt).hex()

    def file_key(self, name: str) -> bytes:
        """For `crypt`; empty for a file that is not sealed. Raises Misuse for one that was sealed with another key."""
        short = bytes.fromhex(name[: 2 * _FILE_ID_BYTES])
        if short == _UNSEALED:
            return b""
        for known, secret in self._by_id.items():
            if known.startswith(short):
                return _hash(b"file " + name.encode(), secret)
        raise Misuse(f"the file {name} was sealed with another key than this host has; put that one back (data.key)")

    def open(self, bound: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """The owner and what was sealed. Raises Misuse for what was changed, is out of its place, or another key's."""
        head = sealed[:_HEAD_BYTES]
        secret = self._by_id.get(head[1 : 1 + _ID_BYTES])
        if len(head) < _HEAD_BYTES or head[:1] != _VERSION:
            raise Misuse("it was not sealed: it was written from outside, or its disk is damaged")
        if secret is None:
            raise Misuse("it was sealed with another key than this host has; put that one back (data.key)")
        owner, salt = head[1 + _ID_BYTES : -SALT_BYTES], head[-SALT_BYTES:]
        try:
            opened = AESGCM(_hash(salt, _owner_key(secret, owner))).decrypt(_NONCE, sealed[_HEAD_BYTES:], head + bound)
        except InvalidTag:
            raise Misuse("it was changed, or put where it was not written; restore a backup") from None
        return owner, opened


def crypt(key: bytes, at: int, body: bytes | bytearray) -> bytes | bytearray:
    """Seals, or opens, what lies at the byte `at` of a file, a multiple of 16. With an empty key it stays as it is."""
    if not key:
        return body
    return Cipher(AES(key), CTR((at // _BLOCK_BYTES).to_bytes(_BLOCK_BYTES, "big"))).encryptor().update(body)


def _id(secret: bytes) -> bytes:
    return hashlib.blake2b(b"id", key=secret, digest_size=_ID_BYTES, person=b"agentplatform").digest()


@lru_cache(maxsize=4096)
def _owner_key(secret: bytes, owner: bytes) -> bytes:
    return _hash(owner, secret)


def _hash(value: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(value, key=key, digest_size=32, person=b"agentplatform").digest()
