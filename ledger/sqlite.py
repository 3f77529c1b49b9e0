"""SQLite as this project uses it: checked when opened, never overwritten, private to its owner."""

import contextlib
import hashlib
import os
import sqlite3
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import quote

from ledger.durable import sync
from ledger.errors import Misuse

# Codes (sqlite.org/rescode.html) that say nothing about the file's content.
_ELSEWHERE = {
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_AUTH,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_NOMEM,
}
LOG_BYTES = 16 << 20  # of a log that grew larger while it could not be moved into its file; then it is cut again


@dataclass(frozen=True)
class Schema:
    """What a database file must be. `name` and `version` stand in its header (application_id, user_version)."""

    name: str
    version: int  # raised by every change of `statements`; at least 1
    statements: tuple[str, ...]  # that make an empty database

    @property
    def application_id(self) -> int:
        """31 bits: SQLite's field is a signed 32-bit integer."""
        return int.from_bytes(hashlib.sha256(f"agentplatform/{self.name}".encode()).digest()[:4], "big") >> 1

    def create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN")
        for statement in self.statements:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {self.application_id}")
        connection.execute(f"PRAGMA user_version = {self.version}")
        connection.execute("COMMIT")


def connect(path: Path, schema: Schema, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    """The database in `path`, made if it is missing; mode 0600, WAL, synchronous=FULL, no implicit transactions.

    What can be read from it is durable: after a crash of the process alone, the newest commits may stand in the
    system's cache only, so files are synced before they are read. Raises Misuse, and changes nothing, for a file
    that is corrupt, another application's, or of another version. Blocks; may be used from any one thread at a time.
    """
    try:
        if path.exists():
            for file in (path, _beside(path, "-wal")):
                # Only while no connection has it open: closing a descriptor drops SQLite's locks on it.
                with contextlib.suppress(FileNotFoundError):
                    sync(file)
            _check(path, schema)
            path.chmod(0o600)
        else:
            _make(path, schema)
        return _open(path, factory)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CANTOPEN) & 0xFF in _ELSEWHERE:
            raise _barred(path, str(error)) from None
        raise _corrupt(path, str(error)) from None
    except UnicodeDecodeError:  # SQLite quotes what it found
        raise _corrupt(path, "it has text that is no text") from None
    except OSError as error:
        raise _barred(path, error.strerror) from None


def _open(path: Path, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, factory=factory)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
    return connection


def _check(path: Path, schema: Schema) -> None:
    """Reads only: a connection that may write would move the log into the file when it is closed.

    Without a log even the files beside it are left alone ("immutable"); with one, its pages must be seen.
    """
    if not path.stat().st_size:
        raise _corrupt(path, "it is empty")
    mode = "mode=ro" if _has_log(path) else "immutable=1"
    connection = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{mode}", uri=True)
    connection.text_factory = partial(str, encoding="utf-8", errors="replace")
    try:
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (health,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        made = {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")}
    finally:
        connection.close()
    if health != "ok":
        raise _corrupt(path, " ".join(health.split()))
    if application != schema.application_id:
        raise Misuse(f"{path} is no {schema.name} database of this platform; nothing was changed; move it away")
    if version != schema.version:
        age = "a newer" if version > schema.version else "an older"
        raise Misuse(
            f"the database {path} is of {age} release (version {version}; this one knows {schema.version}); "
            "nothing was changed; start that release, or restore a backup"
        )
    if not made <= set(schema.statements):
        raise _corrupt(path, "its tables are not as they were made")


def _make(path: Path, schema: Schema) -> None:
    """Makes the database beside its place and renames it: a file in the place is always a whole one."""
    if _has_log(path):  # SQLite would play it into the new file
        raise Misuse(f"the database {path} is missing but its log {path.name}-wal is there; move the log away too")
    new = _beside(path, ".new")
    for rest in ("", "-wal", "-shm", "-journal"):
        _beside(new, rest).unlink(missing_ok=True)
    os.close(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # SQLite gives its log the same mode
    connection = _open(new)
    try:
        schema.create(connection)
    finally:
        connection.close()
    sync(new)
    new.rename(path)
    sync(path.parent)


def _has_log(path: Path) -> bool:
    log = _beside(path, "-wal")
    return log.exists() and log.stat().st_size > 0


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _barred(path: Path, reason: str | None) -> Misuse:
    return Misuse(f"the database {path} cannot be opened: {reason}; see to its folder, its owner, and the disk (space)")


def _corrupt(path: Path, reason: str) -> Misuse:
    return Misuse(f"the database {path} is corrupt ({reason}); nothing was changed; move it away or restore a backup")
