"""Keys on disk: one seed a file, readable by its owner alone (mode 0600)."""

import contextlib
import os
import stat
import tempfile
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
        _write(path, identity)
    except FileExistsError:
        raise Misuse(f"{path} exists; a key is never overwritten") from None


def _write(path: Path, identity: Identity) -> None:
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(identity.seed)
            file.flush()
            os.fsync(file.fileno())
        os.link(partial, path)
    finally:
        os.unlink(partial)
    sync(path.parent)


def load(path: Path) -> Identity:
    """The key in `path`. Refuses a file that others may read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        seed = path.read_bytes()
    except OSError as error:
        raise Misuse(f"the key {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise Misuse(f"the key {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
    if len(seed) != SEED_BYTES:
        raise Misuse(f"the key {path} has {len(seed)} bytes, not {SEED_BYTES}; put it back from a copy of it")
    return Identity(seed)


def load_or_create(path: Path) -> Identity:
    """The key in `path`; a fresh one if there was none. Who comes second gets the first one's."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):
            _write(path, draw())
    return load(path)
