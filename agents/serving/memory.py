"""The memory of one computation is kept for the next.

The C library gives large blocks back to the system when they are freed, which clears each page of them when they are
taken again: 24,000 to 54,000 pages for eight pictures through MobileNetV2, a third to a half of the time that takes.
"""

import ctypes

KEPT_BYTES = 128 << 20
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1  # mallopt(3)
# The heaps of threads have 64 MiB each, which is too little for such a batch: all take from the first one.
_SETTINGS = (_ARENA_MAX, 1), (_TRIM_THRESHOLD, KEPT_BYTES), (_MMAP_THRESHOLD, KEPT_BYTES)


def keep_freed() -> bool:
    """Up to KEPT_BYTES, in this process, from now on; before it has threads. False where the C library has no such
    settings (musl), or takes none so large."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and all(mallopt(*setting) for setting in _SETTINGS)
