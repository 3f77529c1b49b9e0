"""A light client: checks what is shown to it by the genesis and the changes of members alone; it holds no state. Pure.

Who decides a height stands in the state (MEMBERS_KEY), and the root of that state in a header that the members
BEFORE the change decided. So a chain of such proofs, one for each change, leads from the genesis to today's members,
and those vouch for any header. What it cannot see: changes that it is not shown. Whoever collects the keys of a
quorum of FORMER members can show a chain that leaves out how they lost their seats (a long-range attack). So keep
the client, or the newest proof that you trust, and let it follow that first: what contradicts it is then refused.

What a root of the state means is a matter of the rules by which the block was made; their version stands in the header.
Of rules that this software does not know it says so (UnknownRules), once it is clear that members decided that header.
"""

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ledger import codec
from ledger.block import KNOWN_RULES, Header
from ledger.certificate import Certificate, Members
from ledger.chain import Chain, UnknownRules
from ledger.contracts import trust
from ledger.errors import PeerFault
from ledger.evidence import Evidence, Place
from ledger.genesis import DOMAIN as GENESIS_DOMAIN
from ledger.genesis import Genesis
from ledger.proof import StateProof, check_decided

MEMBERS_KEY = trust.MEMBERS
FORMAT = 1
MAX_EXPORT_BYTES = 16 * 1024 * 1024  # with 4 members, some 10,000 changes of them


class Export(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A file that proves something to someone who knows the chain's id and nothing else."""

    format: int
    genesis: bytes  # encoded; its digest is the chain's id
    changes: tuple[StateProof, ...]  # of MEMBERS_KEY: every change of members since genesis, oldest first
    proofs: tuple[StateProof, ...] = ()
    evidence: tuple[Evidence, ...] = ()

    def encode(self) -> bytes:
        return codec.encode(self)

    def founding(self) -> Genesis:
        """The genesis that the file is about. Only its id says whether it is the one you trust."""
        return codec.decode_canonical(self.genesis, Genesis, "the genesis in it")


class Term(NamedTuple):
    """Who decides the heights above `after`, until the next term begins."""

    after: int
    members: Members


class LightClient:
    def __init__(self, genesis: Genesis, known_rules: Collection[int] = KNOWN_RULES) -> None:
        """`genesis` is what is trusted: its founders' signatures, or its id, are checked by whoever gives it."""
        self._known_rules = known_rules
        chain = Chain(genesis)
        self.chain = chain.id
        self._genesis = chain.best.header
        self._terms = [Term(0, chain.members())]

    def members_at(self, height: int) -> Members:
        """Those who decide `height`, by the changes that were followed so far."""
        return next(term.members for term in reversed(self._terms) if term.after < height or term.after == 0)

    @property
    def terms(self) -> tuple[Term, ...]:
        return tuple(self._terms)

    def follow(self, change: StateProof) -> None:
        """Takes the next change of members. Raises PeerFault for a false one, or one that contradicts a known one."""
        where, height = "a change of members", change.header.height
        if change.key != MEMBERS_KEY or change.value is None:
            raise PeerFault(where, f"is no proof of {MEMBERS_KEY.decode()}")
        members = codec.decode_canonical(change.value, Members, where)
        last = self._terms[-1]
        if height <= last.after:
            if Term(height, members) not in self._terms:
                raise PeerFault(where, f"at height {height} is none that this chain has had")
            return
        self.check(change)
        if members.version <= last.members.version or not members.members:
            raise PeerFault(where, f"at height {height} does not come after version {last.members.version}")
        self._terms.append(Term(height, members))

    def check(self, proof: StateProof) -> None:
        """Raises PeerFault unless the chain's state had this value (or none) under this key, after that height."""
        self.check_header(proof.header, proof.certificate)
        proof.check_path()

    def check_header(self, header: Header, certificate: Certificate | None) -> None:
        """Raises PeerFault unless `header` is the genesis' or was decided by the members of its own height.

        Raises UnknownRules if it was, by rules that this software does not know: it is neither true nor false here.
        """
        where = f"header {header.height}"
        if header.chain != self.chain:
            raise PeerFault(where, "is of another chain")
        if certificate is None:
            if header != self._genesis:
                raise PeerFault(where, "has no certificate; only the genesis block needs none")
            return
        if header.height <= 0:
            raise PeerFault(where, "has a certificate; the first block that members decide is 1")
        check_decided(header, certificate, self.members_at(header.height), where)
        self._check_rules(header)

    def check_chain(self, headers: Sequence[Header], certificate: Certificate | None) -> None:
        """Each header stands on the one before it; the last one was decided, and therefore all were."""
        for below, above in pairwise(headers):
            if (above.height, above.parent) != (below.height + 1, below.digest()):
                raise PeerFault(f"header {above.height}", f"does not stand on header {below.height}")
        if not headers:
            raise PeerFault("the chain of headers", "is empty")
        self.check_header(headers[-1], certificate)
        for header in headers:
            self._check_rules(header)

    def _check_rules(self, header: Header) -> None:
        if header.rules not in self._known_rules:
            raise UnknownRules(
                f"block {header.height} is made by rules of version {header.rules}, and what that proves is not known"
                f" here; this software knows {', '.join(map(str, sorted(self._known_rules)))}: install a newer one"
            )

    def check_evidence(self, evidence: Evidence) -> Place:
        """Where a member signed twice. Raises PeerFault for what does not show that."""
        return evidence.check(self.chain, self.members_at)


def read_export(raw: bytes, where: str) -> Export:
    """Parses a file. Raises PeerFault, naming `where` it is from; nothing in it is verified yet."""
    if len(raw) > MAX_EXPORT_BYTES:
        raise PeerFault(where, f"has more than {MAX_EXPORT_BYTES} bytes; that is no proof")
    export = codec.decode_canonical(raw, Export, where)
    if export.format != FORMAT:
        raise PeerFault(where, f"has format {export.format}; this version reads {FORMAT}")
    return export


def verify_exports(exports: Sequence[Export], chain: bytes) -> tuple[LightClient, list[Place]]:
    """Checks all that the files say about the chain of this id, each in the light of all of them.

    Returns the client, which knows the members now, and where the evidence in the files has its place.
    Raises PeerFault for the first thing that does not hold, UnknownRules for what this software cannot judge.
    """
    for export in exports:
        found = codec.digest(GENESIS_DOMAIN, export.genesis)
        if found != chain:
            raise PeerFault("the file", f"is of chain {found.hex()}, not of the trusted one, {chain.hex()}")
    client = LightClient(exports[0].founding())
    changes = {change.header.height: change for export in exports for change in export.changes}
    for height in sorted(changes):
        client.follow(changes[height])
    for export in exports:
        for change in export.changes:
            client.follow(change)  # known by now, or it contradicts
        for proof in export.proofs:
            client.check(proof)
    return client, [client.check_evidence(each) for export in exports for each in export.evidence]
