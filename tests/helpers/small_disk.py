"""A real file system of a few MiB, in a mount namespace of one process: it goes with that."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

BLOCK = 1 << 16
MOUNT = 'mount -t tmpfs -o "size=$1,mode=700" none "$2" && shift 2 && exec "$@"'


def on_small_disk(folder: Path, size: int, command: Sequence[str]) -> list[str]:
    """The command, to be run where `folder` is empty and has room for `size` bytes. From outside it is `seen`."""
    within = ["sh", "-c", MOUNT, "sh", str(size), str(folder), *command]
    return ["unshare", "--user", "--map-root-user", "--mount", *within]


def why_not(folder: Path) -> str | None:
    """Why that cannot be done here; None if it can."""
    try:
        tried = subprocess.run(on_small_disk(folder, BLOCK, ["true"]), capture_output=True, text=True)
    except FileNotFoundError as error:
        return f"there is no {error.filename}"
    return f"no file system can be mounted here: {tried.stderr.strip()}" if tried.returncode else None


def seen(pid: int, folder: Path) -> Path:
    """The folder of that process, for another one. Only for files: SQLite resolves the path."""
    return Path(f"/proc/{pid}/root{folder}")


def fill(folder: Path, leave: int = 0) -> Path:
    """A file that takes up all room there but `leave` bytes, or less. Returns it; remove it to make room."""
    filler = folder / "filler"
    with filler.open("ab", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for step in (BLOCK, 4096):
            try:
                while True:
                    size += os.write(file.fileno(), bytes(step))
            except OSError:
                pass
        os.ftruncate(file.fileno(), max(0, size - leave))
    return filler
