"""Trust: which organisations and hosts the consortium trusts, and the votes that change it. Pure.

An organisation joins or is revoked when MORE than two thirds of the trusted organisations vote for it; the
one concerned has no vote and is not counted. The first vote for something opens its proposal; a vote cannot be
taken back. A change of the trusted organisations closes every open proposal: votes given in one consortium do
not count in another (else the votes of a few old members could suffice after others left).

Names and keys are never used again. A revoked organisation that is trusted again some day joins by
a vote under a new name, with new keys and new host names, so that no old signature or certificate gains force.
"""

from typing import Any

import msgspec

from ledger import codec
from ledger.certificate import Member, Members
from ledger.contracts import accounts
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, load, need, save
from ledger.errors import Misuse
from ledger.genesis import MAX_ORGANISATIONS, Genesis, Organisation
from ledger.links.base import Passport

TRUSTED = "trusted"
REVOKED = "revoked"
FOUNDED = "founded the chain"
JOIN = "join"
REVOKE = "revoke"
MAX_REASON = 500  # characters
MAX_OPEN = 8  # proposals that one organisation may have opened, so that it cannot fill the state

_NAMES = b"trust/names"  # of all organisations ever, in the order of their joining
_MEMBERS = b"trust/members"
_OPEN = b"trust/open"  # digests of the open proposals


class VoteJoin(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=JOIN):
    organisation: Organisation
    reason: str


class VoteRevoke(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=REVOKE):
    organisation: str  # its name
    reason: str


_ACTION: Any = VoteJoin | VoteRevoke


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    organisation: str
    reason: str
    height: int


