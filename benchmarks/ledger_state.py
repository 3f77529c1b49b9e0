"""A state of a million accounts: how fast it is restored, what memory it takes, and what it costs each block."""

import argparse
import asyncio
import gc
import itertools
import json
import multiprocessing
import os
import random
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from benchmarks.ledger_accounts import certify, crowd, with_accounts, write
from ledger import codec, snapshot, store, transaction
from ledger.block import Block
from ledger.chain import Chain, Snapshot
from ledger.consensus import messages
from ledger.consensus.engine import Decide
from ledger.consensus.settings import Settings
from ledger.contracts import accounts
from ledger.disk import FileDisk
from ledger.engines import ENGINES
from ledger.genesis import Genesis, Organisation
from ledger.identity import Identity
from ledger.links.base import Passport
from ledger.links.tls import TlsLinks
from ledger.merkle import Changes
from ledger.performer import Performer
from ledger.replica import Replica
from ledger.transaction import Transaction

MANY = 1_000_000  # accounts
FEW = 1_000
CLIENTS = 1_000  # of the accounts, whose keys are known; each is in every block
BLOCKS = 140  # of CLIENTS transactions: by then each piece of a million accounts was written anew
SEED = 7
HOST = "host-0"
KIND = ENGINES["ipbft"]
SAME, ANYBODY = KINDS = ("the same transfers", "transfers to anybody")

Costs = dict[str, dict[str, float]]  # by kind of block, and what is done: microseconds a transaction


def identity(name: str) -> Identity:
    """For this run alone."""
    return Identity(sha256(name.encode()).digest())


