"""Ganache, the test chain of the paper, side by side: one process without consensus, by JSON-RPC over HTTP.

Measured only where `ganache` is in PATH. Its best configuration counts: what several connections send in batches, mined
at once or by a timer. A transfer is an eth_sendTransaction between unlocked accounts; an account comes to be on its
chain by the first transfer to an address.
"""

import json
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

INSTALL = "npm install --prefix FOLDER ganache, and PATH=FOLDER/node_modules/.bin:$PATH"
SENDERS = 8  # connections, and accounts that send
BATCH = 25  # calls in one request
TRANSFERS = 1000
ROUNDS = 3
START_SECONDS = 60
ANSWER_SECONDS = 300
MODES = {
    "mined at once": ("--miner.instamine", "eager"),
    "mined every second": ("--miner.blockTime", "1", "--miner.blockGasLimit", "0x20000000"),
}


class Figures(NamedTuple):
    """A second, each in the best mode."""

    transfers: float
    creations: float


def measure(folder: Path) -> Figures | None:
    """None: it is not installed."""
    program = shutil.which("ganache")
    if program is None:
        return None
    found = []
    for options in MODES.values():
        with _running(program, options, folder) as port:
            chain = _Chain(port)
            found.append(Figures(chain.transfers(fresh=False), chain.transfers(fresh=True)))
    return Figures(*(max(each) for each in zip(*found, strict=True)))


class _Chain:
    def __init__(self, port: int) -> None:
        self._port = port
        self._accounts = _call(self._connection(), "eth_accounts")
        self._addresses = iter(range(1 << 100, 1 << 101))  # that nobody has

    def _connection(self) -> HTTPConnection:
        return HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)

    def transfers(self, fresh: bool) -> float:
        def parameters(place: int) -> list[Any]:
            to = f"0x{next(self._addresses):040x}" if fresh else self._accounts[(place + 1) % SENDERS]
            return [{"from": self._accounts[place], "to": to, "value": "0x1", "gas": "0x5208"}]

        return statistics.median(self._rate(parameters) for _ in range(ROUNDS))

    def _rate(self, parameters: Callable[[int], list[Any]]) -> float:
        batches = TRANSFERS // SENDERS // BATCH
        calls = [[[parameters(place) for _ in range(BATCH)] for _ in range(batches)] for place in range(SENDERS)]
        wanted = self._sent() + SENDERS * batches * BATCH

        def send(place: int) -> None:
            connection = self._connection()
            for batch in calls[place]:
                _batch(connection, "eth_sendTransaction", batch)

        began = time.perf_counter()
        with ThreadPoolExecutor(SENDERS) as pool:
            list(pool.map(send, range(SENDERS)))
        while self._sent() < wanted:
            time.sleep(0.02)
        return SENDERS * batches * BATCH / (time.perf_counter() - began)

    def _sent(self) -> int:
        """Transactions of the senders that are in blocks."""
        found = _batch(
            self._connection(), "eth_getTransactionCount", [[each, "latest"] for each in self._accounts[:SENDERS]]
        )
        return sum(int(each, 16) for each in found)


def _call(connection: HTTPConnection, method: str) -> Any:
    return _batch(connection, method, [[]])[0]


def _batch(connection: HTTPConnection, method: str, calls: list[list[Any]]) -> list[Any]:
    body = [{"jsonrpc": "2.0", "id": place, "method": method, "params": each} for place, each in enumerate(calls)]
    connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
    answers = json.loads(connection.getresponse().read())
    if refused := [each["error"] for each in answers if "error" in each]:
        raise RuntimeError(f"ganache refused {method}: {refused[0]}")
    return [each["result"] for each in sorted(answers, key=lambda each: each["id"])]


@contextmanager
def _running(program: str, options: tuple[str, ...], folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = ("--server.host", "127.0.0.1", "--server.port", str(port), "--logging.quiet", "--wallet.seed", "benchmark")
    accounts = ("--wallet.totalAccounts", str(SENDERS), "--database.dbPath", str(folder / f"ganache-{port}"))
    process = subprocess.Popen((program, *fixed, *accounts, *options), stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("ganache does not start; run it by hand to see why") from None
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()
