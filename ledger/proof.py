"""What a light client checks: one key of the state, by a block header and the certificate that decided it. Pure."""

import msgspec

from ledger.block import Header
from ledger.certificate import COMMIT, Certificate, Members
from ledger.errors import PeerFault
from ledger.merkle import Proof, verify_proof


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
            raise PeerFault("state proof", "is of genesis, which has no certificate; derive it from the genesis file")
        ballot = self.certificate.ballot
        about = (ballot.kind, ballot.chain, ballot.height, ballot.digest)
        if about != (COMMIT, self.header.chain, self.header.height, self.header.digest()):
            raise PeerFault("state proof", "has a certificate of something else than its header")
        if self.header.members_digest != members.digest():
            raise PeerFault("state proof", "is of a height that other members decided")
        self.certificate.check(members)
        if not verify_proof(self.header.state_root, self.key, self.value, self.proof):
            raise PeerFault("state proof", "does not lead to its header's state root")
