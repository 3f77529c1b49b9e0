"""What agents print, for their owners: one file an agent, with bounded size."""

from datetime import UTC, datetime
from pathlib import Path

from agentplatform.settings import private_folder
from ledger.errors import Misuse

MAX_BYTES = 1024 * 1024  # a file and its predecessor, each
MAX_LINE = 4096  # characters
STAMP = len("2000-01-01 00:00:00.000")  # what a line begins with, in UTC: lines of several hosts sort by it


class Logbook:
    def __init__(self, folder: Path) -> None:
        self._folder = private_folder(folder)

    def write(self, agent: str, stream: str, text: str) -> None:
        """Appends lines. `stream`: out, err, or note (the platform's own words)."""
        path = self._folder / f"{agent}.log"
        if path.exists() and path.stat().st_size > MAX_BYTES:
            path.replace(path.with_suffix(".old"))
        stamp = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:STAMP]
        with path.open("a") as file:
            for line in text.splitlines():
                file.write(f"{stamp} {stream:4} {line[:MAX_LINE]}\n")

    def read(self, agent: str, lines: int) -> list[str]:
        """The last `lines` lines; none if the agent never said anything here."""
        if lines < 0:
            raise Misuse(f"the number of lines is at least 0, not {lines}")
        path = self._folder / f"{agent}.log"
        if not path.exists():
            return []
        return path.read_text(errors="replace").splitlines()[-lines:] if lines else []
