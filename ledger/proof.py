"""What a light client checks: one key of the state, by a block header and the certificate that decided it. Pure."""

import msgspec

from ledger.block import Header
from ledger.certificate import COMMIT, Certificate, Members
from ledger.errors import PeerFault
from ledger.merkle import Proof, verify_proof

WHERE = "state proof"


class StateProof(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Evidence for one key of the state, for someone who knows the members of that height but holds no state."""

    header: Header
    certificate: Certificate | None  # None for genesis, whose id is the chain's
    key: bytes
    value: bytes | None  # None: the key is absent
    proof: Proof

    def check(self, members: Members) -> None:
        """Raises PeerFault unless `members` decided a block with this value in its state."""
        if self.certificate is None:
            raise PeerFault(WHERE, "is of genesis, which has no certificate; derive it from the genesis file")
        check_decided(self.header, self.certificate, members, WHERE)
        self.check_path()

    def check_path(self) -> None:
        """Raises PeerFault unless the header's state has this value. Who decided the header is not asked here."""
        if not verify_proof(self.header.state_root, self.key, self.value, self.proof):
            raise PeerFault(WHERE, "does not lead to its header's state root")


def check_decided(header: Header, certificate: Certificate, members: Members, where: str) -> None:
    """Raises PeerFault, about `where`, unless `certificate` shows that a quorum of `members` decided `header`."""
    ballot = certificate.ballot
    about = (ballot.kind, ballot.chain, ballot.height, ballot.digest)
    if about != (COMMIT, header.chain, header.height, header.digest()):
        raise PeerFault(where, "has a certificate of something else than its header")
    if header.members_digest != members.digest():
        raise PeerFault(where, f"is of height {header.height}, which other members decided")
    certificate.check(members)
