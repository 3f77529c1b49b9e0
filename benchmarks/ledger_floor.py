"""What the ledger cannot do without: one verification a transaction and replica, and for finality three messages
and three durable writes."""

import asyncio
import multiprocessing
import os
import statistics
import time
from pathlib import Path

from benchmarks import links
from ledger.disk import FileDisk
from ledger.identity import Identity, verify
from ledger.sqlite import Schema

SIGNED = bytes(180)  # about a transfer
DOMAIN = "benchmark/floor"
SCHEMA = Schema("floor", 1, ("CREATE TABLE log (body BLOB)",))
ROUNDS = 300


def verifications_per_core() -> float:
    """Ed25519 verifications a second on each core, while all cores verify."""
    cores = os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        return statistics.mean(pool.map(_verify, [1.0] * cores, chunksize=1))


def _verify(seconds: float) -> float:
    key = Identity(bytes(32))
    signature = key.sign(DOMAIN, SIGNED)
    done, began = 0, time.perf_counter()
    while (passed := time.perf_counter() - began) < seconds:
        for _ in range(100):
            verify(key.public, DOMAIN, SIGNED, signature)
        done += 100
    return done / passed


async def finality(folder: Path) -> float:
    """Seconds: three small messages over a link and three durable writes, one after the other."""
    mine, theirs = multiprocessing.Pipe()
    peer = multiprocessing.get_context("spawn").Process(target=links.echo, args=("uvloop", theirs), daemon=True)
    peer.start()
    try:
        message = statistics.median(await links.round_trips(ROUNDS, mine)) / 2
        mine.send("done")
        peer.join(5)
    finally:
        peer.kill()
    return 3 * (message + statistics.median(await _writes(folder / "floor")))


async def _writes(folder: Path) -> list[float]:
    disk = FileDisk(folder)
    database = await disk.open("floor", SCHEMA)
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        await database.write(("INSERT INTO log VALUES (?)", (SIGNED,)))
        times.append(time.perf_counter() - began)
        await asyncio.sleep(0)
    await disk.close()
    return times
