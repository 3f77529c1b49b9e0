"""Files of a host that agents may read, beside what they bring along: where a name is looked for."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ledger.errors import Misuse

MAX_NAME = 4096  # characters, as the kernel has it


def find(name: str, folders: Sequence[Path]) -> Path:
    """The file of that name: an absolute one as it stands, another in the first of `folders` that has it.

    It is opened, to see: what a worker may read its jail alone says, symbolic links and all. Raises Misuse that names
    every place looked at.
    """
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or "\0" in name:
        raise Misuse(f"a file's name is a text of 1 to {MAX_NAME} characters, not {name!r:.60}")
    path = Path(name)
    if ".." in path.parts:
        raise Misuse(f"{name!r} is no name of a shared file: it climbs out of the folder by '..'")
    places = [path] if path.is_absolute() else [folder / path for folder in folders]
    found = []
    for place in places:
        reason = _reason_against(place)
        if reason is None:
            return place
        found.append(f"{place} ({reason})")
    looked = ", ".join(found) or "no folder, since this host shares none"
    raise Misuse(
        f"there is no file {name!r} here that agents may read; looked at: {looked}. The host's operator shares a "
        'folder with agents in host.toml: [workers] readable = ["/srv/models"]'
    )


def _reason_against(place: Path) -> str | None:
    try:
        file = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its other end
    except OSError as error:
        return error.strerror or type(error).__name__
    try:
        return None if stat.S_ISREG(os.fstat(file).st_mode) else "no regular file"
    finally:
        os.close(file)
