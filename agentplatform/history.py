"""What happened, for a checker that knows nothing of this code: one JSON line an event (docs/custody-tests.md).

Every process writes to a file of its own, straight to the system: a line that was written outlives the kill of its
writer. Off unless a folder is given (`agentplatform start --history FOLDER`), and then nothing of it is called.
"""

import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ledger.errors import Misuse

Tell = Callable[[bool], None]  # writes lines; whether the agent leaves the host
Release = Callable[[str, Callable[[], None]], None]
Handling = tuple[str, str, int]  # sender, receiver, sequence
ENVIRONMENT = "AGENTPLATFORM_HISTORY"  # how the fork server hears of it: the `prefix` of the daemon's history


class History:
    """One process's file. `host` and `incarnation` stand in each of its lines."""

    def __init__(self, file: Path, host: str, incarnation: int) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.host, self.incarnation = host, incarnation
        self._file = os.open(file, flags, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """`t` is the system's CLOCK_MONOTONIC in seconds, the same for all processes of a machine."""
        line = {"t": time.monotonic(), "host": self.host, "incarnation": self.incarnation, "event": event, **fields}
        os.write(self._file, json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


class HostHistory(History):
    """A daemon's. Its incarnation is the first number that nobody has written under in `folder`."""

    def __init__(self, folder: Path, host: str) -> None:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            incarnation = 1
            while not _claimed(folder / f"{host}.{incarnation}.jsonl"):
                incarnation += 1
            self.prefix = folder / f"{host}.{incarnation}"
            # Messages that need no line when their answer is durable: it is written already, or they were too late,
            # and not handled.
            self.answered: set[Handling] = set()
            self.reopened: set[str] = set()  # agents here whose last handling a kill may have taken the line of
            self.unheld: dict[str, list[Tell]] = {}  # by agent: lines that may not leave yet
            self.release: Release = lambda agent, act: act()  # the gateway's
            self._folder = folder
            self._told: set[Handling] | None = None
            super().__init__(folder / f"{host}.{incarnation}.jsonl", host, incarnation)
        except OSError as error:
            raise Misuse(f"no history can be written to {folder}: {error.strerror}; name another folder") from None

    def reopen(self, agents: Iterable[str]) -> None:
        """They are opened from what a life that ended has written: its own, or another host's."""
        self.reopened.update(agents)
        self._told = None  # to be read anew

    def told(self) -> set[Handling]:
        """The messages that the folder has a line of `handled` for, as of the last `reopen`."""
        if self._told is None:
            files = [file for file in self._folder.glob("*.jsonl") if ".worker-" not in file.name]
            lines = [text for file in files for text in file.read_text().splitlines() if '"handled"' in text]
            rows = [json.loads(text) for text in lines if text.endswith("}")]  # the last one may be cut
            self._told = {(row["sender"], row["receiver"], row["sequence"]) for row in rows}
        return self._told


def of_worker() -> History | None:
    """A worker's, if its daemon has one. Call it before the worker is closed in."""
    prefix = os.environ.pop(ENVIRONMENT, None)
    if prefix is None:
        return None
    host, _, incarnation = Path(prefix).name.rpartition(".")
    return History(Path(f"{prefix}.worker-{os.getpid()}.jsonl"), host, int(incarnation))


def _claimed(file: Path) -> bool:
    """Whether the file is new, and ours."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return False
    return True
