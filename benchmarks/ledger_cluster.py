"""Replicas of one engine, each a process, and what is asked of all of them."""

import contextlib
import multiprocessing
import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.ledger_link import LOOPBACK, Address, Link
from benchmarks.ledger_node import NodePlan, genesis, serve
from ledger.errors import Unavailable

CONSENSUS = ("short", "want", "bodies", "propose", "vote", "view-change", "new-view", "status", "fetch", "blocks")

ANSWER_SECONDS = 600.0  # for the answers of all replicas; the longest run takes a fraction of it


class Counts(NamedTuple):
    """Of all replicas together."""

    blocks: int
    transactions: int
    messages: Counter[str]  # by kind
    bytes: Counter[str]  # by kind
    primary_bytes: int  # on the primary's link, both ways
    processor: float  # seconds; less disturbed than time by what else the machine does

    def plus(self, other: "Counts") -> "Counts":
        return Counts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))

    def per_block(self) -> dict[str, float]:
        consensus = sum(self.messages[kind] for kind in CONSENSUS)
        return {
            "transactions": self.transactions / self.blocks,
            "messages of consensus": consensus / self.blocks,
            "messages": self.messages.total() / self.blocks,
            "bytes": self.bytes.total() / self.blocks,
            "bytes on the primary's link": self.primary_bytes / self.blocks,
            "ms of processors": self.processor / self.blocks * 1000,
        }

    def processor_per_transaction(self) -> float:
        """Seconds, of all replicas together."""
        return self.processor / self.transactions

    def bytes_per_transaction(self) -> float:
        return self.bytes.total() / self.transactions


NOTHING = Counts(0, 0, Counter(), Counter(), 0, 0.0)


class Cluster:
    def __init__(
        self, engine: str, n: int, folder: Path, link: Link = LOOPBACK, block_transactions: int | None = None
    ) -> None:
        """`link` is the primary's. `block_transactions`: at most so many in a block; None: as in production."""
        home = Path(tempfile.mkdtemp(prefix=engine, dir=folder))
        addresses = [Address(link, place) for place in range(n)]
        founding = genesis([address.dialled for address in addresses])
        context = multiprocessing.get_context("spawn")
        self.engine = engine
        self.pipes: list[Connection] = []
        self.processes = []
        try:
            for place, address in enumerate(addresses):
                ours, theirs = context.Pipe()
                plan = NodePlan(
                    place,
                    engine,
                    founding,
                    home / str(place),
                    address.listen,
                    address.namespace,
                    block_transactions,
                )
                process = context.Process(target=serve, args=(plan, theirs), daemon=True)
                with _interrupts_are_ours():
                    process.start()
                    self.pipes.append(ours)
                    self.processes.append(process)
                theirs.close()  # so that its end is heard
            self._answers(self.pipes)
            self.ask_all("open_accounts")
            self.throughput("transfers", 250 * n)  # warm
            self.counts()
        except BaseException:  # Ctrl-C too: nobody has the cluster yet who could stop it
            self.stop()
            raise

    def ask_all(self, name: str, *arguments: Any) -> list[Any]:
        return self._ask(self.pipes, name, arguments)

    def ask(self, place: int, name: str, *arguments: Any) -> Any:
        return self._ask([self.pipes[place]], name, arguments)[0]

    def _ask(self, pipes: list[Connection], name: str, arguments: tuple[Any, ...]) -> list[Any]:
        for pipe in pipes:
            with contextlib.suppress(BrokenPipeError):  # its end is told when its answer is waited for
                pipe.send((name, arguments))
        return self._answers(pipes)

    def _answers(self, pipes: list[Connection]) -> list[Any]:
        """One of each. Raises Unavailable as soon as one of these replicas has ended, and when one hangs."""
        answers: dict[Connection, Any] = {}
        while waiting := [pipe for pipe in pipes if pipe not in answers]:
            ready = wait(waiting, ANSWER_SECONDS)
            if not ready:
                raise Unavailable(f"{self._name(waiting[0])} did not answer within {ANSWER_SECONDS:g} s")
            for pipe in ready:
                assert isinstance(pipe, Connection)
                try:
                    answers[pipe] = pipe.recv()
                except (EOFError, ConnectionError):
                    raise Unavailable(f"{self._name(pipe)} ended; what it printed says why") from None
        return [answers[pipe] for pipe in pipes]

    def _name(self, pipe: Connection) -> str:
        return f"replica {self.pipes.index(pipe)} of {self.engine}"

    def throughput(self, kind: str, count: int) -> float:
        """Transactions a second: `count` by the clients of all replicas, to the finality of the last."""
        each = -(-count // len(self.pipes))
        self.ask_all(f"prepare_{kind}", each)
        times = self.ask_all("run")
        return each * len(self.pipes) / (max(end for _, end in times) - min(begin for begin, _ in times))

    def counts(self) -> Counts:
        """Since it was asked last."""
        found = self.ask_all("counts")
        messages: Counter[str] = sum((each.messages for each in found), Counter())
        size: Counter[str] = sum((each.bytes for each in found), Counter())
        on_link = found[0].bytes.total() + sum(each.to_primary for each in found[1:])
        processor = sum(each.processor for each in found)
        return Counts(found[0].blocks, found[0].transactions, messages, size, on_link, processor)

    def failover(self) -> float:
        """Seconds from the kill of the primary to the finality of a transaction."""
        killed = time.monotonic()
        os.kill(self.processes[0].pid or 0, signal.SIGKILL)
        return float(self.ask(1, "one_at")) - killed

    def stop(self) -> None:
        """At once, whatever they are doing: nothing of theirs is kept."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


@contextlib.contextmanager
def _interrupts_are_ours() -> Iterator[None]:
    """What is started within never hears of Ctrl-C: it is for us, who then end it in order."""
    resource_tracker.ensure_running()  # it would be started with the first process, and lift the mask
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
