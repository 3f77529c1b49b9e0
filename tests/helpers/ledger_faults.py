"""What happens to a consortium of processes: one function each, that lets it happen and ends it again.

While at most f hosts are hit the others must go on, so the fault lasts until more transactions are acknowledged.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from tests.helpers.ledger_chaos import PATIENCE, SETTINGS, Chaos
from tests.helpers.replicas import until

ROOM = 64 * 1024  # bytes of a file that is full: its log is smaller, its database larger

Fault = Callable[[Chaos, Random], Awaitable[None]]


def unlucky(chaos: Chaos, random: Random) -> list[str]:
    """As many honest hosts as may fail beside the Byzantine ones."""
    return random.sample(chaos.honest, max(1, chaos.f - len(chaos.roles)))


async def go_on(chaos: Chaos, random: Random) -> None:
    await chaos.progress(random.randint(5, 40))


async def crash(chaos: Chaos, random: Random) -> None:
    hosts = unlucky(chaos, random)
    await chaos.kill(*hosts)
    await go_on(chaos, random)
    await chaos.restart(*hosts)


async def crash_loop(chaos: Chaos, random: Random) -> None:
    """Killed again as soon as it listens."""
    host = unlucky(chaos, random)[0]
    for _ in range(3):
        await chaos.kill(host)
        await chaos.restart(host)
    await go_on(chaos, random)


async def freeze(chaos: Chaos, random: Random) -> None:
    hosts = unlucky(chaos, random)
    chaos.note(f"SIGSTOP for {hosts}")
    for host in hosts:
        chaos.processes[host].freeze()
    await go_on(chaos, random)
    for host in hosts:
        chaos.processes[host].thaw()


async def isolate(chaos: Chaos, random: Random) -> None:
    hosts = unlucky(chaos, random)
    chaos.note(f"{hosts} are cut off")
    chaos.cut(hosts, chaos.others(*hosts))
    await go_on(chaos, random)
    chaos.heal()


async def unheard(chaos: Chaos, random: Random) -> None:
    """It hears all, and nobody hears it."""
    hosts = unlucky(chaos, random)
    chaos.note(f"nobody hears {hosts}")
    chaos.proxies.mute(hosts, chaos.hosts)
    await go_on(chaos, random)
    chaos.heal()


async def deaf(chaos: Chaos, random: Random) -> None:
    """It hears nobody, and all hear it."""
    hosts = unlucky(chaos, random)
    chaos.note(f"{hosts} hear nobody")
    chaos.proxies.mute(chaos.others(*hosts), hosts)
    await go_on(chaos, random)
    chaos.heal()


async def halves(chaos: Chaos, random: Random) -> None:
    """Nobody has a quorum. Nothing can be waited for, so the time is drawn: some views long."""
    half = random.sample(chaos.hosts, len(chaos.hosts) // 2)
    chaos.note(f"{half} against the others")
    chaos.cut(half, chaos.others(*half))
    await asyncio.sleep(random.uniform(1, 4) * SETTINGS["view_timeout"])
    chaos.heal()


async def too_many(chaos: Chaos, random: Random) -> None:
    """f + 1 are down, and come back."""
    hosts = random.sample(chaos.honest, chaos.f + 1)
    await chaos.kill(*hosts)
    await chaos.restart(*hosts)


async def blackout(chaos: Chaos, random: Random) -> None:
    await chaos.kill(*chaos.hosts)
    await chaos.restart(*chaos.hosts)


async def failing_disk(chaos: Chaos, random: Random) -> None:
    """Writes of one process fail: it stops with one message, sends nothing more, and goes on when started anew."""
    host = unlucky(chaos, random)[0]
    chaos.note(f"the disk of {host} fails")
    said = alarms(chaos, host)
    await chaos.processes[host].ask("limit", bytes=ROOM)
    await stops_by_itself(chaos, host, said)
    await go_on(chaos, random)
    assert (await chaos.processes[host].ask("status"))["sent_since_failure"] == 0
    await chaos.processes[host].kill()
    await chaos.restart(host)


def alarms(chaos: Chaos, host: str) -> int:
    return chaos.processes[host].log.read_text().count("CRITICAL")


async def stops_by_itself(chaos: Chaos, host: str, said: int = 0) -> None:
    """With one message that says what to do; `said` is the number of `alarms` before."""
    process = chaos.processes[host]
    await until(lambda: process.failure is not None, "it notices", PATIENCE)
    assert process.failure is not None
    assert "cannot write" in process.failure and "sends nothing more: start it anew" in process.failure
    assert alarms(chaos, host) == said + 1


FAULTS: dict[str, Fault] = {
    "crash": crash,
    "crash loop": crash_loop,
    "freeze": freeze,
    "isolate": isolate,
    "unheard": unheard,
    "deaf": deaf,
    "halves": halves,
    "too many": too_many,
    "blackout": blackout,
    "failing disk": failing_disk,
}


async def suffer(chaos: Chaos, random: Random, faults: list[Fault]) -> None:
    """One after the other; after each the consortium goes on."""
    await chaos.load()
    for fault in faults:
        await fault(chaos, random)
        chaos.note(f"{fault.__name__} is over")
        await chaos.progress(10)
    await chaos.calm()
    await chaos.judge()
