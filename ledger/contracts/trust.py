"""Trust: which organisations and hosts the consortium trusts, and the votes that change it. Pure.

An organisation joins, is revoked, suspended or reinstated when MORE than two thirds of the trusted organisations
vote for it; the one concerned has no vote and is not counted. The first vote for something opens its proposal; a vote
cannot be taken back. A change of the trusted organisations closes every open proposal: votes given in one consortium
do not count in another (else the votes of a few old members could suffice after others left).

What is decided in the block of height h takes effect there for transactions, and from height h + 1 on for seats:
`members` of the state after h are those who decide h + 1.

Names and keys are never used again. A revoked organisation that is trusted again some day joins by a vote under a new
name, with new keys and new host names, so that no old signature or certificate gains force. One that is suspended keeps
its name and keys, and has neither seat nor trust until a vote reinstates it.

What an organisation does to itself (leave, rotate keys, add or remove a host) is in ledger.contracts.membership.
"""

from typing import Any

import msgspec

from ledger import codec
from ledger.certificate import Member, Members
from ledger.contracts import accounts, auditor
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, need, save
from ledger.errors import Misuse
from ledger.genesis import MAX_ORGANISATIONS, Genesis, Organisation
from ledger.links.base import Passport

TRUSTED = "trusted"
SUSPENDED = "suspended"  # by vote; may be reinstated
REVOKED = "revoked"  # by vote; for ever
LEFT = "left"  # by its own act; for ever
FOUNDED = "founded the chain"
JOIN = "join"
REVOKE = "revoke"
SUSPEND = "suspend"
REINSTATE = "reinstate"
MAX_REASON = 500  # characters
MAX_OPEN = 8  # proposals that one organisation may have opened, so that it cannot fill the state

MEMBERS = b"trust/members"
REGISTRY = b"trust/registry"  # changes with every change of the trusted hosts; how often there was one
_NAMES = b"trust/names"  # of all organisations ever, in the order of their joining
_OPEN = b"trust/open"  # digests of the open proposals


class VoteJoin(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=JOIN):
    organisation: Organisation
    reason: str


class VoteRevoke(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=REVOKE):
    organisation: str  # its name
    reason: str


class VoteSuspend(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=SUSPEND):
    organisation: str  # its name
    reason: str


class VoteReinstate(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=REINSTATE):
    organisation: str  # its name
    reason: str


Action = VoteJoin | VoteRevoke | VoteSuspend | VoteReinstate
_ACTION: Any = Action

# What a vote on an organisation needs it to be, and makes of it.
_TURNS: dict[type, tuple[str, tuple[str, ...], str]] = {
    VoteRevoke: (REVOKE, (TRUSTED, SUSPENDED), REVOKED),
    VoteSuspend: (SUSPEND, (TRUSTED,), SUSPENDED),
    VoteReinstate: (REINSTATE, (SUSPENDED,), TRUSTED),
}


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    organisation: str
    reason: str
    height: int


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An open proposal. Its name is the digest of its content, so that votes with other reasons join it."""

    digest: bytes
    kind: str  # JOIN | REVOKE | SUSPEND | REINSTATE, or another contract's
    organisation: str  # the one concerned; "" when it concerns all
    content: bytes  # canonical bytes of what is voted on
    votes: tuple[Vote, ...]  # the first one opened it


class Standing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An organisation as the consortium sees it. `votes` are those that brought it there; none for founders."""

    organisation: Organisation  # with its present keys and hosts
    status: str  # TRUSTED | SUSPENDED | REVOKED | LEFT
    since: int  # height
    reason: str  # of the vote that opened the proposal; the organisation's own when it left
    votes: tuple[Vote, ...]


class Holder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose a key is or was: an organisation's own (host is None), or that of one of its hosts."""

    organisation: str
    host: str | None
    active: bool  # the key is in use, and the organisation trusted


