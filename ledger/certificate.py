"""Members, and the certificates by which a quorum of them speaks. Pure."""

from collections.abc import Callable
from typing import Annotated

import msgspec

from ledger import codec, identity
from ledger.errors import PeerFault

VOTE_DOMAIN = "agentplatform/vote"
PREPARE = "prepare"
COMMIT = "commit"

Verifier = Callable[[bytes, str, bytes, bytes], bool]  # like identity.verify; the simulator has a fast twin


class Member(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    host: str
    key: bytes


class Members(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The replicas that decide a height, in the order in which they lead. `version` counts the changes of the set."""

    version: int
    members: tuple[Member, ...]

    def __post_init__(self) -> None:
        if len({member.host for member in self.members}) != len(self.members):
            raise ValueError("a host is named twice among the members")
        if len({member.key for member in self.members}) != len(self.members):
            raise ValueError("a key is named twice among the members: it would vote twice")

    @property
    def n(self) -> int:
        return len(self.members)

    @property
    def f(self) -> int:
        """Faulty members that the set withstands."""
        return (self.n - 1) // 3

    @property
    def quorum(self) -> int:
        """floor((n+f)/2) + 1; it is 2f+1 only when n = 3f+1."""
        return (self.n + self.f) // 2 + 1

    def key_of(self, host: str) -> bytes | None:
        return next((member.key for member in self.members if member.host == host), None)

    def digest(self) -> bytes:
        return codec.digest("agentplatform/members", codec.encode(self))


class Ballot(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a PREPARE or a COMMIT signs. It is small: replicas keep some before they can judge them."""

    chain: codec.Digest
    members_version: int
    kind: Annotated[str, msgspec.Meta(max_length=16)]  # PREPARE | COMMIT
    height: int
    view: int
    digest: codec.Digest

    def encode(self) -> bytes:
        return codec.encode(self)


class Certificate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A ballot and the signatures of a quorum, sorted by host."""

    ballot: Ballot
    signatures: tuple[tuple[str, identity.Signature], ...]

    def check(self, members: Members, verify: Verifier = identity.verify) -> None:
        """Raises PeerFault unless a quorum of `members` signed this ballot, each counted once."""
        signers = [host for host, _ in self.signatures]
        where = f"certificate of height {self.ballot.height}"
        if signers != sorted(set(signers)):
            raise PeerFault(where, "counts a signer twice, or is not sorted")
        if len(signers) < members.quorum:
            raise PeerFault(where, f"has {len(signers)} signatures; {members.quorum} are needed")
        if self.ballot.members_version != members.version:
            raise PeerFault(where, "is of another membership version")
        body = self.ballot.encode()
        for host, signature in self.signatures:
            key = members.key_of(host)
            if key is None or not verify(key, VOTE_DOMAIN, body, signature):
                raise PeerFault(where, f"has a signature of {host} that does not hold")
