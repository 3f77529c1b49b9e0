"""What an operator may tune. Times are in seconds unless the name says otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    view_timeout: float = 2.0
    """How long the first primary that is suspected has had. Doubles with each view that decides nothing."""

    max_view_timeout: float = 60.0
    """Where the doubling ends: a cluster that was cut for a day must not wait a day once it is healed."""

    relay_after: float = 0.5
    """A transaction that is still undecided goes to the primary; only then does the primary's time run (clause 10)."""

    resend_every: float = 0.5
    """First pause before what is undecided is sent again; doubles up to `status_every` while nothing changes."""

    status_every: float = 2.0
    """How often an idle replica tells its height and view: one small message to each peer."""

    linger: float = 0.25
    """How long a primary lets a block fill at most. It does so only while much waits and more comes: see `linger`."""

    fetch_after: float = 0.2
    """Patience with votes of a later height: what decides ours is most likely just behind them."""

    allowed_drift_ms: int = 10_000
    """How far the timestamp of a fresh block may be ahead of our wall clock (clause 2)."""

    max_message_bytes: int = 16 * 1024 * 1024
    """Larger messages are refused unread."""

    checkpoint_every: int = 32
    """Blocks between two checkpoints of pbft. As long as none is stable, twice as many are decided at most."""

    batch: int = 64
    """Blocks that are asked for and served at a time while catching up."""