class Registered(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A host's name, which is never used again."""

    organisation: str
    key: bytes  # the last one
    active: bool  # the host is the organisation's, and the organisation trusted


# Queries


def organisations(state: View) -> dict[str, Standing]:
    """All organisations ever, revoked ones too, by name, in the order of their joining."""
    names = need(state, _NAMES, tuple[str, ...])
    return {name: need(state, _organisation_key(name), Standing) for name in names}


def standing(state: View, organisation: str) -> Standing | None:
    """None for a name that was never one of an organisation."""
    return load(state, _organisation_key(organisation), Standing)


def registry(state: View) -> dict[str, Passport]:
    """The trusted hosts by name."""
    standings = organisations(state).values()
    trusted = [standing.organisation for standing in standings if standing.status == TRUSTED]
    return {passport.host: passport for organisation in trusted for passport in organisation.hosts}


def members(state: View) -> Members:
    """Those who decide the height after this state's."""
    return need(state, MEMBERS, Members)


def proposals(state: View) -> tuple[Proposal, ...]:
    """The open ones, oldest first."""
    return tuple(need(state, _proposal_key(digest), Proposal) for digest in _open(state))


def holder(state: View, key: bytes) -> Holder | None:
    """Whose `key` is, while it is in use and its organisation trusted."""
    found = load(state, _holder_key(key), Holder)
    return found if found is not None and found.active else None


def past_holder(state: View, key: bytes) -> Holder | None:
    """Whose `key` is or ever was, trusted or not."""
    return load(state, _holder_key(key), Holder)


def host_key(state: View, host: str) -> bytes | None:
    """The key of a host, while it is trusted."""
    found = load(state, _host_key(host), Registered)
    return found.key if found is not None and found.active else None


def home(state: View, host: str) -> str | None:
    """The organisation of a host, also of one that is no longer trusted; None for a name never used."""
    found = load(state, _host_key(host), Registered)
    return None if found is None else found.organisation


def voter(state: View, call: Call) -> str:
    """The organisation whose key calls. Raises Misuse for any other caller."""
    found = holder(state, call.account)
    if found is None or found.host is not None:
        raise Misuse("only the key of a trusted organisation votes; a host's key does not")
    return found.organisation


def check_reason(reason: str) -> None:
    if not 0 < len(reason.strip()) <= len(reason) <= MAX_REASON:
        raise Misuse(f"a vote gives its reason, in at most {MAX_REASON} characters")


# Changes


def found(state: Overlay, genesis: Genesis) -> None:
    """Writes the founders into the empty state."""
    save(state, _NAMES, ())
    save(state, _OPEN, ())
    save(state, REGISTRY, 0)
    save(state, MEMBERS, Members(0, ()))
    for organisation in genesis.organisations:
        _admit(state, Standing(organisation, TRUSTED, 0, FOUNDED, ()))
    save(state, MEMBERS, Members(0, members(state).members))


def execute(state: Overlay, call: Call) -> None:
    """One vote. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: Action = call.decode(_ACTION)
    own = voter(state, call)
    vote = Vote(own, action.reason, call.height)
    if isinstance(action, VoteJoin):
        joining = action.organisation
        _check_join(state, joining)
        passed = count(state, JOIN, joining.name, codec.encode(joining), vote)
        if passed is not None:
            _admit(state, Standing(joining, TRUSTED, call.height, passed.votes[0].reason, passed.votes))
            close_proposals(state)
        return
    kind, _, status = _TURNS[type(action)]
    now = _check_turn(state, action, own)
    passed = count(state, kind, action.organisation, codec.encode(action.organisation), vote)
    if passed is not None:
        put(state, Standing(now.organisation, status, call.height, passed.votes[0].reason, passed.votes))
        close_proposals(state)


def count(state: Overlay, kind: str, concerned: str, content: bytes, vote: Vote) -> Proposal | None:
    """Adds the vote to its proposal. The proposal, when that was enough: it is open no more, and to be carried out.

    Raises Misuse for a second vote of an organisation, or when it has opened too many proposals.
    """
    check_reason(vote.reason)
    digest = codec.digest(f"agentplatform/proposal/{kind}", content)
    proposal = load(state, _proposal_key(digest), Proposal) or Proposal(digest, kind, concerned, content, ())
    if any(earlier.organisation == vote.organisation for earlier in proposal.votes):
        raise Misuse(f"{vote.organisation} has voted on this already; a vote counts once and stays")
    if not proposal.votes:
        opened = [each for each in proposals(state) if each.votes[0].organisation == vote.organisation]
        if len(opened) >= MAX_OPEN:
            raise Misuse(f"{vote.organisation} has opened {MAX_OPEN} proposals; wait until one is decided")
        save(state, _OPEN, (*_open(state), digest))
    proposal = msgspec.structs.replace(proposal, votes=(*proposal.votes, vote))
    # A seat is a trusted organisation's, so the members are those who may vote.
    now = standing(state, concerned)
    electors = len(members(state).members) - (now is not None and now.status == TRUSTED)
    if 3 * len(proposal.votes) <= 2 * electors:
        save(state, _proposal_key(digest), proposal)
        return None
    state.put(_proposal_key(digest), None)
    save(state, _OPEN, tuple(each for each in _open(state) if each != digest))
    return proposal


def close_proposals(state: Overlay) -> None:
    """The trusted organisations have changed: no vote of before counts any more."""
    for digest in _open(state):
        state.put(_proposal_key(digest), None)
    save(state, _OPEN, ())


def put(state: Overlay, standing: Standing) -> None:
    """Makes this the organisation's standing; its keys, its hosts and its seat follow.

    The first of a trusted organisation's hosts holds its seat. A seat whose host or key changes keeps its place in
    the order. Raises Misuse when no member would be left: a chain without members could decide nothing ever again.
    """
    organisation, trusted = standing.organisation, standing.status == TRUSTED
    earlier = load(state, _organisation_key(organisation.name), Standing)
    if earlier is not None:
        _mark(state, earlier.organisation, False)
    _mark(state, organisation, trusted)
    save(state, _organisation_key(organisation.name), standing)
    save(state, REGISTRY, need(state, REGISTRY, int) + 1)
    before = members(state)
    held = {passport.host for passport in earlier.organisation.hosts} if earlier else set()
    seat = Member(organisation.hosts[0].host, organisation.hosts[0].key)
    kept = [seat if member.host in held else member for member in before.members if trusted or member.host not in held]
    if trusted and seat not in kept:
        kept.append(seat)
    if not kept:
        raise Misuse(f"{organisation.name} is the last member, and one must stay: let another join first")
    if tuple(kept) != before.members:
        save(state, MEMBERS, Members(before.version + 1, tuple(kept)))


def check_new_key(state: View, key: bytes) -> None:
    """Raises Misuse for a key that is or ever was an organisation's or a host's, and for the auditor's: whoever took
    that for his own could make the auditor mute by giving it up."""
    if key == auditor.find(state):
        raise Misuse(f"key {key.hex()[:16]} is the auditor's; draw a new one")
    owner = past_holder(state, key)
    if owner is not None:
        raise Misuse(f"key {key.hex()[:16]} is or was used by {owner.organisation}; draw a new one")


def reserve_key(state: Overlay, key: bytes, organisation: str, host: str | None) -> None:
    """From now on nobody else can have this key."""
    save(state, _holder_key(key), Holder(organisation, host, False))


def check_new_host(state: View, host: str) -> None:
    if home(state, host) is not None:
        raise Misuse(f"host name {host} is or was in use; give the host another")


def _check_join(state: View, organisation: Organisation) -> None:
    """Names and keys of any time are taken: a revoked organisation does not come back silently."""
    now = standing(state, organisation.name)
    if now is not None:
        if now.status == TRUSTED:
            raise Misuse(f"organisation {organisation.name} is trusted already")
        if now.status == SUSPENDED:
            raise Misuse(f"organisation {organisation.name} is suspended; vote to reinstate it")
        was = "was revoked" if now.status == REVOKED else "left"
        raise Misuse(
            f"organisation {organisation.name} {was} at height {now.since}; its name and keys are"
            " never used again: propose a new name and new keys"
        )
    for passport in organisation.hosts:
        check_new_host(state, passport.host)
    for key in (organisation.key, *(passport.key for passport in organisation.hosts)):
        check_new_key(state, key)
    if len(members(state).members) >= MAX_ORGANISATIONS:
        raise Misuse(f"{MAX_ORGANISATIONS} organisations are trusted, and no more can be")


def _check_turn(state: View, action: VoteRevoke | VoteSuspend | VoteReinstate, own: str) -> Standing:
    kind, needed, _ = _TURNS[type(action)]
    name = action.organisation
    now = standing(state, name)
    if now is None:
        raise Misuse(f"there is no organisation {name[:63]!r}; see the list of organisations")
    if now.status == REVOKED:
        raise Misuse(f"organisation {name} was revoked already, at height {now.since}")
    if now.status not in needed:
        raise Misuse(f"organisation {name} is {now.status} since height {now.since}: a vote to {kind} it means nothing")
    if name == own:
        raise Misuse(f"organisation {name} has no vote on its own revocation, suspension or reinstatement")
    if now.status == SUSPENDED and kind == REINSTATE and len(members(state).members) >= MAX_ORGANISATIONS:
        raise Misuse(f"{MAX_ORGANISATIONS} organisations are trusted, and no more can be")
    return now


def _admit(state: Overlay, standing: Standing) -> None:
    organisation = standing.organisation
    save(state, _NAMES, (*need(state, _NAMES, tuple[str, ...]), organisation.name))
    put(state, standing)
    accounts.grant(state, organisation.key)


def _mark(state: Overlay, organisation: Organisation, active: bool) -> None:
    save(state, _holder_key(organisation.key), Holder(organisation.name, None, active))
    for passport in organisation.hosts:
        save(state, _holder_key(passport.key), Holder(organisation.name, passport.host, active))
        save(state, _host_key(passport.host), Registered(organisation.name, passport.key, active))


def _open(state: View) -> tuple[bytes, ...]:
    return need(state, _OPEN, tuple[bytes, ...])


def _organisation_key(name: str) -> bytes:
    return b"trust/organisation/" + name.encode()


def _holder_key(key: bytes) -> bytes:
    return b"trust/key/" + key


def _host_key(host: str) -> bytes:
    return b"trust/host/" + host.encode()


def _proposal_key(digest: bytes) -> bytes:
    return b"trust/proposal/" + digest
