"""A cable between two TUN devices that takes time: each packet leaves `delay` seconds after it came.

    python -m benchmarks.tun_relay DEVICE DEVICE SECONDS

The devices are descriptors, opened where they belong and passed on. It ends when its standard input does.
"""

import contextlib
import os
import select
import sys
import time
from collections import deque

PACKET = 65536  # bytes, the most that one read gives


def relay(ends: tuple[int, int], delay: float, until: int) -> None:
    """Until the descriptor `until` can be read: it ends, or is told something."""
    queues: dict[int, deque[tuple[float, bytes]]] = {end: deque() for end in ends}  # what came in there
    other = {ends[0]: ends[1], ends[1]: ends[0]}
    for end in ends:
        os.set_blocking(end, False)
    while True:
        dues = [held[0][0] for held in queues.values() if held]
        patience = max(0.0, min(dues) - time.monotonic()) if dues else None
        ready, _, _ = select.select((*ends, until), (), (), patience)
        if until in ready:
            return
        now = time.monotonic()
        for end, held in queues.items():
            if end in ready:
                with contextlib.suppress(BlockingIOError):
                    while True:
                        held.append((now + delay, os.read(end, PACKET)))
            while held and held[0][0] <= now:
                with contextlib.suppress(OSError):  # a packet that its device does not take is lost, as on a cable
                    os.write(other[end], held.popleft()[1])


if __name__ == "__main__":
    relay((int(sys.argv[1]), int(sys.argv[2])), float(sys.argv[3]), sys.stdin.fileno())
