"""When a member votes that an agent in held custody gets a new home, for whom, and when it takes that back. Pure.

Holders report agents whose host is silent; a report is a hint, and each member judges by its own chain and by its own
heartbeats (ledger.heartbeats): the promise that goes with a vote is made by ledger.client.
"""

from collections import Counter
from collections.abc import Collection

import msgspec

from ledger.contracts.residence import Residence, Vote

REPORT_LIFE = 5.0  # seconds that a report counts
FIRST_PAUSE, LONGEST_PAUSE = 2.0, 30.0  # seconds between two votes on one agent
OWN_VIEW = 2  # attempts in which a member votes for a holder that it can reach; after that with the most
REGRET = 3.0  # seconds that a host is linked again before the vote against it is taken back


class Cast(msgspec.Struct, frozen=True):
    """Vote for `destination`."""

    destination: str


class Withdraw(msgspec.Struct, frozen=True):
    """Take the vote back."""

    epoch: int  # that it was for


class Case(msgspec.Struct):
    """One agent whose host is reported as silent."""

    reported: float  # the last time
    epoch: int = -1  # that the votes below are for
    attempts: int = 0
    not_before: float = 0.0
    linked_since: float | None = None


def destination(
    holders: tuple[str, ...],
    reachable: Collection[str],
    votes: Collection[Vote],
    attempt: int,
    closed: Collection[str] = (),
) -> str | None:
    """The holder to vote for: with the most votes that stand, else the first in the ledger's order; at first only one
    that this member can reach; never one that is `closed`. All who see the same votes choose the same."""
    holders = tuple(each for each in holders if each not in closed)
    if attempt < OWN_VIEW:
        holders = tuple(each for each in holders if each in reachable)
    count = Counter(each.destination for each in votes)
    return max(holders, key=lambda each: (count[each], -holders.index(each)), default=None)


def look(
    case: Case,
    now: float,
    host: str,
    there: Residence,
    wait: float,
    votes: Collection[Vote],
    up: Collection[str],
    closed: Collection[str] = (),
) -> Cast | Withdraw | None:
    """What this host, a member, does about the agent that the ledger has at `there`. `wait` is what its own heartbeats
    say (ledger.leases), `votes` stand on the ledger, `up` are the hosts that it has a link to, `closed` those
    that take no agents."""
    if case.epoch != there.epoch + 1:
        case.epoch, case.attempts, case.not_before = there.epoch + 1, 0, 0.0
    linked = there.host in up
    case.linked_since = (case.linked_since if case.linked_since is not None else now) if linked else None
    if now < case.not_before:
        return None
    mine = next((each for each in votes if each.member == host), None)
    if mine is not None and case.linked_since is not None and now - case.linked_since > REGRET:
        _pause(case, now)
        return Withdraw(case.epoch)
    if wait > 0 or now - case.reported > REPORT_LIFE:
        return None
    chosen = destination(there.holders, {*up, host}, votes, case.attempts, closed)
    if chosen is None:
        return None
    _pause(case, now)
    case.linked_since = now if linked else None  # it may hang, and keep its links: the vote has its time
    return None if mine is not None and mine.destination == chosen else Cast(chosen)


def _pause(case: Case, now: float) -> None:
    case.not_before = now + min(FIRST_PAUSE * 2**case.attempts, LONGEST_PAUSE)
    case.attempts = min(case.attempts + 1, 10)


def over(case: Case, now: float, host: str, there: Residence | None, votes: Collection[Vote]) -> bool:
    """Nothing is left to do about it here."""
    if there is None or there.host in ("", host):
        return True
    return now - case.reported > REPORT_LIFE and all(each.member != host for each in votes)
