"""Histories of hosts that live in one process, by a clock of their own: what the witnesses of production write, and the
twins of workers. The checker judges them as it does those of real hosts."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentplatform.history import Handling, HostHistory
from tests.helpers import history_checker
from tests.helpers.history_checker import Line

TICK = 1e-6  # between two lines of one moment: what comes later is later


class Chronicle:
    """All lines of a world. `clock` is its own, in seconds or in events."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.lines: list[Line] = []
        self._clock, self._last = clock, 0.0
        self._lives: Counter[str] = Counter()

    def begin(self, host: str) -> "VirtualHistory":
        """A life of a host begins."""
        self._lives[host] += 1
        return VirtualHistory(self, host, self._lives[host])

    def killed(self, host: str) -> None:
        self.write("driver", "driver", 1, "fault", fault="kill", on=host)

    def worker(self, host: str, event: str, **fields: Any) -> None:
        """What a worker of the host says, in its present life."""
        self.write(f"{host}.{self._lives[host]}.worker", host, self._lives[host], event, **fields)

    def write(self, file: str, host: str, incarnation: int, event: str, **fields: Any) -> None:
        self._last = max(self._clock(), self._last + TICK)
        line = {"t": self._last, "host": host, "incarnation": incarnation, "event": event, **fields}
        self.lines.append(Line(f"{file}:{len(self.lines) + 1}", line))

    def save(self, folder: Path) -> None:
        """Into files of its processes, behind what is there."""
        folder.mkdir(parents=True, exist_ok=True)
        for line in self.lines:
            with (folder / f"{line.where.rpartition(':')[0]}.jsonl").open("a") as file:
                file.write(json.dumps(line.data) + "\n")

    def judge(self, at_rest: bool = False) -> None:
        """Raises AssertionError with what is wrong, and the lines that show it."""
        violations = history_checker.check(self.lines, at_rest)
        assert not violations, "\n".join(map(str, violations))


class VirtualHistory(HostHistory):
    """Of one life of a host."""

    def __init__(self, chronicle: Chronicle, host: str, incarnation: int) -> None:
        self.host, self.incarnation = host, incarnation
        self.answered, self.reopened, self.unheld = set(), set(), {}
        self.release = lambda agent, act: act()
        self._chronicle = chronicle

    def write(self, event: str, **fields: Any) -> None:
        self._chronicle.write(f"{self.host}.{self.incarnation}", self.host, self.incarnation, event, **fields)

    def told(self) -> set[Handling]:
        lines = (line for line in self._chronicle.lines if line.event == "handled")
        return {(line["sender"], line["receiver"], line["sequence"]) for line in lines}

    def close(self) -> None: ...
