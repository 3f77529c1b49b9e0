"""Losses: an operator's declaration that a host is lost for good, and that one named copy of its agents lives on. Pure.

In local custody two hosts agree on a handoff by themselves. When the source is gone for good and the destination has
only an inert copy, nobody is left who could say what became of the agent. The destination may then declare the copy to
be the agent, at a fresh epoch, when every other host of the consortium has signed that it neither runs nor holds it,
nor had it at the copy's epoch or later; and that it takes none below the fresh epoch from then on. A host of a
suspended organisation may come back, so it stops a declaration too. Who left or was revoked never comes back under its
name: that is how a lost source is passed over.

Every declaration names the one before it. So of two that were signed side by side, one fails, whatever else was signed
falsely: the epoch is the fence.
"""

from typing import Annotated, Any

import msgspec

from ledger import codec
from ledger.codec import Digest
from ledger.contracts import trust
from ledger.contracts.call import Call
from ledger.contracts.residence import MAX_EPOCH, Epoch, HostName, TransferId
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse
from ledger.identity import Identity, Signature

DOMAIN = "agentplatform/loss"
MAX_COPIES = 64  # agents of one handoff
COUNT = b"losses/count"  # declarations ever; it changes with each


class Copy(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One agent of the handoff."""

    agent: Digest  # of its id
    epoch: Annotated[int, msgspec.Meta(ge=1, le=MAX_EPOCH)]  # the fresh one: the copy's own, and one more
    since: Epoch  # of the agent's last declaration; 0: it has none


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What every host signs."""

    chain: bytes
    transfer: bytes  # id of the handoff by which the copies came
    source: str
    destination: str
    copies: tuple[Copy, ...]

    def sign(self, key: Identity) -> bytes:
        return key.sign(DOMAIN, codec.encode(self))


class Declare(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="declare"):
    """Only the destination itself calls it. All copies, or none."""

    transfer: TransferId
    source: HostName
    destination: HostName
    copies: Annotated[tuple[Copy, ...], msgspec.Meta(min_length=1, max_length=MAX_COPIES)]
    signatures: tuple[tuple[HostName, Signature], ...]  # of every other host


class Declaration(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    epoch: int
    source: str
    destination: str
    transfer: bytes
    height: int


# Queries


def find(state: View, agent: bytes) -> Declaration | None:
    """The last one about an agent (digest of its id)."""
    return load(state, _key(agent), Declaration)


def count(state: View) -> int:
    """How many there ever were, of all agents."""
    return load(state, COUNT, int) or 0


def signers(state: View, destination: str) -> dict[str, bytes | None]:
    """Who has to sign, and with which key; None for a host that cannot, since its organisation is suspended."""
    standings = trust.organisations(state).values()
    able = [each for each in standings if each.status in (trust.TRUSTED, trust.SUSPENDED)]
    hosts = [passport.host for each in able for passport in each.organisation.hosts]
    return {host: trust.host_key(state, host) for host in hosts if host != destination}


# Changes


def execute(state: Overlay, call: Call) -> None:
    """One declaration. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: Declare = call.decode(_DECLARE)
    if trust.host_key(state, action.destination) != call.account:
        raise Misuse(f"only {action.destination}, which has the copies, declares them while it is trusted")
    if action.source == action.destination or trust.home(state, action.source) is None:
        raise Misuse(f"the copies came from another host that the chain knows; {action.source[:63]!r} is none")
    if len({copy.agent for copy in action.copies}) != len(action.copies):
        raise Misuse("a declaration names each agent once")
    _check_signatures(state, call, action)
    for copy in action.copies:
        _enter(state, call, action, copy)
    save(state, COUNT, count(state) + 1)


def _check_signatures(state: View, call: Call, action: Declare) -> None:
    given = dict(action.signatures)
    said = codec.encode(
        Statement(call.chain, action.transfer, action.source, action.destination, action.copies)
    )  # fmt: skip
    needed = signers(state, action.destination)
    if len(given) != len(action.signatures) or given.keys() - needed.keys():
        raise Misuse("a declaration has one signature of each other host of the consortium, and no more")
    for host, key in needed.items():
        if key is None:
            raise Misuse(f"{host} is suspended, and may come back: reinstate or revoke it before this is declared")
        if not given.get(host) or not call.is_signed(key, DOMAIN, said, given[host]):
            raise Misuse(f"{host} did not sign, with its present key, that it has nothing of these agents")


def _enter(state: Overlay, call: Call, action: Declare, copy: Copy) -> None:
    before = find(state, copy.agent)
    since = 0 if before is None else before.epoch
    if copy.since != since or copy.epoch <= since:
        raise Misuse(
            f"agent {copy.agent.hex()[:16]} was declared at epoch {since}; this declaration is to epoch {copy.epoch}"
            f" after epoch {copy.since}, and comes too late"
        )
    entry = Declaration(copy.epoch, action.source, action.destination, action.transfer, call.height)
    save(state, _key(copy.agent), entry)


def _key(agent: bytes) -> bytes:
    return b"losses/agent/" + agent


_DECLARE: Any = Declare
