"""How much a worker has on the disk, as far as the system shows it: a quota where the file system knows none.

Counted are its scratch folder, and files outside it that its processes can write to or keep without a name: what they
were lent and did not close, too. A file that is read only, as a state that is opened, is not its doing. What a process
has put into a socket and not taken out again is not seen; nor is memory.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

LEAST_BYTES = 4096  # of each file and folder, so that many empty ones are not for nothing
MEMORY = "/memfd:"
NO_DISK = MEMORY, "/dev/zero", "/dev/nvidia", "/SYSV"
GONE = FileNotFoundError, ProcessLookupError, NotADirectoryError  # while it was looked at


class Hidden(Exception):
    """The worker keeps something from being looked at."""


def footprint(pid: int, scratch: Path, most: int) -> int:
    """In bytes; a part of it when that is more than `most`. Raises Hidden. Blocks: for a thread."""
    total = 0
    seen: set[tuple[int, int]] = set()
    for facts in _all(pid, scratch):
        if (facts.st_dev, facts.st_ino) not in seen:
            seen.add((facts.st_dev, facts.st_ino))
            total += max(LEAST_BYTES, facts.st_blocks * 512)
            if total > most:
                break
    return total


def _all(pid: int, scratch: Path) -> Iterator[os.stat_result]:
    try:
        yield from _below(scratch)
        for process in _family(pid):
            with suppress(*GONE):
                yield from _open_files(process)
                yield from _shared(process)
    except OSError as error:
        raise Hidden(str(error)) from None


def _below(folder: Path) -> Iterator[os.stat_result]:
    folders = [str(folder)]
    while folders:
        with suppress(*GONE), os.scandir(folders.pop()) as entries:
            for entry in entries:
                with suppress(*GONE):
                    facts = entry.stat(follow_symlinks=False)
                    yield facts
                    if stat.S_ISDIR(facts.st_mode):
                        folders.append(entry.path)


def _family(pid: int) -> Iterator[int]:
    """The worker and what it started: orphans of those are its own children again (jail.adopt_orphans)."""
    waiting = [pid]
    while waiting:
        process = waiting.pop()
        yield process
        with suppress(*GONE):
            for task in os.listdir(f"/proc/{process}/task"):
                with suppress(*GONE), open(f"/proc/{process}/task/{task}/children") as file:
                    waiting += map(int, file.read().split())


def _open_files(pid: int) -> Iterator[os.stat_result]:
    for number in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{number}"
        with suppress(*GONE):
            facts = os.stat(path)
            if stat.S_ISREG(facts.st_mode) and not os.readlink(path).startswith(MEMORY):
                writes = os.lstat(path).st_mode & stat.S_IWUSR  # of the link: how it was opened
                if writes or not facts.st_nlink:
                    yield facts


def _shared(pid: int) -> Iterator[os.stat_result]:
    """Files that it can write to by memory alone."""
    with open(f"/proc/{pid}/maps", errors="replace") as maps:
        for line in maps:
            span, mode, _, device, inode, *name = line.split(maxsplit=5)
            if mode[1] != "w" or mode[3] != "s" or inode == "0" or (name and name[0].startswith(NO_DISK)):
                continue
            start, end = (int(edge, 16) for edge in span.split("-"))
            major, minor = (int(part, 16) for part in device.split(":"))
            blocks = (end - start) // 512  # it may have no name to ask the system by
            fields = (0, int(inode), os.makedev(major, minor), 0, 0, 0, end - start, 0, 0, 0)
            yield os.stat_result(fields, {"st_blocks": blocks})
