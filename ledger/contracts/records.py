"""Records: which host handed which agent to which, by digests alone: nothing of what an agent is or holds. Pure."""

import msgspec

from ledger.codec import DIGEST_BYTES
from ledger.contracts import trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse

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


class Hop(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    record: RecordHop
    height: int
    by: str  # the host that recorded it: source or destination


def hop(state: View, agent: bytes, epoch: int) -> Hop | None:
    """The record of the hop by which `agent` (digest of its id) came to `epoch`."""
    return load(state, _key(agent, epoch), Hop)


def execute(state: Overlay, call: Call) -> None:
    """One record. Raises Misuse, with the reason, for one that the rules do not allow."""
    record = call.decode(RecordHop)
    recorder = trust.holder(state, call.account)
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
