"""When an engine acts though nothing has arrived."""

from ledger.consensus.settings import Settings
from ledger.consensus.timers import Timers


def test_a_busy_replica_puts_its_beat_off_but_not_for_ever() -> None:
    """Else one that is behind a fence would never ask where it stands while blocks keep coming."""
    settings = Settings()
    timers = Timers(settings)
    timers.beat_done(0.0, undecided=False)
    now = 0.0
    while now < timers.beat_at:
        now += settings.resend_every / 2
        timers.beat_soon(now)
    assert now == settings.status_every
    timers.beat_done(now, undecided=True)
    timers.beat_soon(now)
    assert timers.beat_at == now + settings.resend_every
