"""What adverts cost: one host among 100, each of which sends one every second.

The host is production's RMS behind production's TLS links; the 99 others are in another process, each with a TLS link
of its own to it, and with adverts that it signed (of 99 links). Counted is the CPU time of the host's process, threads
and kernel included, less what the same links cost idle: probe, encode, sign, send to 99; receive, decode, check and
keep 99; pings, pongs and bursts. All clocks agree, as those of hosts do to some milliseconds. Beside it the same in
memory, without links.
"""

import asyncio
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from agentplatform.bulletins import Rms as RmsBulletin
from ledger import codec
from ledger.identity import Identity
from ledger.links.base import Channel, Passport
from ledger.links.tls import TlsLinks
from services.rms.link_probe import LinkMeasure
from services.rms.probes import ScriptedProbe, SystemProbe, offers
from services.rms.resources import Resources
from services.rms.service import Rms

HOSTS = 100
SECONDS = 10.0
SETTLE_S = 5.0  # until all links are up and have been measured
CHAIN = bytes(32)
NAMES = [f"host-{number:03}" for number in range(HOSTS)]
LIMIT = 2.0  # per cent of one core


def identity(host: str) -> Identity:
    return Identity(host.encode().ljust(32, b"."))  # for this run on loopback alone


def reading() -> Resources:
    return SystemProbe(Path("/")).read()


class Wired:
    """One host: RMS over links, as agentplatform.exchange joins them."""

    def __init__(self, host: str, probe: Any, peers: Callable[[], Iterable[str]] | None = None) -> None:
        self.links = TlsLinks(host, identity(host), CHAIN, "127.0.0.1:0")
        self.rms = Rms(
            host,
            identity(host),
            probe,
            lambda to, raw: self.links.send(to, Channel.ADVERT, codec.encode(RmsBulletin(raw))),
            peers or self.links.up,
            lambda other: identity(other).public if other in NAMES else None,
            offers=offers(),
        )
        self.links.on_message(self._received)

    def _received(self, host: str, channel: Channel, raw: bytes) -> None:
        self.rms.received(host, codec.decode(raw, RmsBulletin, host).message)


class Crowded(Wired):
    """One of the 99: its links to hosts that are not there are made up, and it pings them by turns as the first one."""

    def __init__(self, host: str, probe: Any) -> None:
        super().__init__(host, probe, lambda: [name for name in NAMES if name != host])

    def _own_links(self, _own: float, _now: float) -> dict[str, LinkMeasure]:
        return {name: LinkMeasure(1.2345, 0.01, 812.5) for name in NAMES if name != self.rms.host}


def others(pipe: Connection) -> None:
    """The other process: all hosts but the first."""

    async def main() -> None:
        first = NAMES[0]
        address = await asyncio.to_thread(pipe.recv)
        passports = {first: Passport(first, first, identity(first).public, address)}
        crowd = [Crowded(name, ScriptedProbe([reading()])) for name in NAMES[1:]]
        addresses = {}
        for one in crowd:
            one.rms._own_links = one._own_links  # type: ignore[method-assign]
            await one.links.start()
            addresses[one.rms.host] = one.links.address
            one.links.admit(passports)
        pipe.send(addresses)
        await asyncio.to_thread(pipe.recv)  # all links are up

        tasks = [asyncio.create_task(one.rms.run()) for one in crowd]
        await asyncio.to_thread(pipe.recv)
        for task in tasks:
            task.cancel()
        for one in crowd:
            await one.links.stop()

    uvloop.run(main())


