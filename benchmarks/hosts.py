"""The daemons of a benchmark: they run within a block, and none is left behind, however that ends."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from agentplatform.console import processes
from agentplatform.frontdoor.client import homes

ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(root: Path, names: tuple[str, ...], history: Path | None = None) -> Iterator[None]:
    """Hosts whose folders are there. Those whose folder a benchmark deletes meanwhile are its own to end."""
    try:
        processes.start(root, names, history)
        yield
    finally:
        processes.stop(root, tuple(name for name in names if name in homes(root)))


def end_in_order() -> None:
    """A benchmark that is told to end leaves its blocks first, as with Ctrl-C: `finally` stops what it has started."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in ENDS:
            signal.signal(each, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)

    for each in ENDS:
        signal.signal(each, end)
