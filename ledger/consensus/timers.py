"""When to act though nothing has arrived. Pure: `now` is an argument, in seconds."""

from ledger.consensus.settings import Settings


class Timers:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._failed_views = 0  # since the last decision
        self._pause = settings.resend_every
        self.beat_at = 0.0  # when Status, and what is undecided, is sent again
        self._beat_by = 0.0  # at the latest, however much happens
        self.relay_at: float | None = None  # when the primary is told of what waits, unless it decides something
        self.look_at: float | None = None  # when we look what it leaves out, whatever it decides
        self.deadline: float | None = None  # when the primary is suspected

    def next(self, *others: float | None) -> float:
        times = (self.beat_at, self.relay_at, self.look_at, self.deadline, *others)
        return min(time for time in times if time is not None)

    def beat_soon(self, now: float) -> None:
        """Something new is undecided; what was sent until now has had its effect. It is not put off for ever."""
        self._pause = self._settings.resend_every
        self.beat_at = min(now + self._pause, self._beat_by)

    def beat_done(self, now: float, undecided: bool) -> None:
        """The pauses grow while nothing changes; when idle they are the longest."""
        self._pause = min(self._pause * 2, self._settings.status_every) if undecided else self._settings.status_every
        self.beat_at = now + self._pause
        self._beat_by = now + self._settings.status_every

    def relay_soon(self, now: float) -> None:
        if self.relay_at is None:
            self.relay_at = now + self._settings.relay_after

    def look_later(self, now: float) -> None:
        if self.look_at is None:
            self.look_at = now + self._settings.view_timeout / 2

    def expect_decision(self, now: float) -> None:
        """The primary's time runs, from the first moment that there is something to decide."""
        if self.deadline is None:
            timeout = self._settings.view_timeout * 2.0 ** min(self._failed_views, 32)
            self.deadline = now + min(timeout, self._settings.max_view_timeout)

    def decided(self) -> None:
        self._failed_views = 0
        self.deadline = self.relay_at = None

    def view_failed(self) -> None:
        self._failed_views += 1
        self.deadline = None


def is_past(time: float | None, now: float) -> bool:
    return time is not None and time <= now
