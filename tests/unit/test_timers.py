"""Adaptive timers: a view that decides nothing doubles the next one's time, up to a bound; a decision ends that."""

from ledger.consensus.settings import Settings
from ledger.consensus.timers import Timers

SETTINGS = Settings(view_timeout=2.0, max_view_timeout=60.0, resend_every=0.5, status_every=2.0)


def given(timers: Timers, now: float) -> float:
    """The seconds that the primary has from `now` on."""
    timers.expect_decision(now)
    assert timers.deadline is not None
    return timers.deadline - now


def after_failures(count: int) -> Timers:
    timers = Timers(SETTINGS)
    for _ in range(count):
        timers.view_failed()
    return timers


def test_each_view_that_fails_doubles_the_time_up_to_the_bound() -> None:
    assert [given(after_failures(count), 10.0) for count in range(7)] == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]
    assert given(after_failures(10_000), 10.0) == 60.0  # and no number grows too large


def test_a_decision_ends_the_doubling() -> None:
    timers = after_failures(4)
    given(timers, 10.0)
    timers.decided()
    assert timers.deadline is None
    assert given(timers, 20.0) == 2.0


def test_time_that_runs_is_not_given_again() -> None:
    timers = Timers(SETTINGS)
    assert given(timers, 10.0) == 2.0
    assert given(timers, 11.5) == 0.5


def test_what_is_undecided_is_sent_again_with_growing_pauses_and_soon_when_it_is_new() -> None:
    timers, now, pauses = Timers(SETTINGS), 100.0, []
    timers.beat_done(now, undecided=False)  # idle until now
    timers.beat_soon(now)
    for _ in range(4):
        pauses.append(timers.beat_at - now)
        now = timers.beat_at
        timers.beat_done(now, undecided=True)
    assert pauses == [0.5, 1.0, 2.0, 2.0]
    timers.beat_soon(now)
    assert timers.beat_at - now == 0.5
    timers.beat_soon(now + 1.9)  # new things all the time do not put it off for ever
    assert timers.beat_at - now == 2.0
    timers.beat_done(now, undecided=False)
    assert timers.beat_at - now == 2.0
