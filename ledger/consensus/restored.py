"""A replica whose data is an old copy of itself signs nothing until the chain is beyond what it may have signed. Pure.

It has forgotten votes and view changes that others still hold; to vote again would be to vote twice. What it may
have signed is bounded by what the others know. Whatever it voted on stood on a block that q members had committed to,
who therefore stood at most one block below; and it asked for view v only when q members had asked for v - 1. Of
n - q + f + 1 other members one at least is honest and among those q. So, once that many have said where they stand and
we have come as far as the highest of them, at height h: we signed nothing above height h + 2, and asked for no view
above the highest of theirs + 1. From height h + 3 on, in that view or a higher one, our vote is a first vote. (A
proposal is no vote, but stands on a decided block all the same.)

All of this is about one set of members. When blocks up to h + 2 change it, other members may have decided the one
above, so those are asked in turn. What is not bounded: a view that we asked for among members of before, and that the
present ones never heard of. It can do harm only if q - 1 of them ask for just that view later on.
"""

import msgspec

from ledger.certificate import Members
from ledger.consensus.messages import Recalled

AHEAD = 2  # heights above the highest known one at which we may have voted


class Fence(msgspec.Struct, frozen=True, array_like=True):
    """Below it nothing is signed. Kept under ledger.consensus.engine.RESTORED."""

    height: int = 0  # up to this one
    view: int = 0  # and no vote in a view below this one
    members_version: int | None = None  # of those who said so; None: not known yet

    def is_of(self, members: Members) -> bool:
        """Whether it is what `members` said. What others said before a change of members bounds nothing after it."""
        return self.members_version == members.version


class Recollection:
    """What the other members say, since we started, about where they stand."""

    def __init__(self, nonce: int) -> None:
        self.nonce = nonce  # none of an earlier start: what was said to that one may be out of date
        self._said: dict[str, Recalled] = {}

    def heard(self, host: str, said: Recalled) -> None:
        if said.nonce == self.nonce:
            self._said[host] = said

    def fence(self, members: Members, own: str, best: int) -> Fence | None:
        """What follows, once enough of `members` have said something and we are as high (`best`) as they are."""
        said = [self._said[m.host] for m in members.members if m.host != own and m.host in self._said]
        enough = members.n - members.quorum + members.f + 1
        if len(said) < enough or max(each.height for each in said) > best:
            return None
        return Fence(best + AHEAD, max(each.view for each in said) + 1, members.version)