def founding() -> Genesis:
    """Four members; `HOST` leads the first view."""
    passports = [
        Passport(f"host-{place}", f"org-{place}", identity(f"host-{place}").public, f"127.0.0.1:{7000 + place}")
        for place in range(4)
    ]
    founders = [Organisation(each.organisation, identity(each.organisation).public, (each,)) for each in passports]
    return Genesis("benchmark", time.time_ns() // 1_000_000, 1, tuple(founders))


def keys(count: int) -> list[bytes]:
    return [identity(f"client {number}").public for number in range(CLIENTS)] + crowd(count - CLIENTS)


# Each of these runs in a process of its own.


def fill(folder: Path, chain: Genesis, count: int) -> None:
    async def main() -> None:
        disk = FileDisk(folder)
        await write(disk, chain, with_accounts(chain, keys(count), identity))
        await disk.close()

    asyncio.run(main())


def restore(folder: Path, chain: Genesis) -> tuple[float, float]:
    """A replica starts from its disk: the seconds that takes, and the megabytes that the process has then."""

    async def main() -> tuple[float, float]:
        disk = FileDisk(folder)
        links = TlsLinks(HOST, identity(HOST), chain.chain_id(), chain.organisations[0].hosts[0].address)
        replica = Replica(HOST, identity(HOST), chain, disk, links, KIND)
        began = time.perf_counter()
        await replica.start()
        taken = time.perf_counter() - began
        await asyncio.sleep(0)
        gc.collect()
        memory = resident()
        await replica.stop()
        await disk.close()
        return taken, memory

    return asyncio.run(main())


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 1e6


def transfer(full: Path, empty: Path, chain: Genesis) -> float:
    """Seconds from all the pieces of a state, as they come from a peer, to a chain that goes on from it."""

    async def main() -> float:
        disk = FileDisk(full)
        peer = await store.open_store(disk, chain)
        taken = (await peer.load()).snapshot
        assert taken is not None
        nodes = taken.state.level(snapshot.LEVEL)
        pieces = [
            snapshot.encode(snapshot.Piece(1, piece, taken.state.below(snapshot.LEVEL, piece)))
            for piece in range(snapshot.PIECES)
        ]
        block, certificate = taken.block, taken.certificate
        del taken
        await disk.close()
        disk = FileDisk(empty)
        opened = await store.open_store(disk, chain)
        began = time.perf_counter()
        for piece, raw in enumerate(pieces):
            content = snapshot.decode(raw, "peer")
            assert isinstance(content, snapshot.Piece) and content.buckets is not None
            snapshot.check_piece(content.buckets, piece, nodes[piece], "peer")
            await opened.keep_piece(piece, nodes[piece], content.buckets)
        arrived = Snapshot(await opened.arrived_state(), block, certificate)
        Chain(chain, arrived)
        await opened.write(*opened.leap(arrived, ()))
        passed = time.perf_counter() - began
        await disk.close()
        return passed

    return asyncio.run(main())


def blocks(folders: dict[int, Path], chain: Genesis, count: int) -> dict[int, Costs]:
    """What one replica does for blocks that it leads, by how many accounts there are.

    The chains take turns, block by block, so that what else the machine does is all of theirs.
    """

    async def main() -> dict[int, Costs]:
        runs = {many: Run(chain, many) for many in folders}
        for many, run in runs.items():
            await run.open(folders[many])
        for number in range(count):
            for run in runs.values():
                await run.block(number)
        for run in runs.values():
            await run.close()
        return {many: run.costs() for many, run in runs.items()}

    return asyncio.run(main())


class Run:
    """A chain and its store. Every block has one transfer of each client: in turns to another client, so that the
    blocks do the same whatever the state, and to anybody, which touches more accounts the more there are."""

    def __init__(self, chain: Genesis, many: int) -> None:
        self._genesis = chain
        self._clients = [identity(f"client {number}") for number in range(CLIENTS)]
        self._keys = keys(many)
        self._random = random.Random(SEED)  # noqa: S311  the same transfers each time
        self._times: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}

    async def open(self, folder: Path) -> None:
        self._disk = FileDisk(folder)
        self._store = await store.open_store(self._disk, self._genesis)
        self._chain = Chain(self._genesis, (await self._store.load()).snapshot, self._appended)

    def _appended(self, block: Block, changes: Changes) -> None:
        self._state = self._store.append(block.header.height, changes, self._chain.state_below)

    async def block(self, number: int) -> None:
        kind = KINDS[number % len(KINDS)]
        chain, raws = self._chain, list(self._transfers(number, self._keys[:CLIENTS] if kind == SAME else self._keys))
        gc.collect()
        times = [time.perf_counter()]
        for raw in raws:
            chain.take(raw, "a client")
        times.append(time.perf_counter())
        block = chain.build(chain.best.header.timestamp + 1, HOST)
        assert block is not None and len(block.transactions) == CLIENTS
        certificate = certify(block, chain.members(), identity)
        times.append(time.perf_counter())
        chain.append(block, certificate)
        times.append(time.perf_counter())
        await self._store.write(*store.decide(Decide(block, certificate), self._state))
        times.append(time.perf_counter())
        for what, (begin, end) in zip(("take", "build", "append", "write"), itertools.pairwise(times), strict=True):
            self._times[kind].setdefault(what, []).append((end - begin) / CLIENTS * 1e6)

    def _transfers(self, nonce: int, receivers: list[bytes]) -> Iterator[bytes]:
        for client in self._clients:
            to = client.public
            while to == client.public:
                to = self._random.choice(receivers)
            action = codec.encode(accounts.Transfer(to, 1))
            call = Transaction(self._chain.id, client.public, nonce, "accounts", action)
            yield transaction.sign(call, client)

    async def close(self) -> None:
        await self._disk.close()

    def costs(self) -> Costs:
        return {
            kind: {what: statistics.mean(each) for what, each in times.items()} for kind, times in self._times.items()
        }