async def over_links(pipe: Connection) -> dict[str, float]:
    """Per cent of one core at the first host: idle, and with adverts."""
    here = Wired(NAMES[0], SystemProbe(Path("/")))
    await here.links.start()
    pipe.send(here.links.address)
    addresses = await asyncio.to_thread(pipe.recv)
    here.links.admit({name: Passport(name, name, identity(name).public, at) for name, at in addresses.items()})
    async with asyncio.timeout(60):
        while len(here.links.up()) < HOSTS - 1:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    idle = await spent(SECONDS / 2)
    pipe.send("begin")
    task = asyncio.create_task(here.rms.run())
    await asyncio.sleep(SETTLE_S)
    before = resource.getrusage(resource.RUSAGE_SELF)
    with_adverts = await spent(SECONDS)
    after = resource.getrusage(resource.RUSAGE_SELF)
    known = len(here.rms.adverts())
    task.cancel()
    pipe.send("end")
    await here.links.stop()
    if known != HOSTS:
        raise SystemExit(f"only {known} hosts are known, not {HOSTS}: this run says nothing")
    kernel = (after.ru_stime - before.ru_stime) / SECONDS * 100
    return {"idle": idle, "busy": with_adverts, "kernel": kernel}


async def spent(seconds: float) -> float:
    """Per cent of one core that this process takes during `seconds`."""
    cpu, wall = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.monotonic() - wall) * 100


def in_memory(rounds: int = 20) -> dict[str, float]:
    """Milliseconds a round at one host: its own, and what 99 others send it. Nothing is sent further."""
    now, posted = [0.0], []
    crowd = {}
    for name in NAMES:
        crowd[name] = Rms(
            name,
            identity(name),
            ScriptedProbe([reading()]),
            lambda to, raw, name=name: posted.append((name, to, codec.encode(RmsBulletin(raw)))),  # type: ignore[misc]
            lambda name=name: [other for other in NAMES if other != name],  # type: ignore[misc]
            lambda other: identity(other).public,
            offers=offers(),
            clock=lambda: now[0],
            wall=lambda: 1e9 + now[0],
        )
        crowd[name]._own_links = lambda *_, name=name: {  # type: ignore[method-assign,misc]
            other: LinkMeasure(1.2345, 0.01, 812.5) for other in NAMES if other != name
        }
    first, own, hearing = crowd[NAMES[0]], 0.0, 0.0
    resources = reading()
    for number in range(rounds + 2):
        now[0] += 1.0
        for name in NAMES[1:]:
            crowd[name].advertise(resources)
            crowd[name].measure_links()
        letters = [(sender, raw) for sender, to, raw in posted if to == NAMES[0]]
        posted.clear()
        began = time.process_time()
        first.advertise(resources)
        first.measure_links()
        middle = time.process_time()
        for sender, raw in letters:
            first.received(sender, codec.decode(raw, RmsBulletin, sender).message)
        first.adverts()
        ended = time.process_time()
        answers = [(sender, to, raw) for sender, to, raw in posted if sender == NAMES[0]]
        posted.clear()
        for sender, to, raw in answers:
            crowd[to].received(sender, codec.decode(raw, RmsBulletin, sender).message)
        for sender, _, raw in posted:
            first.received(sender, codec.decode(raw, RmsBulletin, sender).message)
        posted.clear()
        if number >= 2:
            own += (middle - began) * 1000 / rounds
            hearing += (ended - middle) * 1000 / rounds
    size = len(msgspec.msgpack.encode(first.proof(NAMES[0])))
    return {"own": own, "hearing": hearing, "bytes": size}


def measure() -> dict[str, Any]:
    memory = in_memory()
    print(f"an advert of {HOSTS - 1} links: {memory['bytes']} bytes")
    print(f"in memory: own round {memory['own']:.2f} ms, what {HOSTS - 1} others send {memory['hearing']:.2f} ms")
    mine, theirs = multiprocessing.Pipe()
    peer = multiprocessing.get_context("spawn").Process(target=others, args=(theirs,), daemon=True)
    peer.start()
    try:
        found = uvloop.run(over_links(mine))
        peer.join(10)
    finally:
        peer.kill()
    cost = found["busy"] - found["idle"]
    print(
        f"over TLS links: {found['busy']:.2f} % of one core with adverts ({found['kernel']:.2f} in the kernel), "
        f"{found['idle']:.2f} % without; {cost:.2f} % is theirs (limit {LIMIT:g})"
    )
    return {
        "rms_core_percent_100": round(cost, 2),
        "rms_core_percent_100_memory": round((memory["own"] + memory["hearing"]) / 10, 2),
    }
