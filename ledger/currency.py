"""How far a replica is behind the others, by what they told of their heights. Pure.

Nobody's word is proof, and one that lies must neither make a replica doubt itself nor feel safe. So it is behind by as
much as f + 1 other members say: one of these is honest. And it has lost touch for as long as it did not hear a quorum:
those could have decided anything meanwhile. Fewer than a quorum decide nothing without somebody that was heard.
"""

from collections.abc import Mapping

import msgspec

from ledger.certificate import Members


class Currency(msgspec.Struct, frozen=True):
    behind: int  # blocks
    unheard: float  # seconds in which a quorum, none of which was heard, could have decided without us


def currency(
    members: Members,
    host: str,
    height: int,
    told: Mapping[str, int],
    heard: Mapping[str, float],
    since: float,
    now: float,
) -> Currency:
    """`told`: host -> its height when it last said it; `heard`: host -> when anything came from it, by the clock of
    `now`. Before `since`, when the replica started, nobody can have been heard."""
    others = [member.host for member in members.members if member.host != host]
    heights = sorted((told[other] for other in others if other in told), reverse=True)
    behind = max(0, heights[members.f] - height) if len(heights) > members.f else 0
    last = sorted(heard.get(other, since) for other in others)  # the longest silent first
    unheard = max(0.0, now - last[members.quorum - 1]) if len(last) >= members.quorum else 0.0
    return Currency(behind, unheard)
