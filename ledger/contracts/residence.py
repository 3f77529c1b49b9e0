"""Residence: which host holds which epoch of an agent in held custody. The fence that no two hosts can both pass. Pure.

The ledger's commit of (agent, epoch + 1, destination) takes the place of the source's COMMIT: it needs the source's
signature (a promise: it leaves the source only after PREPARE is durable) and the destination's (given only after
RECEIVED is durable). An abort is the entry (agent, epoch + 1, source), so that a delayed commit fails. When
the host is gone, a quorum of the members re-homes the agent to one of the holders of its checkpoint.
What must be durable before a signature leaves is the hosts' part.

A move names its transfer, so a destination can tell the move that it signed from a re-homing to it at the same epoch:
for that its other copy, the checkpoint, may be newer. It may name several agents, of several sources: each host signs
for all of them, and all go or none does. So the entry that keeps one back, or gives it away, has ended the move.

A member that votes for a re-homing promises to sign no heartbeat to the agent's host until the vote can count no more
(ledger.heartbeats); the contract counts votes, it cannot see heartbeats.

An agent's residence stands under `subject`, a digest of its owner's key and the agent's: whoever is not the owner
cannot take the place of another's agent. The owner may be a pseudonym; then the agent digest is to be salted. It needs
no account: the host that takes the agent in vouches for it.
"""

from typing import Annotated, Any

import msgspec

from ledger import codec
from ledger.codec import Digest
from ledger.contracts import owners, trust
from ledger.contracts.accounts import Key
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, save
from ledger.errors import Misuse
from ledger.identity import Identity, Signature

DOMAIN = "agentplatform/residence"
MAX_EPOCH = 2**63 - 1
MAX_HOLDERS = 8
MAX_GOING = 64  # agents of one move
TRANSFER_BYTES = 16
FOUND = "found"
MOVE = "move"
ABORT = "abort"
END = "end"

Epoch = Annotated[int, msgspec.Meta(ge=0, le=MAX_EPOCH)]
TransferId = Annotated[bytes, msgspec.Meta(min_length=TRANSFER_BYTES, max_length=TRANSFER_BYTES)]
HostName = Annotated[str, msgspec.Meta(min_length=1, max_length=63)]


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What hosts and owners sign. It is for one epoch, so it cannot be used again."""

    chain: bytes
    kind: str  # FOUND | ABORT | END
    subject: bytes
    epoch: int  # the new one
    source: str  # host; "" when founding
    destination: str  # host; "" when ending

    def sign(self, key: Identity, domain: str = DOMAIN) -> bytes:
        """An owner signs with the domain of ledger.contracts.owners."""
        return key.sign(domain, codec.encode(self))


class Going(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One agent of a move."""

    subject: Digest
    epoch: Epoch  # the new one


class Part(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one source gives, in one handoff."""

    source: HostName
    transfer: TransferId
    agents: tuple[Going, ...]


class Passage(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the destination and every source of a move sign, as hosts sign a Statement."""

    chain: bytes
    kind: str  # MOVE
    destination: str
    parts: tuple[Part, ...]

    def sign(self, key: Identity) -> bytes:
        return key.sign(DOMAIN, codec.encode(self))


# Every signature may be left empty by the one that calls itself.


class Found(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=FOUND):
    """The agent comes under held custody at `epoch` on `host`; after an End, above the epoch of that."""

    owner: Key  # an account, or a pseudonym
    agent: Digest  # of the agent's id; salted under a pseudonym
    epoch: Epoch
    host: HostName
    owner_signature: Signature
    host_signature: Signature


class Forgo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="forgo"):
    """The host takes its `Found` back: the agent is in local custody from `epoch` on, so that a delayed one fails. With
    the owner's signature under the `Found`: nobody else's epochs can be used up."""

    owner: Key
    agent: Digest
    epoch: Epoch
    host: HostName
    owner_signature: Signature
    host_signature: Signature


class Move(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=MOVE):
    """All agents of all parts go to `destination`, or none does."""

    destination: HostName
    parts: tuple[Part, ...]
    source_signatures: tuple[Signature, ...]  # in the order of `parts`
    destination_signature: Signature


class Abort(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=ABORT):
    """The source keeps the agent, at the epoch that a commit would have had."""

    subject: Digest
    epoch: Epoch  # the new one
    source_signature: Signature


class Hold(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="hold"):
    """The host names those who hold the agent's checkpoint. Only the host itself calls it."""

    subject: Digest
    epoch: Epoch  # the present one
    holders: tuple[HostName, ...]


class End(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=END):
    """Held custody ends: the agent was disposed of, or is in local custody from `epoch` on."""

    subject: Digest
    epoch: Epoch  # the new one
    host_signature: Signature