def catch_up(behind: Path, ahead: Path, chain: Genesis) -> float:
    """Transactions a second: blocks come in ranges, are verified by their certificates, executed and made durable."""

    async def main() -> float:
        disk = FileDisk(ahead)
        peer = await store.open_store(disk, chain)
        ranges, height = [], 1
        while found := await peer.blocks(height + 1, height + Settings().batch):
            ranges.append(KIND.encode_blocks(found))
            answer = messages.decode(ranges[-1], "peer")
            assert isinstance(answer, messages.Blocks)
            height = answer.blocks[-1][0].header.height  # not all fit into one message
        await disk.close()
        disk = FileDisk(behind)
        opened = await store.open_store(disk, chain)
        done: list[Block] = []
        performer = Performer(
            HOST,
            opened,
            KIND,
            time.monotonic,
            lambda: time.time_ns() // 1_000_000,
            lambda to, message: None,
            lambda block, appended: done.append(block),
            lambda sender, transactions: None,
            lambda accusation: None,
            _give_up,
        )
        own = Chain(chain, (await opened.load()).snapshot, performer.on_append)
        performer.begin(own, KIND.create(HOST, identity(HOST), own, {}, certificate=own.certificate))
        began = time.perf_counter()
        for raw in ranges:
            performer.message("host-1", raw)
        await opened.engine()  # durable: a read waits for the writes before it
        passed = time.perf_counter() - began
        performer.halt()
        await disk.close()
        return sum(len(block.transactions) for block in done) / passed

    return asyncio.run(main())


def _give_up(failure: Exception) -> None:
    raise failure


def alone(work: Callable[..., Any], *arguments: Any) -> Any:
    """In a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def measure(folder: Path, many: int, count: int, say: Callable[[str], None]) -> dict[str, Any]:
    chain = founding()
    folders = {FEW: folder / "few", many: folder / "many"}
    for there, place in folders.items():
        alone(fill, place, chain, there)
    behind, empty = folder / "behind", folder / "empty"
    shutil.copytree(folders[many], behind)
    fresh, memory = alone(restore, folders[many], chain)
    say(f"restored from its own disk: {fresh:.2f} s, then {memory:.0f} MB")
    transferred = alone(transfer, folders[many], empty, chain)
    say(f"checked, kept and restored from a peer's pieces: {transferred:.2f} s")
    costs = alone(blocks, folders, chain, count)
    for kind, there in itertools.product(KINDS, folders):
        parts = ", ".join(f"{what} {each:.1f}" for what, each in costs[there][kind].items())
        say(f"{kind}, {there:,} accounts: {parts} us each")
    after, memory_after = alone(restore, folders[many], chain)
    say(f"restored after {count} blocks: {after:.2f} s, then {memory_after:.0f} MB")
    caught_up = alone(catch_up, behind, folders[many], chain)
    say(f"catching up: {caught_up:.0f} transactions a second")
    total = {(there, kind): sum(costs[there][kind].values()) for there in folders for kind in KINDS}
    bare = {there: total[there, SAME] - costs[there][SAME]["take"] for there in folders}
    return {
        "accounts": many,
        "restore_s": round(max(fresh, after), 2),
        "restore_from_pieces_s": round(transferred, 2),
        "replica_mb": round(max(memory, memory_after), 1),
        "catch_up_tps": round(caught_up),
        "tps_ratio_at_a_million": round(total[FEW, SAME] / total[many, SAME], 3),
        "tps_ratio_without_signatures": round(bare[FEW] / bare[many], 3),
        "tps_ratio_to_anybody": round(total[FEW, ANYBODY] / total[many, ANYBODY], 3),
        "tps_at_a_thousand": round(1e6 / total[FEW, SAME]),
        "tps_at_a_million": round(1e6 / total[many, SAME]),
        "disk_mb": round(sum(file.stat().st_size for file in folders[many].iterdir()) / 1e6, 1),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ledger-state", description=__doc__)
    parser.add_argument("--accounts", type=int, default=MANY, help="(default 1,000,000)")
    parser.add_argument("--blocks", type=int, default=BLOCKS, help=f"of {CLIENTS} transfers (default {BLOCKS})")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        say = (lambda line: None) if options.json else print
        figures = measure(Path(folder), options.accounts, options.blocks, say)
    print(json.dumps(figures))
    return 0
