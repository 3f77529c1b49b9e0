"""Ctrl-C, SIGTERM and SIGHUP end what runs in order: all three as KeyboardInterrupt, and once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

ENDINGS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Within the block each raises KeyboardInterrupt; after the first, none does until the block is left."""
    before = {ending: signal.signal(ending, _interrupt) for ending in ENDINGS}
    try:
        yield
    finally:
        for ending, handler in before.items():
            signal.signal(ending, handler)


def take_no_more() -> None:
    """What cleans up is not to be interrupted."""
    for ending in ENDINGS:
        signal.signal(ending, signal.SIG_IGN)


def _interrupt(number: int, frame: FrameType | None) -> None:
    take_no_more()
    raise KeyboardInterrupt
