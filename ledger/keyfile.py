"""Keys on disk: one seed a file, readable by its owner alone (mode 0600)."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ledger.durable import sync
from ledger.errors import Misuse
from ledger.identity import SEED_BYTES, Identity


def draw() -> Identity:
    """A fresh key, of which nothing is on disk yet."""
    return Identity(os.urandom(SEED_BYTES))


def write(path: Path, identity: Identity) -> None:
    """Writes a key durably: all of it, or there is no such file. Refuses to replace one."""
    try:
        write_new(path, identity.seed)
    except FileExistsError:
        raise Misuse(f"{path} exists; a key is never overwritten") from None


def write_new(path: Path, content: bytes) -> None:
    """Of a file for the owner's eyes alone. Raises FileExistsError."""
    with _written(path, content) as partial:
        os.link(partial, path)
    sync(path.parent)


def write_over(path: Path, content: bytes) -> None:
    """In the place of the one before, if there is one; where a link leads, if it is one."""
    path = path.resolve()
    with _written(path, content) as partial:
        os.replace(partial, path)
    sync(path.parent)


@contextlib.contextmanager
def _written(path: Path, content: bytes) -> Iterator[str]:
    """A file beside `path` that has the content, durably; it goes if it is still there in the end."""
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield partial
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)


def load(path: Path) -> Identity:
    """The key in `path`. Refuses a file that others may read."""
    seed = read(path)
    if len(seed) != SEED_BYTES:
        raise Misuse(f"the key {path} has {len(seed)} bytes, not {SEED_BYTES}; put it back from a copy of it")
    return Identity(seed)


def read(path: Path) -> bytes:
    """What a key's file has in it. Refuses one that others may read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        content = path.read_bytes()
    except OSError as error:
        raise Misuse(f"the key {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise Misuse(f"the key {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
    return content


def load_or_create(path: Path) -> Identity:
    """The key in `path`; a fresh one if there was none. Who comes second gets the first one's."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            write_new(path, draw().seed)
    return load(path)
