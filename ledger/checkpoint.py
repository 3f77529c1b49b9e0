"""Which pieces of the state are written with a block, beside what the block changes in it. Pure.

A row for each key would be a page of the database for each key that a block changes. So a block's changes are one
row, and the state itself is written a piece with one block, a piece with another, in turn, each as it is after
that block: a fuzzy checkpoint (Haerder and Reuter, "Principles of transaction-oriented database recovery", 1983). The
changes that all pieces have are dropped. Whoever reads the state applies all others in their order: they are values,
not differences, so it does no harm that some pieces have some of them already.

Writing keeps pace with the changes, SHARE bytes of pieces for each byte of them. So what is kept of changes is at
most a SHARE-th of the state, and some 130 kB for a small one.
"""

from collections.abc import Callable, Sequence

SHARE = 8
PAGE = 4096  # bytes that the smallest piece counts for
ROW = 64  # bytes that a block's changes count for more than they have


class Checkpoint:
    def __init__(self, heights: Sequence[int], changed: int) -> None:
        """`heights`: after which block each piece on the disk is; `changed`: bytes of changes after all of them."""
        self._heights = list(heights)
        self._next = self._heights.index(min(self._heights))
        self._credit = SHARE * changed

    @property
    def height(self) -> int:
        """The changes up to this one are in all pieces."""
        return min(self._heights)

    def turn(self, height: int, changed: int, size: Callable[[int], int]) -> list[int]:
        """The pieces to write with this block, which has so many bytes of changes; `size` tells that of a piece."""
        self._credit += SHARE * (ROW + changed)
        due: list[int] = []
        while self._credit >= PAGE and len(due) < len(self._heights):
            cost = max(PAGE, size(self._next))
            if cost > self._credit:
                break
            self._credit -= cost
            self._heights[self._next] = height
            due.append(self._next)
            self._next = (self._next + 1) % len(self._heights)
        return due
