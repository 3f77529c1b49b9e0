"""The daemons of `benchmarks.migration`: production's own, or such as have a slow disk, slow links, or take notes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from agentplatform.consortium import found, free_ports
from agentplatform.settings import Home
from benchmarks import ledger_load
from benchmarks.hosts import listen_on, running, spawn
from benchmarks.ledger_load import Load
from benchmarks.slow_link import SlowLink

LOADER = "zenith"  # the member that loads the ledger, and runs no agents


@contextmanager
def hosts(
    root: Path,
    names: tuple[str, ...],
    *,
    sync_ms: float = 0.0,
    round_trip_ms: float = 0.0,
    history: Path | None = None,
    load: int = 0,
) -> Iterator[Load | None]:
    """They run. `sync_ms`: that each commit takes; `round_trip_ms`: of all their links; `history`: the folder for it,
    and for notes; `load`: transactions a second of their ledger."""
    with ExitStack() as ends:
        homes = found(root, (*names, LOADER) if load else names)
        if round_trip_ms:
            for home in homes:
                ends.callback(_slow_down(home, round_trip_ms / 2000).close)
        if sync_ms or history is not None:
            for home in homes[: len(names)]:
                slow = ("--sync-ms", str(sync_ms))
                ends.callback(spawn(home, "benchmarks.migration_mae", *slow, history=history).wait)
        ends.enter_context(running(root, names))
        yield ends.enter_context(ledger_load.running(homes[-1], load)) if load else None


def _slow_down(home: Home, delay: float) -> SlowLink:
    """At the address that the ledger has is the relay, and the host behind it."""
    front = int(home.settings().listen.rsplit(":", 1)[1])
    (back,) = free_ports(1)
    listen_on(home, f"127.0.0.1:{back}")
    return SlowLink(front, back, delay)
