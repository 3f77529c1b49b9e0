"""Records: hops, decisions and blame, by digests alone: nothing of what an agent is or holds. Pure.

- A hop: which host handed which agent to which.
- A decision: that a host decided about an agent, by the digest of its explanation. Whoever is shown the explanation
  later can tell that it is the one of then.
- Blame: who accuses which host of what. Where the evidence is two signatures that exclude each other, the
  contract checks it, and it is proven; anything else is a signed accusation with the digest of its evidence.
"""

from typing import Any

import msgspec

from ledger import codec, identity
from ledger.codec import DIGEST_BYTES
from ledger.contracts import trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse, PeerFault
from ledger.evidence import Evidence

MAX_EPOCH = 2**63 - 1


class RecordHop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="hop"):
    """One completed handoff."""

    agent: bytes  # digest of the agent's id
    epoch: int  # the agent's, at the destination; its first hop is 1
    source: str  # host
    destination: str  # host
    transfer: bytes  # digest of the transfer's id
    parcel: bytes  # digest of what travelled

    def __post_init__(self) -> None:
        if any(len(digest) != DIGEST_BYTES for digest in (self.agent, self.transfer, self.parcel)):
            raise Misuse(f"agent, transfer and parcel of a hop are digests of {DIGEST_BYTES} bytes")
        if not 1 <= self.epoch <= MAX_EPOCH:
            raise Misuse("the epoch of a hop is 1 or more: a new agent is at 0")
        if self.source == self.destination:
            raise Misuse("a hop goes from one host to another")


class RecordDecision(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="decision"):
    subject: bytes  # digest of the agent's id, or of the group's
    decision: bytes  # digest of the explanation

    def __post_init__(self) -> None:
        if any(len(digest) != DIGEST_BYTES for digest in (self.subject, self.decision)):
            raise Misuse(f"subject and decision are digests of {DIGEST_BYTES} bytes")


class RecordBlame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="blame"):
    """An accusation, for people to judge."""

    host: str  # the accused
    reason: str
    evidence: bytes  # digest

    def __post_init__(self) -> None:
        if len(self.evidence) != DIGEST_BYTES:
            raise Misuse(f"evidence is named by a digest of {DIGEST_BYTES} bytes")


class RecordDoubleSigning(
    msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="double-signing"
):
    """Two signatures of one member where the rule allows one."""

    evidence: Evidence


Action = RecordHop | RecordDecision | RecordBlame | RecordDoubleSigning
_ACTION: Any = Action


class Decision(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    record: RecordDecision
    height: int
    by: str  # the host that decided


class Blame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    host: str  # the accused
    reason: str
    evidence: bytes  # digest
    proven: bool  # the chain has checked the evidence
    height: int
    by: str  # the organisation or host that accuses


class Hop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    record: RecordHop
    height: int
    by: str  # the host that recorded it: source or destination


def hop(state: View, agent: bytes, epoch: int) -> Hop | None:
    """The record of the hop by which `agent` (digest of its id) came to `epoch`."""
    return load(state, _key(agent, epoch), Hop)


def decision(state: View, by: str, digest: bytes) -> Decision | None:
    """The record of the decision that host `by` explained by what has this digest."""
    return load(state, _decision_key(by, digest), Decision)


def blame(state: View, host: str, evidence: bytes) -> Blame | None:
    """The accusation of `host` with this evidence (digest); the first one stands, and a proven one before others."""
    return load(state, _blame_key(host, evidence), Blame)


def evidence_digest(evidence: Evidence) -> bytes:
    """The two statements in a fixed order: what is proven once is not proven again with the two exchanged."""
    pair = sorted((evidence.first.body, evidence.second.body))
    return codec.digest("agentplatform/evidence", evidence.domain.encode(), evidence.first.signer, *pair)


def execute(state: Overlay, call: Call) -> None:
    """One record. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: Action = call.decode(_ACTION)
    caller = trust.holder(state, call.account)
    if isinstance(action, RecordHop):
        _record_hop(state, call, caller, action)
        return
    if caller is None:
        raise Misuse("only trusted organisations and hosts keep records")
    if isinstance(action, RecordDecision):
        if caller.host is None:
            raise Misuse("a decision is recorded by the host that made it")
        earlier = decision(state, caller.host, action.decision)
        if earlier is not None:
            raise Misuse(f"the decision was recorded at height {earlier.height}")
        save(state, _decision_key(caller.host, action.decision), Decision(action, call.height, caller.host))
        return
    by = caller.host or caller.organisation
    if isinstance(action, RecordBlame):
        trust.check_reason(action.reason)
        _accuse(state, Blame(action.host, action.reason, action.evidence, False, call.height, by))
        return
    evidence = action.evidence
    _check(state, call.chain, evidence)
    reason = "signed two different things where the rule allows one"
    _accuse(state, Blame(evidence.host, reason, evidence_digest(evidence), True, call.height, by))


def _check(state: View, chain: bytes, evidence: Evidence) -> None:
    """The key may have been rotated since: what counts is that it is or was the host's."""
    try:
        place = evidence.place()
    except PeerFault as fault:
        raise Misuse(str(fault)) from None
    owner = trust.past_holder(state, evidence.first.signer)
    if owner is None or owner.host != evidence.host:
        raise Misuse(f"the evidence is signed by a key that never was {evidence.host}'s")
    if place.chain != chain:
        raise Misuse("the evidence is of another chain")
    for signed in (evidence.first, evidence.second):
        if not identity.verify(signed.signer, evidence.domain, signed.body, signed.signature):
            raise Misuse(f"the evidence has a signature of {evidence.host} that does not hold")


def _accuse(state: Overlay, accusation: Blame) -> None:
    if trust.home(state, accusation.host) is None:
        raise Misuse(f"host {accusation.host[:63]!r} is not known to the chain")
    earlier = blame(state, accusation.host, accusation.evidence)
    if earlier is not None and earlier.proven >= accusation.proven:
        raise Misuse(f"{accusation.host} was accused of this at height {earlier.height}")
    save(state, _blame_key(accusation.host, accusation.evidence), accusation)


def _record_hop(state: Overlay, call: Call, recorder: trust.Holder | None, record: RecordHop) -> None:
    if recorder is None or recorder.host not in (record.source, record.destination):
        raise Misuse(f"only {record.source} or {record.destination}, while trusted, may record this hop")
    for host in (record.source, record.destination):
        if trust.home(state, host) is None:
            raise Misuse(f"host {host} is not known to the chain; a hop is between registered hosts")
    earlier = hop(state, record.agent, record.epoch)
    if earlier is not None:
        raise Misuse(
            f"epoch {record.epoch} of agent {record.agent.hex()[:16]} was recorded at height {earlier.height};"
            " there is one record for each epoch"
        )
    save(state, _key(record.agent, record.epoch), Hop(record, call.height, str(recorder.host)))


def _key(agent: bytes, epoch: int) -> bytes:
    return b"records/hop/" + agent + epoch.to_bytes(8, "big")


def _decision_key(by: str, digest: bytes) -> bytes:
    return b"records/decision/" + digest + by.encode()


def _blame_key(host: str, evidence: bytes) -> bytes:
    return b"records/blame/" + evidence + host.encode()
