"""The rules: which version of them holds at a height. An upgrade is voted on. Pure.

More than two thirds of the trusted organisations name a version and the height from which it holds. Every header
carries the version that its block was made by, so a replica that does not know the next one stops before that height,
and says so, instead of judging blocks by rules that are not the chain's.
"""

import msgspec

from ledger.codec import encode
from ledger.contracts import auditor, trust
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, View, need, save
from ledger.errors import Misuse
from ledger.genesis import Genesis

UPGRADE = "upgrade"
MAX_NOTICE = 1_000_000  # blocks by which an upgrade may be announced ahead

_KEY = b"rules"


class VoteRules(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=UPGRADE):
    """The blocks from `height` on follow the rules of `version`. A later decision replaces one that waits."""

    version: int
    height: int
    reason: str


class Upgrade(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int
    height: int  # from which it holds
    reason: str
    votes: tuple[trust.Vote, ...]


class Rules(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    version: int  # of the height after this state's
    upcoming: Upgrade | None  # that was decided and does not hold yet


def rules(state: View) -> Rules:
    return need(state, _KEY, Rules)


def found(state: Overlay, genesis: Genesis) -> None:
    save(state, _KEY, Rules(genesis.rules, None))
    auditor.found(state, genesis)


def execute(state: Overlay, call: Call) -> None:
    """One vote. Raises Misuse, with the reason, for one that the rules do not allow."""
    action = call.decode(VoteRules)
    own, now = trust.voter(state, call), rules(state)
    if action.version <= now.version:
        raise Misuse(f"the rules are of version {now.version}; an upgrade names a later one, not {action.version}")
    if not call.height + 1 < action.height <= call.height + MAX_NOTICE:
        raise Misuse(f"the upgrade is for height {action.height}; this is {call.height}: name a later height")
    vote = trust.Vote(own, action.reason, call.height)
    passed = trust.count(state, UPGRADE, "", encode((action.version, action.height)), vote)
    if passed is not None:
        upgrade = Upgrade(action.version, action.height, passed.votes[0].reason, passed.votes)
        save(state, _KEY, Rules(now.version, upgrade))


def apply_due(state: Overlay, height: int) -> None:
    """An upgrade that holds from `height` on. Called at the end of the block before it."""
    now = rules(state)
    if now.upcoming is not None and now.upcoming.height == height:
        save(state, _KEY, Rules(now.upcoming.version, None))
