"""Whether a disk has room, who is to hear of it, and a reserve that is kept free for when there is none."""

import errno
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ledger.errors import Unavailable

log = logging.getLogger(__name__)

RoomObserver = Callable[[Unavailable | None], None]

PROBE_BYTES = 1 << 16
_FULL = (errno.ENOSPC, errno.EDQUOT)


class Room:
    """Of one disk. A full disk has failed nobody: what could not be written waits, whole, until it can be."""

    def __init__(self) -> None:
        self.full: Unavailable | None = None  # why nothing new is to be begun; None while there is room
        self._observers: list[RoomObserver] = []

    def on_change(self, observer: RoomObserver) -> None:
        """`observer(why)` when the disk is full, `observer(None)` when there is room again."""
        self._observers.append(observer)

    def change(self, full: Unavailable | None) -> None:
        was, self.full = self.full, full
        if (was is None) != (full is None):
            for observer in self._observers:
                try:
                    observer(full)
                except Exception:  # the others must hear of it
                    log.exception("an observer of the room on the disk failed")

    def forget(self) -> None:
        """Those who observed it are gone."""
        self._observers.clear()

    def check(self) -> None:
        """Raises Unavailable, with what to do, while the disk is full."""
        if self.full is not None:
            raise Unavailable(str(self.full), retry_after=1.0)


class Reserve:
    """A file that takes up room until that is needed. It may be used from any thread."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self._path = folder / "reserve"
        self._lock = threading.Lock()

    def release(self) -> None:
        """There is so much more room now."""
        with self._lock, suppress(OSError):
            self._path.unlink(missing_ok=True)

    def restore(self) -> bool:
        """False when the disk has not twice that: what begins anew then needs some too."""
        with self._lock, suppress(OSError):
            self._path.unlink(missing_ok=True)
            if not self.size:
                return True
            if _allocated(self._path, 2 * self.size):
                os.truncate(self._path, self.size)
                return True
            self._path.unlink(missing_ok=True)
        return False


def is_full(folder: Path) -> bool:
    """Whether a new file finds no room there, or passes a quota. For an error that does not say that itself."""
    probe = folder / "probe"
    try:
        return not _allocated(probe, PROBE_BYTES)
    finally:
        probe.unlink(missing_ok=True)


def _allocated(path: Path, size: int) -> bool:
    """False when there is no room. Raises OSError for anything else."""
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(file, 0, size)
        finally:
            os.close(file)
    except OSError as error:
        if error.errno in _FULL:
            return False
        raise
    return True
