"""Is the package on the disk still the one that this host runs? Workers import from the disk as agents need it."""

import os
import re
from pathlib import Path

from agentplatform import version
from ledger.errors import Unavailable

_VERSION = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)


class Installed:
    def __init__(self, file: Path = Path(version.__file__), running: str = version.__version__) -> None:
        """`file`: where the package says its version; `running`: the version that was loaded."""
        self._file, self._running = file, running
        self._seen: tuple[int, int, int] | None = None  # the file that was found to be of that version

    def check(self) -> None:
        """Raises Unavailable when another version was installed meanwhile, or none: a worker would mix the two."""
        try:
            found = os.stat(self._file)
            mark = found.st_ino, found.st_size, found.st_mtime_ns
            if mark == self._seen:
                return
            said = _VERSION.search(self._file.read_text())
        except OSError:
            now = "its package is gone from the disk"
        else:
            if said is not None and said[1] == self._running:
                self._seen = mark
                return
            now = f"version {said[1] if said else 'unknown'} was installed meanwhile"
        raise Unavailable(
            f"this host runs version {self._running} of agentplatform, and {now}: workers would mix the two, so it "
            "opens no agents; restart it (agentplatform stop, agentplatform start)"
        )
