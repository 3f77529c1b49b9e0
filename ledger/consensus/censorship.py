"""Whether the primary leaves out what it knows of, while it decides other things (clause 10). Pure.

A primary that decides nothing is suspected by the clock (timers). One that censors goes on deciding, so here its own
blocks are the witnesses. What must be true of a transaction before its primary is suspected:

- It could run on the committed state whenever we looked. A gap before its nonce is its account's matter.
- It waited from one look to the next, or the chain stood still, and we told the primary: no client can skip the
  primary and blame it. (On a busy chain few wait that long, so little is told.)
- Some time passed since, and PASSED blocks with room, of this primary and in this view, that we voted on ourselves. A
  block that is full, or nearly, is the load's fault, and one that was decided while we were away is nobody's.

It does not see a primary that fills its blocks with transactions of its own.
"""

from collections.abc import Sequence

PASSED = 3  # the first was on its way, the second may have been built while our word was
ENOUGH = 64  # transactions that are told at a time: one that is left out is reason enough


class Overlooked:
    """What one primary knows from us, in one view, and has not decided."""

    def __init__(self, patience: float) -> None:
        self._patience = patience  # seconds that it has from when it was told
        self._leader: tuple[int, str] = (0, "")
        self._seen: frozenset[bytes] = frozenset()  # what was first in line when we looked last
        self._told: dict[bytes, tuple[float, int]] = {}  # when it was told, and the blocks with room before
        self._roomy = 0  # blocks with room so far

    def led_by(self, view: int, primary: str) -> None:
        """Whoever leads now answers for itself alone."""
        if self._leader != (view, primary):
            self._leader = view, primary
            self._told.clear()

    def passed(self) -> None:
        """It has decided a block that had room."""
        self._roomy += 1

    def look(self, first_in_line: Sequence[bytes]) -> list[bytes]:
        """What has waited since the last look."""
        waited = [transaction for transaction in first_in_line if transaction in self._seen]
        self._seen = frozenset(first_in_line)
        return waited

    def told(self, transactions: Sequence[bytes], now: float) -> None:
        """All that can run now and that the primary knows from us; since when, is remembered."""
        self._told = {each: self._told.get(each, (now, self._roomy)) for each in transactions}

    def is_censored(self, transaction: bytes, now: float) -> bool:
        """Whether the primary was told of it long ago, and has passed it over since."""
        at, before = self._told.get(transaction, (now, self._roomy))
        return now >= at + self._patience and self._roomy >= before + PASSED
