"""Processor time and memory of processes and all that they start, looked at every 10 ms by a process of its own.

    with sampled({"north": pid}) as seen:
        ...
    seen.samples["north"]     # what each look saw

    python -m benchmarks.sampler NAME=PID ..    is that process; it ends when its standard input does

Processor time is the kernel's own count for each process, in nanoseconds (clock_getcpuclockid(3)); what a child that
ended between two looks used since the first of them is missed. Memory is RSS at each look: pages that processes share
are in it once for each; and PSS (shared pages divided among those who share them) before and after, since the kernel
takes a millisecond for that of one process.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from resource import RUSAGE_SELF, getpagesize, getrusage
from typing import NamedTuple

EVERY = 0.01  # seconds


class Sample(NamedTuple):
    at: float  # CLOCK_MONOTONIC, seconds
    processor: float  # seconds that were used until then, since the first look at each process
    memory: int  # bytes, RSS


@dataclass
class Seen:
    """Filled when the block ends."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    pss: dict[str, tuple[int, int]] = field(default_factory=dict)  # bytes, before and after
    own: float = 0.0  # of a core, what looking took


@contextmanager
def sampled(roots: Mapping[str, int]) -> Iterator[Seen]:
    """`roots`: a name for each process. Raises AssertionError when the sampler failed."""
    words = (sys.executable, "-m", "benchmarks.sampler", *(f"{name}={pid}" for name, pid in roots.items()))
    seen = Seen()
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            if not process.stdout.readline():
                raise AssertionError("the sampler did not start")
            yield seen
        except BaseException:
            process.kill()
            raise
        told, _ = process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"the sampler failed with {process.returncode}")
    found = json.loads(told)
    seen.samples = {name: [Sample(*each) for each in rows] for name, rows in found["samples"].items()}
    seen.pss = {name: (before, after) for name, (before, after) in found["pss"].items()}
    seen.own = found["own"]


class Tree:
    """A process, and all that it and its children have started."""

    def __init__(self, root: int) -> None:
        self._root, self._page = root, getpagesize()
        self._first: dict[int, float] = {}  # seconds of processor time when a process was there already at the start
        self._used: dict[int, float] = {}  # until the last look; those that ended are in it
        self._first = {pid: _processor(pid) for pid in self.processes()}

    def look(self) -> Sample:
        memory = 0
        for pid in self.processes():
            with suppress(OSError):
                self._used[pid] = _processor(pid) - self._first.get(pid, 0.0)
                memory += int(_read(f"/proc/{pid}/statm").split()[1]) * self._page
        return Sample(time.monotonic(), sum(self._used.values()), memory)

    def processes(self) -> list[int]:
        found, at = [self._root], 0
        while at < len(found):
            with suppress(OSError):
                tasks = f"/proc/{found[at]}/task"
                for task in os.listdir(tasks):
                    found += map(int, _read(f"{tasks}/{task}/children").split())
            at += 1
        return found

    def pss(self) -> int:
        total = 0
        for pid in self.processes():
            with suppress(OSError):
                lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
                total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(b"Pss:"))
        return total


def _read(path: str) -> bytes:
    """In one call of the kernel. Raises OSError when the process is gone."""
    file = os.open(path, os.O_RDONLY)
    try:
        return os.read(file, 1 << 16)
    finally:
        os.close(file)


def _processor(pid: int) -> float:
    """Seconds of all its threads. Raises OSError when it is gone."""
    return time.clock_gettime((~pid << 3) | 2)  # clock_getcpuclockid(3), by the kernel's own formula


def _main(roots: dict[str, int]) -> None:
    trees = {name: Tree(pid) for name, pid in roots.items()}
    before = {name: tree.pss() for name, tree in trees.items()}
    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
    print("ready", flush=True)
    samples: dict[str, list[Sample]] = {name: [] for name in trees}
    begin, used = time.monotonic(), sum(getrusage(RUSAGE_SELF)[:2])
    due = begin
    while not ended.is_set():
        for name, tree in trees.items():
            samples[name].append(tree.look())
        due = max(due + EVERY, time.monotonic())  # one that was held up does not catch up
        time.sleep(max(0.0, due - time.monotonic()))
    own = (sum(getrusage(RUSAGE_SELF)[:2]) - used) / (time.monotonic() - begin)
    pss = {name: (before[name], tree.pss()) for name, tree in trees.items()}
    print(json.dumps({"samples": samples, "pss": pss, "own": own}))


if __name__ == "__main__":
    _main({name: int(pid) for name, pid in (each.rsplit("=", 1) for each in sys.argv[1:])})
