"""Links between two processes on this machine: small messages there and back, and bytes a second.

`python -m benchmarks links [--json] [--loop uvloop|plain] [--rounds N]`. The last line is one JSON object.
"""

import argparse
import asyncio
import json
import multiprocessing
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection

import uvloop

from benchmarks.percentiles import percentile
from ledger.identity import Identity
from ledger.links.base import Channel, Passport
from ledger.links.tls import TlsLinks

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "plain": asyncio.new_event_loop,
}
CHAIN = bytes(32)
SMALL = bytes(300)  # about a vote
Answers = asyncio.Queue[tuple[Channel, bytes]]
Answers = asyncio.Queue[tuple[Channel, bytes]]
PARCEL = bytes(8 * 1024 * 1024)  # a face gallery is about this large


def identity(host: str) -> Identity:
    return Identity(host.encode().ljust(32, b"."))  # for this run on loopback alone


async def opened(
    host: str, other: str, pipe: Connection, receiver: Callable[[TlsLinks, Channel, bytes], None]
) -> TlsLinks:
    """The links of `host`, with `other` up; the two processes tell each other their addresses."""
    links = TlsLinks(host, identity(host), CHAIN, "127.0.0.1:0")
    links.on_message(lambda _, channel, message: receiver(links, channel, message))  # before the first message
    up = asyncio.Event()
    links.on_change(lambda _, is_up: up.set() if is_up else None)
    await links.start()
    pipe.send(links.address)
    address = await asyncio.to_thread(pipe.recv)
    links.admit({other: Passport(other, other, identity(other).public, address)})
    await up.wait()
    return links


def echo(loop: str, pipe: Connection) -> None:
    """The other process: answers small messages with themselves, and a parcel by its length."""

    async def main() -> None:
        def answer(links: TlsLinks, channel: Channel, message: bytes) -> None:
            links.send("a", channel, message if len(message) == len(SMALL) else b"%d" % len(message))

        links = await opened("b", "a", pipe, answer)
        await asyncio.to_thread(pipe.recv)  # until the other side is done
        await links.stop()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


async def round_trips(rounds: int, pipe: Connection) -> list[float]:
    """Seconds of each, with `echo` at the other end of `pipe`."""
    links, answers = await _asking(pipe)
    times = await _round_trips(rounds, links, answers)
    await links.stop()
    return times


async def _asking(pipe: Connection) -> tuple[TlsLinks, Answers]:
    answers: Answers = asyncio.Queue()
    links = await opened("a", "b", pipe, lambda _, channel, message: answers.put_nowait((channel, message)))
    return links, answers


async def _round_trips(rounds: int, links: TlsLinks, answers: Answers) -> list[float]:
    times = []
    for _ in range(rounds // 10 + rounds):
        began = time.perf_counter()
        links.send("b", Channel.LEDGER, SMALL)
        await answers.get()
        times.append(time.perf_counter() - began)
    return times[rounds // 10 :]


async def measure(rounds: int, pipe: Connection) -> dict[str, float]:
    links, answers = await _asking(pipe)
    idle = await _round_trips(rounds, links, answers)

    began = time.perf_counter()
    parcels = 40
    for _ in range(parcels):
        links.send("b", Channel.HANDOFF, PARCEL)
        await answers.get()
    seconds = time.perf_counter() - began

    beside: list[float] = []
    for _ in range(20):
        links.send("b", Channel.HANDOFF, PARCEL)
        waiting = True
        while waiting:
            began = time.perf_counter()
            links.send("b", Channel.LEDGER, SMALL)
            channel, _ = await answers.get()
            if channel is Channel.HANDOFF:  # the parcel is through; the vote's answer follows
                waiting = False
                await answers.get()
            else:
                beside.append(time.perf_counter() - began)
    await links.stop()
    return {
        "round_trip_us_p50": round(statistics.median(idle) * 1e6, 1),
        "round_trip_us_p95": round(percentile(idle, 95) * 1e6, 1),
        "throughput_mb_s": round(parcels * len(PARCEL) / seconds / 1e6, 1),
        "round_trip_beside_a_parcel_us_p50": round(statistics.median(beside) * 1e6, 1),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks links", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--loop", choices=LOOPS, default="uvloop")
    parser.add_argument("--rounds", type=int, default=2000, help="round trips that are measured")
    options = parser.parse_args(arguments)
    mine, theirs = multiprocessing.Pipe()
    peer = multiprocessing.get_context("spawn").Process(target=echo, args=(options.loop, theirs), daemon=True)
    peer.start()
    try:
        with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner:
            result = runner.run(measure(options.rounds, mine))
        mine.send("done")
        peer.join(5)
    finally:
        peer.kill()
    if not options.json:
        print(f"small message there and back: {result['round_trip_us_p50']} us (p95 {result['round_trip_us_p95']})")
        print(f"the same while a parcel is sent: {result['round_trip_beside_a_parcel_us_p50']} us")
        print(f"parcels of 8 MiB: {result['throughput_mb_s']} MB/s")
    print(json.dumps(result))
    return 0
