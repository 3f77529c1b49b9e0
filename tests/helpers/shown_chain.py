"""A chain whose members change twice, and what its hosts and its former members can show of it."""

import msgspec

from ledger import codec
from ledger.block import Header
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.chain import Chain
from ledger.light import FORMAT, MEMBERS_KEY, Export
from ledger.proof import StateProof
from tests.helpers.founders import NAMES, genesis, identity, join, revoke, vote


class ShownChain:
    """west is revoked at height 1; upper joins at 2; a proposal is opened at 3."""

    def __init__(self, name: str = "testnet") -> None:
        self.genesis = msgspec.structs.replace(genesis(4), name=name)
        self.changes: list[StateProof] = []
        self.headers: list[tuple[Header, Certificate]] = []
        self.chain = Chain(self.genesis, on_append=self._appended)
        self.founders = self.chain.members()
        vote(self.chain, NAMES[:3], revoke("west"))
        vote(self.chain, NAMES[:3], join("upper"))
        vote(self.chain, NAMES[:1], join("lower"))

    def _appended(self, block: object, changes: dict[bytes, bytes | None]) -> None:
        assert self.chain.certificate is not None
        self.headers.append((self.chain.best.header, self.chain.certificate))
        if MEMBERS_KEY in changes:
            self.changes.append(self.chain.prove(MEMBERS_KEY))

    def export(self, *keys: bytes) -> Export:
        proofs = tuple(self.chain.prove(key) for key in keys)
        return Export(FORMAT, codec.encode(self.genesis), tuple(self.changes), proofs)


def signed_by(members: Members, header: Header, hosts: list[str] | None = None) -> Certificate:
    """What these members (all of them, if they are not named) can sign if they all want to."""
    ballot = Ballot(header.chain, members.version, COMMIT, header.height, 0, header.digest())
    chosen = sorted(hosts or [member.host for member in members.members])
    return Certificate(ballot, tuple((host, identity(host).sign(VOTE_DOMAIN, ballot.encode())) for host in chosen))
