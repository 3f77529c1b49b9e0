"""The disk port with syncs that take long: production's databases, whose commits last as long as is asked."""

import sqlite3
import time
from pathlib import Path
from typing import Any

from ledger import sqlite
from ledger.sqlite import Schema


class SlowDisk:
    """Its `connect` takes the place of `ledger.disk.connect` in one process (see benchmarks.migration_mae)."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: that each commit of something takes, at the least."""
        self._seconds = seconds

    def connect(self, path: Path, schema: Schema) -> sqlite3.Connection:
        seconds = self._seconds

        class Connection(sqlite3.Connection):
            changes = 0

            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
                begin = time.monotonic()
                cursor = super().execute(sql, *parameters)
                if sql == "COMMIT" and self.total_changes != self.changes:  # else it only read
                    self.changes = self.total_changes
                    time.sleep(max(0.0, begin + seconds - time.monotonic()))
                return cursor

        return sqlite.connect(path, schema, Connection)
