"""Keys on disk: one seed a file, readable by its owner alone (mode 0600)."""

import os
import stat
from pathlib import Path

from ledger.errors import Misuse
from ledger.identity import SEED_BYTES, Identity


def create(path: Path) -> Identity:
    """Draws a key and writes it durably. Refuses to replace a file."""
    seed = os.urandom(SEED_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Misuse(f"{path} exists; a key is never overwritten") from None
    with os.fdopen(descriptor, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    return Identity(seed)


def load(path: Path) -> Identity:
    """The key in `path`. Refuses a file that others may read."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        seed = path.read_bytes()
    except OSError as error:
        raise Misuse(f"the key {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise Misuse(f"the key {path} is open to others (mode {mode:04o}); run: chmod 600 {path}")
    return Identity(seed)


def load_or_create(path: Path) -> Identity:
    return load(path) if path.exists() else create(path)