class Yield(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="yield"):
    """The host has lost what it had of the agent, or has an older state: the holder `destination` shall go on from its
    checkpoint, as after a re-homing. Only the host itself calls it."""

    subject: Digest
    epoch: Epoch  # the new one
    destination: HostName


class VoteRehome(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote-rehome"):
    """A member's vote that the host is gone and `destination`, a holder, shall have the agent. The last one counts."""

    subject: Digest
    epoch: Epoch  # the new one
    destination: HostName
    version: int  # of the members, as the member knows them: after a change each waits before it votes


class WithdrawVote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="withdraw-vote"):
    """The member hears the host again. Only when this is final may it sign heartbeats to it."""

    subject: Digest
    epoch: Epoch


Action = Found | Forgo | Move | Abort | Hold | End | Yield | VoteRehome | WithdrawVote
_ACTION: Any = Action


class Residence(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    owner: bytes
    epoch: int
    host: str  # "" when held custody has ended
    holders: tuple[str, ...]  # of the checkpoint, in the host's order
    height: int  # of the entry
    transfer: bytes = b""  # of the move that made the entry; empty for any other


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    member: str  # host
    destination: str
    height: int


class Votes(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    epoch: int  # the one that they are for
    version: int  # of the members
    votes: tuple[Vote, ...]


# Queries


def subject(owner: bytes, agent: bytes) -> bytes:
    """Under what the residence of the owner's agent (digest of its id) stands."""
    return codec.digest(DOMAIN, owner, agent)


def find(state: View, subject: bytes) -> Residence | None:
    return load(state, state_key(subject), Residence)


def votes(state: View, subject: bytes) -> tuple[Vote, ...]:
    """Those that stand: a change of epoch or members makes all void."""
    found, now = load(state, _votes_key(subject), Votes), find(state, subject)
    if found is None or now is None:
        return ()
    return found.votes if (found.epoch, found.version) == (now.epoch + 1, trust.members(state).version) else ()


def state_key(subject: bytes) -> bytes:
    return b"residence/agent/" + subject


# Changes


def execute(state: Overlay, call: Call) -> None:
    """One entry. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: Action = call.decode(_ACTION)
    if isinstance(action, Found | Forgo):
        _begin(state, call, action)
        return
    if isinstance(action, Move):
        _move(state, call, action)
        return
    now = _residing(state, action.subject, action.epoch if isinstance(action, Hold) else action.epoch - 1)
    match action:
        case Abort():
            statement = Statement(call.chain, ABORT, action.subject, action.epoch, now.host, now.host)
            _check_host(state, call, now.host, statement, action.source_signature)
            _enter(state, call, action.subject, now, now.host)
        case End():
            statement = Statement(call.chain, END, action.subject, action.epoch, now.host, "")
            _check_host(state, call, now.host, statement, action.host_signature)
            _enter(state, call, action.subject, now, "")
        case Hold():
            _hold(state, call, now, action)
        case Yield():
            _yield(state, call, now, action)
        case VoteRehome() | WithdrawVote():
            _vote(state, call, now, action)


def _residing(state: View, subject: bytes, epoch: int) -> Residence:
    """The agent's entry, if that is the one of this epoch."""
    now = find(state, subject)
    if now is None or not now.host:
        raise Misuse(f"agent {subject.hex()[:16]} is not in held custody; found its residence first")
    if now.epoch != epoch:
        raise Misuse(
            f"agent {subject.hex()[:16]} is at epoch {now.epoch} on {now.host} since height {now.height};"
            f" this is about one at epoch {epoch}, and comes too late or too early"
        )
    return now


def _move(state: Overlay, call: Call, action: Move) -> None:
    """Nothing is entered before everything was checked."""
    sources = [part.source for part in action.parts]
    subjects = [going.subject for part in action.parts for going in part.agents]
    if not all(part.agents for part in action.parts) or not 1 <= len(subjects) <= MAX_GOING:
        raise Misuse(f"a move names {len(subjects)} agents, at most {MAX_GOING} go; and one at least in each part")
    if len(set(subjects)) != len(subjects) or len(set(sources)) != len(sources):
        raise Misuse("a move names an agent or a source twice; name each once")
    if action.destination in sources:
        raise Misuse(f"an agent is on {action.destination} already; a move goes to another host")
    if len(action.source_signatures) != len(sources):
        raise Misuse(f"a move from {len(sources)} sources has {len(action.source_signatures)} signatures of them")
    entered = []
    for part in action.parts:
        for going in part.agents:
            now = _residing(state, going.subject, going.epoch - 1)
            if now.host != part.source:
                raise Misuse(f"agent {going.subject.hex()[:16]} is on {now.host}; this says, on {part.source}")
            entered.append((going.subject, now, part.transfer))
    said = Passage(call.chain, MOVE, action.destination, action.parts)
    hosts = [*zip(sources, action.source_signatures, strict=True), (action.destination, action.destination_signature)]
    for host, signature in hosts:
        _check_host(state, call, host, said, signature)
    for place, now, transfer in entered:
        _enter(state, call, place, now, action.destination, transfer)


def _begin(state: Overlay, call: Call, action: Found | Forgo) -> None:
    place = subject(action.owner, action.agent)
    before = find(state, place)
    if before is not None and before.host:
        raise Misuse(f"agent {place.hex()[:16]} is in held custody at epoch {before.epoch} on {before.host} already")
    if before is not None and action.epoch <= before.epoch:
        raise Misuse(
            f"agent {place.hex()[:16]} was in held custody up to epoch {before.epoch}; a new one begins above that"
        )
    asked = Statement(call.chain, FOUND, place, action.epoch, "", action.host)
    if isinstance(action, Found):
        host, said = action.host, asked
        if before is None:
            owners.vouched(state, call, action.owner, codec.encode(asked), action.owner_signature)
        else:
            owners.consent(state, call, action.owner, codec.encode(asked), action.owner_signature)
    else:
        host, said = "", Statement(call.chain, END, place, action.epoch, action.host, "")
        owners.consent(state, call, action.owner, codec.encode(asked), action.owner_signature)
    _check_host(state, call, action.host, said, action.host_signature)
    save(state, state_key(place), Residence(action.owner, action.epoch, host, (), call.height))


def _hold(state: Overlay, call: Call, now: Residence, action: Hold) -> None:
    if trust.host_key(state, now.host) != call.account:
        raise Misuse(f"only {now.host}, while trusted, names the holders of this agent's checkpoint")
    if len(action.holders) > MAX_HOLDERS or len(set(action.holders)) != len(action.holders):
        raise Misuse(f"a checkpoint has at most {MAX_HOLDERS} holders, each named once")
    for host in action.holders:
        if host == now.host or trust.host_key(state, host) is None:
            raise Misuse(f"{host} cannot hold the checkpoint: holders are other hosts that are trusted")
    save(state, state_key(action.subject), msgspec.structs.replace(now, holders=action.holders, height=call.height))


def _yield(state: Overlay, call: Call, now: Residence, action: Yield) -> None:
    if trust.host_key(state, now.host) != call.account:
        raise Misuse(f"only {now.host}, while trusted, says that its copy of this agent is no good")
    if action.destination not in now.holders or trust.host_key(state, action.destination) is None:
        raise Misuse(
            f"{action.destination} is no trusted holder of this agent's checkpoint"
            f" ({', '.join(now.holders) or 'it has none'}): it could not go on there"
        )
    _enter(state, call, action.subject, now, action.destination)


def _vote(state: Overlay, call: Call, now: Residence, action: VoteRehome | WithdrawVote) -> None:
    caller, members = trust.holder(state, call.account), trust.members(state)
    if caller is None or caller.host is None or members.key_of(caller.host) != call.account:
        raise Misuse("only the hosts that hold the members' seats vote on where an agent goes")
    standing = votes(state, action.subject)
    others = tuple(each for each in standing if each.member != caller.host)
    if isinstance(action, WithdrawVote):
        if len(others) == len(standing):
            raise Misuse(f"{caller.host} has no vote on this agent that stands; there is nothing to withdraw")
        given = others
    else:
        if action.destination not in now.holders or trust.host_key(state, action.destination) is None:
            raise Misuse(
                f"{action.destination} is no trusted holder of this agent's checkpoint"
                f" ({', '.join(now.holders) or 'it has none'}): it could not go on there"
            )
        if action.version != members.version:
            raise Misuse(f"the vote is for members of version {action.version}; they are of version {members.version}")
        given = (*others, Vote(caller.host, action.destination, call.height))
        if sum(each.destination == action.destination for each in given) >= members.quorum:
            _enter(state, call, action.subject, now, action.destination)
            return
    save(state, _votes_key(action.subject), Votes(now.epoch + 1, members.version, given))


def _enter(state: Overlay, call: Call, subject: bytes, now: Residence, host: str, transfer: bytes = b"") -> None:
    """The next epoch, on `host`. All votes are for the one before."""
    holders = tuple(each for each in now.holders if each != host) if host else ()
    save(state, state_key(subject), Residence(now.owner, now.epoch + 1, host, holders, call.height, transfer))
    state.put(_votes_key(subject), None)


def _check_host(state: View, call: Call, host: str, statement: Statement | Passage, signature: bytes) -> None:
    key = trust.host_key(state, host)
    if key is None:
        raise Misuse(f"host {host} is not trusted; it can neither give nor take an agent")
    if not call.is_signed(key, DOMAIN, codec.encode(statement), signature):
        raise Misuse(f"host {host} did not sign this {statement.kind} with its present key")


def _votes_key(subject: bytes) -> bytes:
    return b"residence/votes/" + subject
