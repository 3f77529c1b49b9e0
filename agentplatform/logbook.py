"""What agents print, for their owners: one file an agent. How much there is of it is bounded, and how fast it grows."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from agentplatform.settings import Logs, private_folder
from ledger.errors import Misuse
from ledger.rates import Rates

MAX_LINE = 4096  # characters
STAMP = len("2000-01-01 00:00:00.000")  # what a line begins with, in UTC: lines of several hosts sort by it
KEPT = 0.75  # of what all files may have together, once they had more


class Logbook:
    def __init__(self, folder: Path, limits: Logs | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._limits = private_folder(folder), limits or Logs()
        self._rates = Rates(clock, self._limits.a_second, self._limits.file)
        self._lost: dict[str, int] = {}  # lines of an agent since the last one that was written
        self._bytes = sum(path.stat().st_size for path in self._folder.iterdir())

    def printed(self, agent: str, stream: str, text: str) -> None:
        """What its worker says. Of what comes too fast the lines are lost, and counted."""
        if self._rates.allow(agent, len(text) + 32 * (text.count("\n") + 1)):
            self.write(agent, stream, text)
        else:
            self._lose(agent, text)

    def write(self, agent: str, stream: str, text: str) -> None:
        """Appends lines. `stream`: out, err, or note (the platform's own words). Lines that have no room on the disk
        are lost; the next one that is written says how many."""
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:STAMP]
        lines = [f"{stamp} {stream:4} {line[:MAX_LINE]}\n" for line in text.splitlines()]
        if lost := self._lost.get(agent):
            lines.insert(0, f"{stamp} note {lost} lines were lost here: they came too fast, or the disk was full\n")
        try:
            self._append(self._folder / f"{agent}.log", "".join(lines).encode(errors="replace"))
        except OSError:  # a host lives on without a log
            self._lose(agent, text)
        else:
            self._lost.pop(agent, None)

    def _lose(self, agent: str, text: str) -> None:
        self._lost[agent] = self._lost.get(agent, 0) + len(text.splitlines())

    def read(self, agent: str, lines: int) -> list[str]:
        """The last `lines` lines; none if the agent never said anything here."""
        if lines < 0:
            raise Misuse(f"the number of lines is at least 0, not {lines}")
        path = self._folder / f"{agent}.log"
        if not path.exists():
            return []
        return path.read_text(errors="replace").splitlines()[-lines:] if lines else []

    def _append(self, path: Path, raw: bytes) -> None:
        if path.exists() and path.stat().st_size > self._limits.file:
            before = path.with_suffix(".old")
            self._bytes -= before.stat().st_size if before.exists() else 0
            path.replace(before)
        with path.open("ab") as file:
            file.write(raw)
        self._bytes += len(raw)
        if self._bytes > self._limits.all:
            self._forget(path)

    def _forget(self, newest: Path) -> None:
        """The files that nobody has written to for longest."""
        files = [(path.stat(), path) for path in self._folder.iterdir() if path != newest]
        for facts, path in sorted(files, key=lambda each: each[0].st_mtime_ns):
            if self._bytes <= KEPT * self._limits.all:
                return
            path.unlink()
            self._bytes -= facts.st_size
