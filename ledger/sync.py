"""Whether a block that somebody sent is the next one: by its certificate, never by the sender's word. Pure."""

from ledger import identity
from ledger.block import Block, transactions_root
from ledger.certificate import COMMIT, Certificate, Members, Verifier
from ledger.errors import PeerFault


def check_next(
    best: Block,
    members: Members,
    block: Block,
    certificate: Certificate,
    sender: str,
    verify: Verifier = identity.verify,
) -> None:
    """Raises PeerFault, naming `sender`, unless a quorum of `members` decided `block` right above `best`.

    `members` are those of the block's own height; whoever follows a chain of blocks asks for them after each one.
    """
    header, ballot = block.header, certificate.ballot
    if header.height != best.header.height + 1 or header.parent != best.digest():
        raise PeerFault(sender, f"sent block {header.height} that does not stand on our block {best.header.height}")
    if not is_about(certificate, COMMIT, block):
        raise PeerFault(sender, f"sent block {header.height} with a certificate of {ballot.kind} for something else")
    if transactions_root(block.transactions) != header.transactions_root:
        raise PeerFault(sender, f"sent block {header.height} with other transactions than its header names")
    check_certificate(certificate, members, sender, verify)


def check_certificate(
    certificate: Certificate, members: Members, sender: str, verify: Verifier = identity.verify
) -> None:
    """Like `Certificate.check`, and the fault is that of the `sender` who passed it on."""
    try:
        certificate.check(members, verify)
    except PeerFault as fault:
        raise PeerFault(sender, f"sent a false certificate: {fault}") from None


def is_about(certificate: Certificate, kind: str, block: Block) -> bool:
    """Whether the ballot of `certificate` is a `kind` for `block`. Who signed it is not asked here."""
    ballot, header = certificate.ballot, block.header
    return (ballot.kind, ballot.chain, ballot.height, ballot.digest) == (
        kind,
        header.chain,
        header.height,
        header.digest(),
    )
