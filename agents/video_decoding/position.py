"""Where in a video the next frame is, and how the place is found again by a new decoder. Pure.

Of the last frame that was delivered its timestamp and digest are known (the *anchor*). A new decoder begins at a key
frame before it; what it gives is dropped up to the anchor, and what follows is delivered. That the anchor comes out as
it did before is the proof that nothing is missing there: with leading pictures of an open GOP, or after a seek that
went too far, it does not, and the next attempt begins earlier. The last one begins at the start, and counts.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

SAME_MOMENT = 0.001
"""Seconds. Renditions of one video have different clocks (Matroska counts milliseconds)."""

STEPS_BACK = (0.0, 2.0, 10.0)
"""Seconds before the anchor at which a seek is tried, one after the other."""


@dataclass(frozen=True)
class Position:
    """Which frame comes next: the one after the anchor."""

    index: int = 0  # of the next frame, as delivered: it only grows
    rendition: str = ""  # that the anchor is of; "" at the start
    pts: int | None = None  # of the anchor, in its stream's unit
    seconds: float | None = None  # of the anchor, since the start of its stream
    digest: bytes = b""  # of the anchor's pixels, as decoded
    ordinal: int | None = 0  # frames of the rendition up to the anchor; None where it was entered in its midst
    regular: bool = True  # each frame so far had a later timestamp than the one before

    def after(self, rendition: str, pts: int | None, seconds: float | None, digest: bytes = b"") -> "Position":
        """When one more frame was delivered. Its digest is needed for the last of several only."""
        same = rendition == self.rendition or not self.rendition
        later = pts is not None and (not same or self.pts is None or pts > self.pts)
        return Position(
            self.index + 1,
            rendition,
            pts,
            seconds,
            digest,
            self.ordinal + 1 if same and self.ordinal is not None else None,
            later and (self.regular or not same),
        )


@dataclass(frozen=True)
class Attempt:
    """One way to find the place again."""

    seconds: float | None = None  # so far in is the new beginning; None: where the medium begins by itself
    counting: bool = False  # that is the start, and frames are counted from there
    last: bool = False  # what comes of it is taken as it is


def attempts(position: Position, rendition: str, whole: bool) -> Iterator[Attempt]:
    """The ways to try, the cheapest first. `whole`: the medium can be sought in, and begins at its start by itself."""
    same = position.rendition == rendition
    if whole and (position.regular or not same) and position.seconds is not None:
        for back in STEPS_BACK:
            if position.seconds >= back:
                yield Attempt(position.seconds - back)
    yield Attempt(counting=whole and same and position.ordinal is not None, last=True)


class Verdict(Enum):
    DROP = "it was delivered before"
    TAKE = "it is new"
    INEXACT = "the place cannot be found like this"


class Sieve:
    """Judges the frames of one attempt, in order, until it has found the place."""

    def __init__(self, position: Position, rendition: str, attempt: Attempt) -> None:
        self.found = not position.rendition  # then every frame is new
        self._attempt = attempt
        self._position, self._same = position, position.rendition == rendition
        self._seen = 0

    def judge(self, pts: int | None, seconds: float | None, digest: Callable[[], bytes]) -> Verdict:
        """`digest` is called for what may be the anchor alone."""
        self._seen += 1
        if self.found:
            return Verdict.TAKE
        if not self._same:
            return self._by_moment(seconds)
        if self._attempt.counting:
            self.found = self._seen == self._position.ordinal
            return Verdict.DROP
        return self._by_anchor(pts, digest)

    def _by_moment(self, seconds: float | None) -> Verdict:
        """Another rendition goes on after the same moment."""
        if seconds is None or self._position.seconds is None:
            return Verdict.INEXACT
        if seconds <= self._position.seconds + SAME_MOMENT:
            return Verdict.DROP
        if self._seen == 1 and not self._attempt.last:
            return Verdict.INEXACT  # there may be new frames before it
        self.found = True
        return Verdict.TAKE

    def _by_anchor(self, pts: int | None, digest: Callable[[], bytes]) -> Verdict:
        if pts is None or self._position.pts is None:
            return Verdict.INEXACT
        if pts < self._position.pts:
            return Verdict.DROP
        if pts == self._position.pts:
            self.found = digest() == self._position.digest
            return Verdict.DROP if self.found or self._attempt.last else Verdict.INEXACT
        if self._attempt.last:
            self.found = True
            return Verdict.TAKE
        return Verdict.INEXACT
