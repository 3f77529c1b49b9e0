"""The floor under a hop: what one cannot do without, done bare in one process and its echo, with the same bytes.

cloudpickle, sign, verify, one Pyro5 call (msgpack), loads, and four SQLite commits with synchronous=FULL.
"""

import multiprocessing
import sqlite3
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle
import Pyro5.api

from ledger.identity import Identity, verify

DOMAIN = "benchmark/floor"


class _Echo:
    @Pyro5.api.expose
    def take(self, raw: bytes) -> int:
        return len(raw)


def _serve(pipe: Connection) -> None:
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    pipe.send(str(daemon.register(_Echo())))
    daemon.requestLoop()


def measure(state: Any, folder: Path, rounds: int, warm_up: int) -> list[float]:
    """Milliseconds of each round."""
    ours, theirs = multiprocessing.Pipe()
    echo = multiprocessing.get_context("spawn").Process(target=_serve, args=(theirs,), daemon=True)
    echo.start()
    proxy = Pyro5.api.Proxy(ours.recv())
    proxy._pyroSerializer = "msgpack"
    key = Identity(bytes(32))
    database = sqlite3.connect(folder / "floor.db", isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=FULL")
    database.execute("CREATE TABLE log (body BLOB)")
    times = []
    try:
        for _ in range(warm_up + rounds):
            begin = time.perf_counter()
            raw = cloudpickle.dumps(state)
            signature = key.sign(DOMAIN, raw)
            if not verify(key.public, DOMAIN, raw, signature):
                raise AssertionError("a good signature was refused")
            proxy.take(raw)
            cloudpickle.loads(raw)
            for _ in range(4):
                database.execute("INSERT INTO log VALUES (?)", (raw,))
            times.append((time.perf_counter() - begin) * 1000)
    finally:
        proxy._pyroRelease()
        echo.terminate()
        echo.join()
        database.close()
    return times[warm_up:]