class Proposal(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An open proposal. Its name is the digest of its content, so that votes with other reasons join it."""

    digest: bytes
    kind: str  # JOIN | REVOKE
    organisation: str  # the one concerned
    joining: Organisation | None
    votes: tuple[Vote, ...]  # the first one opened it


class Standing(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An organisation as the consortium sees it. `votes` are those that brought it there; none for founders."""

    organisation: Organisation
    status: str  # TRUSTED | REVOKED
    since: int  # height
    reason: str  # of the vote that opened the proposal
    votes: tuple[Vote, ...]


class Holder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Whose a key is: an organisation's own (host is None), or that of one of its hosts."""

    organisation: str
    host: str | None


# Queries


def organisations(state: View) -> dict[str, Standing]:
    """All organisations ever, revoked ones too, by name, in the order of their joining."""
    names = need(state, _NAMES, tuple[str, ...])
    return {name: need(state, _organisation_key(name), Standing) for name in names}


def registry(state: View) -> dict[str, Passport]:
    """The trusted hosts by name."""
    standings = organisations(state).values()
    trusted = [standing.organisation for standing in standings if standing.status == TRUSTED]
    return {passport.host: passport for organisation in trusted for passport in organisation.hosts}


def members(state: View) -> Members:
    """Those who decide the height after this state's."""
    return need(state, _MEMBERS, Members)


def proposals(state: View) -> tuple[Proposal, ...]:
    """The open ones, oldest first."""
    return tuple(need(state, _proposal_key(digest), Proposal) for digest in _open(state))


def holder(state: View, key: bytes) -> Holder | None:
    """Whose `key` is, when that organisation is trusted."""
    found = load(state, _holder_key(key), Holder)
    if found is None or need(state, _organisation_key(found.organisation), Standing).status != TRUSTED:
        return None
    return found


def was_held(state: View, key: bytes) -> bool:
    """Whether `key` is or was an organisation's or a host's, trusted or not."""
    return state.get(_holder_key(key)) is not None


def home(state: View, host: str) -> str | None:
    """The organisation of a host, also of one that is no longer trusted; None for a name never used."""
    return load(state, _host_key(host), str)


# Changes


def found(state: Overlay, genesis: Genesis) -> None:
    """Writes the founders into the empty state."""
    save(state, _NAMES, ())
    save(state, _OPEN, ())
    save(state, _MEMBERS, Members(0, ()))
    for organisation in genesis.organisations:
        _admit(state, Standing(organisation, TRUSTED, 0, FOUNDED, ()))
    save(state, _MEMBERS, Members(0, members(state).members))


def execute(state: Overlay, call: Call) -> None:
    """One vote. Raises Misuse, with the reason, for one that the rules do not allow."""
    action: VoteJoin | VoteRevoke = call.decode(_ACTION)
    voter = holder(state, call.account)
    if voter is None or voter.host is not None:
        raise Misuse("only the key of a trusted organisation votes; a host's key does not")
    if not 0 < len(action.reason.strip()) <= len(action.reason) <= MAX_REASON:
        raise Misuse(f"a vote gives its reason, in at most {MAX_REASON} characters")
    if isinstance(action, VoteJoin):
        _check_join(state, action.organisation)
        content = codec.encode(action.organisation)
        blank = Proposal(
            codec.digest(_domain(JOIN), content), JOIN, action.organisation.name, action.organisation, ()
        )
    else:
        _check_revoke(state, action.organisation, voter.organisation)
        content = codec.encode(action.organisation)
        blank = Proposal(codec.digest(_domain(REVOKE), content), REVOKE, action.organisation, None, ())
    _count(state, blank, Vote(voter.organisation, action.reason, call.height))


def _check_join(state: View, organisation: Organisation) -> None:
    """Names and keys of any time are taken: a revoked organisation does not come back silently."""
    standing = load(state, _organisation_key(organisation.name), Standing)
    if standing is not None:
        if standing.status == TRUSTED:
            raise Misuse(f"organisation {organisation.name} is trusted already")
        raise Misuse(
            f"organisation {organisation.name} was revoked at height {standing.since}; its name and keys are"
            " never used again: propose a new name and new keys"
        )
    taken_hosts = [passport.host for passport in organisation.hosts if home(state, passport.host) is not None]
    if taken_hosts:
        raise Misuse(f"host name {taken_hosts[0]} is or was in use; give the host another")
    keys = (organisation.key, *(passport.key for passport in organisation.hosts))
    for key in keys:
        owner = load(state, _holder_key(key), Holder)
        if owner is not None:
            raise Misuse(f"key {key.hex()[:16]} is or was used by {owner.organisation}; draw a new one")
    if len(members(state).members) >= MAX_ORGANISATIONS:
        raise Misuse(f"{MAX_ORGANISATIONS} organisations are trusted, and no more can be")


def _check_revoke(state: View, name: str, voter: str) -> None:
    standing = load(state, _organisation_key(name), Standing)
    if standing is None:
        raise Misuse(f"there is no organisation {name[:63]!r}; see the list of organisations")
    if standing.status == REVOKED:
        raise Misuse(f"organisation {name} was revoked already, at height {standing.since}")
    if name == voter:
        raise Misuse(f"organisation {name} has no vote on its own revocation")


def _count(state: Overlay, blank: Proposal, vote: Vote) -> None:
    """Adds the vote to its proposal and carries the proposal out when that was enough."""
    proposal = load(state, _proposal_key(blank.digest), Proposal) or blank
    if any(earlier.organisation == vote.organisation for earlier in proposal.votes):
        raise Misuse(f"{vote.organisation} has voted on this already; a vote counts once and stays")
    if not proposal.votes:
        opened = [each for each in proposals(state) if each.votes[0].organisation == vote.organisation]
        if len(opened) >= MAX_OPEN:
            raise Misuse(f"{vote.organisation} has opened {MAX_OPEN} proposals; wait until one is decided")
        save(state, _OPEN, (*_open(state), blank.digest))
    proposal = msgspec.structs.replace(proposal, votes=(*proposal.votes, vote))
    save(state, _proposal_key(proposal.digest), proposal)
    # A seat is a trusted organisation's, so the members are those who may vote.
    electors = sum(member.host not in _hosts(state, proposal) for member in members(state).members)
    if 3 * len(proposal.votes) > 2 * electors:
        _carry_out(state, proposal, vote.height)


def _hosts(state: View, proposal: Proposal) -> set[str]:
    """Of the organisation concerned; one that wants to join has no seat yet."""
    standing = load(state, _organisation_key(proposal.organisation), Standing)
    return set() if standing is None else {passport.host for passport in standing.organisation.hosts}


def _carry_out(state: Overlay, proposal: Proposal, height: int) -> None:
    """The members that result decide the next height. They never fall to none: the last voter keeps its seat."""
    reason = proposal.votes[0].reason
    if proposal.joining is not None:
        _admit(state, Standing(proposal.joining, TRUSTED, height, reason, proposal.votes))
    else:
        key = _organisation_key(proposal.organisation)
        organisation = need(state, key, Standing).organisation
        save(state, key, Standing(organisation, REVOKED, height, reason, proposal.votes))
        gone = {passport.host for passport in organisation.hosts}
        before = members(state)
        seats = tuple(member for member in before.members if member.host not in gone)
        save(state, _MEMBERS, Members(before.version + 1, seats))
    for digest in _open(state):
        state.put(_proposal_key(digest), None)
    save(state, _OPEN, ())


def _admit(state: Overlay, standing: Standing) -> None:
    organisation = standing.organisation
    save(state, _NAMES, (*need(state, _NAMES, tuple[str, ...]), organisation.name))
    save(state, _organisation_key(organisation.name), standing)
    save(state, _holder_key(organisation.key), Holder(organisation.name, None))
    accounts.grant(state, organisation.key)
    for passport in organisation.hosts:
        save(state, _holder_key(passport.key), Holder(organisation.name, passport.host))
        save(state, _host_key(passport.host), organisation.name)
    seat = Member(organisation.hosts[0].host, organisation.hosts[0].key)
    before = members(state)
    save(state, _MEMBERS, Members(before.version + 1, (*before.members, seat)))


def _open(state: View) -> tuple[bytes, ...]:
    return need(state, _OPEN, tuple[bytes, ...])


def _domain(kind: str) -> str:
    return f"agentplatform/proposal/{kind}"


def _organisation_key(name: str) -> bytes:
    return b"trust/organisation/" + name.encode()


def _holder_key(key: bytes) -> bytes:
    return b"trust/key/" + key


def _host_key(host: str) -> bytes:
    return b"trust/host/" + host.encode()


def _proposal_key(digest: bytes) -> bytes:
    return b"trust/proposal/" + digest
