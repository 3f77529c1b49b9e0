"""How the place in a video is found again, and which quality a stay gets: the pure parts."""

from collections.abc import Sequence

import pytest

from agents.video_decoding.position import Attempt, Position, Sieve, Verdict, attempts
from agents.video_decoding.quality import LONG_STAY, SHORT_STAY, quality_for, size_of

Shown = tuple[int | None, bytes]  # timestamp and digest

ANCHOR = Position(5, "all", pts=40, seconds=4.0, digest=b"forty", ordinal=5)
SEEK, START, KEPT = Attempt(4.0), Attempt(counting=True, last=True), Attempt(last=True)


def judged(position: Position, attempt: Attempt, frames: Sequence[Shown], rendition: str = "all") -> str:
    """D, T or I for each frame."""
    sieve = Sieve(position, rendition, attempt)
    return "".join(
        sieve.judge(pts, None if pts is None else pts / 10, lambda digest=digest: digest).name[0]  # type: ignore[misc]
        for pts, digest in frames
    )


def test_frames_up_to_the_anchor_are_dropped() -> None:
    assert judged(ANCHOR, SEEK, [(20, b""), (30, b""), (40, b"forty"), (50, b""), (60, b"")]) == "DDDTT"


@pytest.mark.parametrize(
    "frames",
    [
        [(50, b"")],  # a seek that went too far
        [(30, b""), (40, b"broken")],  # the anchor lacks what it builds on
        [(30, b""), (50, b"")],  # the anchor was skipped
        [(None, b"")],
    ],
)
def test_a_place_that_is_not_proven_is_not_taken(frames: list[Shown]) -> None:
    assert judged(ANCHOR, SEEK, frames)[-1] == "I"


def test_from_the_start_frames_are_counted() -> None:
    frames: list[Shown] = [(None, b"x")] * 7
    assert judged(ANCHOR, START, frames) == "DDDDDTT"


def test_what_is_kept_of_a_stream_is_taken_after_the_anchor_even_if_that_is_missing() -> None:
    assert judged(ANCHOR, KEPT, [(30, b""), (40, b"other"), (50, b"")]) == "DDT"
    assert judged(ANCHOR, KEPT, [(30, b""), (45, b"")]) == "DT"


def test_another_rendition_goes_on_after_the_same_moment() -> None:
    assert judged(ANCHOR, SEEK, [(39, b""), (40, b""), (41, b"")], "low") == "DDT"
    assert judged(ANCHOR, SEEK, [(41, b"")], "low") == "I"  # there may be new frames before it
    assert judged(ANCHOR, KEPT, [(41, b"")], "low") == "T"


def test_the_cheapest_attempt_comes_first_and_the_last_one_counts_from_the_start() -> None:
    assert [each.seconds for each in attempts(ANCHOR, "all", whole=True)] == [4.0, 2.0, None]
    assert list(attempts(ANCHOR, "all", whole=False)) == [KEPT]
    assert list(attempts(Position(1, "all", 0, 0.0, b"", 1, regular=False), "all", whole=True)) == [START]
    assert list(attempts(Position(1, "all", None, None, b"", 1), "all", whole=True)) == [START]
    entered_late = Position(9, "low", 90, 9.0, b"x", None)
    assert list(attempts(entered_late, "low", whole=True))[-1] == KEPT


def test_a_position_knows_whether_timestamps_can_be_trusted() -> None:
    position = Position().after("all", 0, 0.0).after("all", 512, 0.04)
    assert (position.index, position.ordinal, position.regular) == (2, 2, True)
    assert not position.after("all", 512, 0.04).regular
    assert not position.after("all", None, None).regular
    assert position.after("low", 3600, 0.08).ordinal is None
    assert position.after("low", 3600, 0.08).regular


@pytest.mark.parametrize(
    ("expected", "stayed", "quality"),
    [
        (None, 0.0, "low"),  # "not sure of long-term or short-term stay": the low resolution first
        (10.0, 0.0, "low"),
        (SHORT_STAY, 0.0, "medium"),
        (LONG_STAY, 0.0, "high"),
        (10.0, SHORT_STAY, "medium"),  # it lasts longer than expected
        (10.0, LONG_STAY, "high"),
        (LONG_STAY, 1.0, "high"),
    ],
)
def test_falcon_section_5_3(expected: float | None, stayed: float, quality: str) -> None:
    assert quality_for(expected, stayed) == quality


def test_scaled_pictures_have_even_sides() -> None:
    assert [size_of(quality, 1279, 721) for quality in ("high", "medium", "low")] == [
        (1279, 721),
        (638, 360),
        (318, 180),
    ]
    assert size_of("low", 3, 3) == (2, 2)


def test_the_verdicts_have_different_letters() -> None:
    assert sorted(verdict.name[0] for verdict in Verdict) == ["D", "I", "T"]
