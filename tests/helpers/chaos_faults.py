"""What the chaos driver does to hosts that run: one function a fault. Each has healed what it did when it returns."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from agentplatform.consortium import COMPASS
from benchmarks.chaos_host import CLOCK
from ledger.heartbeats import DRIFT, LEASE
from tests.helpers.chaos_hosts import ChaosHosts
from tests.helpers.losing_disk import FAILING, FULL, SLOW

HELD_ONLY = COMPASS[-1]  # agents in local custody do not go there: it may lose all that it has
LONG = LEASE + DRIFT + 1.0  # seconds
Fault = Callable[[ChaosHosts], Awaitable[None]]


async def killed(hosts: ChaosHosts) -> None:
    host = hosts.random.choice(hosts.names)
    await hosts.kill(host)
    await _a_while(hosts, 1.0)
    await hosts.start_all()


async def power_lost(hosts: ChaosHosts) -> None:
    await hosts.kill(hosts.random.choice(hosts.names), power=True)
    await _a_while(hosts, 1.0)
    await hosts.start_all()


async def power_lost_in_two_places(hosts: ChaosHosts) -> None:
    await hosts.kill(*hosts.random.sample(hosts.names, 2), power=True)
    await hosts.start_all()


async def power_lost_everywhere(hosts: ChaosHosts) -> None:
    await hosts.kill(*hosts.names, power=True)
    await hosts.start_all()


async def killed_in_a_slow_sync_and_again_with_the_power(hosts: ChaosHosts) -> None:
    """What a restart found was not durable: it must not have acted on that. Killed when something seems to be
    committed, and again when others hear of it, in its first sync."""
    host = hosts.random.choice(hosts.names)
    slow = _ask_for(hosts, host, SLOW, "1.5 custody")
    await hosts.within(3.0, lambda: _commits(hosts, host))
    await hosts.kill(host)
    await hosts.start(host)
    await hosts.within(3.0, lambda: _is_linked(hosts, host))
    await asyncio.sleep(hosts.random.uniform(0, 0.3))
    await hosts.kill(host, power=True)
    slow.unlink()
    await hosts.start_all()


async def _commits(hosts: ChaosHosts, host: str) -> bool:
    return any(each["phase"] == "committed" for each in (await hosts.call(host, "status"))["in_doubt"])


async def _is_linked(hosts: ChaosHosts, host: str) -> bool:
    return bool((await hosts.call(host, "status"))["links"]["up"])


async def stopped(hosts: ChaosHosts) -> None:
    await _stop(hosts, lambda: _a_while(hosts, 3.0))


async def partitioned(hosts: ChaosHosts) -> None:
    some = hosts.random.sample(hosts.names, hosts.random.choice((1, 2)))
    _cut(hosts, some)
    await _a_while(hosts, 3.0)
    hosts.proxies.heal()


async def muted(hosts: ChaosHosts) -> None:
    """A partition of one way."""
    host = hosts.random.choice(hosts.names)
    hosts.history.write("fault", fault="mute", on=host)
    hosts.proxies.mute([host], hosts.names)
    await _a_while(hosts, 3.0)
    hosts.proxies.heal()


async def cut_and_killed(hosts: ChaosHosts) -> None:
    """A handoff is in doubt while one of its hosts is gone, too."""
    host = hosts.random.choice(hosts.names)
    _cut(hosts, [host])
    await hosts.kill(host, power=hosts.random.random() < 0.5)
    await hosts.start_all()
    await _a_while(hosts, 1.0)
    hosts.proxies.heal()


async def slowed(hosts: ChaosHosts) -> None:
    hosts.history.write("fault", fault="slow")
    hosts.proxies.slowness = hosts.random.uniform(0.02, 0.2)
    await _a_while(hosts, 2.0)
    hosts.proxies.slowness = 0.0


async def clock_jumped(hosts: ChaosHosts) -> None:
    host = hosts.random.choice(hosts.names)
    seconds = hosts.random.choice((-3600, -30, 30, 3600))
    hosts.history.write("fault", fault="clock", on=host, seconds=seconds)
    wrong = _ask_for(hosts, host, CLOCK, str(seconds))
    await _a_while(hosts, 3.0)
    wrong.unlink()


async def disk_full(hosts: ChaosHosts) -> None:
    host = hosts.random.choice(hosts.names)
    full = _ask_for(hosts, host, FULL)
    await _a_while(hosts, 3.0)
    if hosts.random.random() < 0.3:  # what waited was not written
        await hosts.kill(host, power=True)
    full.unlink()
    await hosts.start_all()


async def fsync_failed(hosts: ChaosHosts) -> None:
    """What it did not sync may be there, or not."""
    host = hosts.random.choice(hosts.names)
    failing = _ask_for(hosts, host, FAILING)
    ended = await hosts.ends(host, 3.0)
    failing.unlink()
    if ended:
        await hosts.kill(host, power=hosts.random.random() < 0.5)
    await hosts.start_all()


async def power_lost_in_a_slow_sync(hosts: ChaosHosts) -> None:
    """What was said too early is heard by then."""
    host = hosts.random.choice(hosts.names)
    slow = _ask_for(hosts, host, SLOW, "0.4")
    await _a_while(hosts, 2.0)
    await hosts.kill(host, power=True)
    slow.unlink()
    await hosts.start_all()


async def upgraded(hosts: ChaosHosts) -> None:
    """Stopped in order, and started as another version, or as the one before."""
    host = hosts.random.choice(hosts.names)
    hosts.history.write("fault", fault="upgrade", on=host)
    await hosts.upgrade(host)


# Against agents in held custody. Each takes longer than a lease.


async def stopped_past_its_lease(hosts: ChaosHosts) -> None:
    """All of it, with what it had in hand. Its agents have other homes when it wakes."""
    await _stop(hosts, lambda: asyncio.sleep(LONG + hosts.random.uniform(0, 4)))
    await _a_while(hosts, 1.0)


async def daemon_stopped_past_its_lease(hosts: ChaosHosts) -> None:
    """Its workers go on, and nobody tells them that the lease ends."""
    host = hosts.random.choice(hosts.names)
    hosts.history.write("fault", fault="stop of the daemon", on=host)
    wake = hosts.pause(host, alone=True)
    await asyncio.sleep(LONG + hosts.random.uniform(0, 4))
    wake()
    await _a_while(hosts, 1.0)


async def linked_again_in_the_midst_of_the_votes(hosts: ChaosHosts) -> None:
    """Two members vote that a host is gone while no quorum can hear them; then it is linked to these, and asks them
    for a lease; then it is cut off, and the third one votes."""
    host, third, *two = hosts.random.sample(hosts.names, 4)
    hosts.history.write("fault", fault="cut", between=[[host], [third], two])
    hosts.proxies.cut([host], [third, *two])
    hosts.proxies.cut([third], two)
    await asyncio.sleep(LONG + hosts.random.uniform(0, 2))
    hosts.proxies.heal()
    hosts.proxies.cut([third], [host, *two])
    await asyncio.sleep(hosts.random.uniform(0.5, 2))
    hosts.proxies.heal()
    hosts.proxies.cut([host], [third, *two])
    await asyncio.sleep(hosts.random.uniform(4, LEASE))
    hosts.proxies.heal()


async def cut_off_while_the_others_start_again(hosts: ChaosHosts) -> None:
    """They have forgotten that they gave it heartbeats. For a lease and a little more it may rely on these."""
    others = _cut(hosts, [hosts.random.choice(hosts.names)])
    await hosts.kill(*others)
    await hosts.start_all()
    await asyncio.sleep(hosts.random.uniform(2, 6))
    hosts.proxies.heal()


async def wiped(hosts: ChaosHosts) -> None:
    """The host that only agents in held custody go to: they come back elsewhere, and it as a machine with no data. Each
    has one holder: after the loss of another host, or what members took for one, it needs a while for a new one."""
    await _holders_have_all(hosts)
    hosts.history.write("fault", fault="wipe", on=HELD_ONLY)
    await hosts.kill(HELD_ONLY)
    hosts.wipe(HELD_ONLY)
    await hosts.until("its agents have other homes", lambda: _all_there(hosts))
    await hosts.replace(HELD_ONLY)
    await _holders_have_all(hosts)


async def restored_from_an_old_backup(hosts: ChaosHosts) -> None:
    """The same host. What it has of its agents is old: they go on from what their holders have."""
    hosts.history.write("fault", fault="backup", on=HELD_ONLY)
    file = await hosts.back_up(HELD_ONLY)
    await asyncio.sleep(hosts.random.uniform(1, 5))
    await _holders_have_all(hosts)
    await hosts.kill(HELD_ONLY)
    hosts.history.write("fault", fault="stale backup", on=HELD_ONLY)
    await hosts.restore(HELD_ONLY, file)
    await hosts.until("its agents have other homes", lambda: _all_there(hosts))
    await _holders_have_all(hosts)


async def _holders_have_all(hosts: ChaosHosts) -> None:
    """Who waited for holders, or for anything else, has gone on since: on a busy machine somebody always waits."""
    await asyncio.sleep(3.0)  # votes that are on their way
    waiting = await _waiting(hosts)

    async def none_is_left() -> bool:
        waiting.intersection_update(await _waiting(hosts))
        return not waiting

    await hosts.until("all have gone on that waited", none_is_left)


async def _all_there(hosts: ChaosHosts) -> bool:
    """The ledger has no agent on the host that was wiped."""
    up = hosts.up()
    rows = [row for host in up for row in await hosts.call(host, "agents")]
    return {row["agent"] for row in rows if row["resident"]} >= hosts.held


async def _waiting(hosts: ChaosHosts) -> set[str]:
    rows = [row for host in hosts.up() for row in (await hosts.call(host, "status"))["blocked"]]
    return {agent for row in rows for agent in row["agents"]}


# By name, as they are drawn: each as often as the others.
_ALWAYS: tuple[Fault, ...] = (
    killed,
    power_lost,
    power_lost_in_two_places,
    power_lost_everywhere,
    power_lost_in_a_slow_sync,
    killed_in_a_slow_sync_and_again_with_the_power,
    stopped,
    partitioned,
    muted,
    cut_and_killed,
    slowed,
    clock_jumped,
    disk_full,
    fsync_failed,
    upgraded,
)
_OF_HELD: tuple[Fault, ...] = (
    stopped_past_its_lease,
    daemon_stopped_past_its_lease,
    linked_again_in_the_midst_of_the_votes,
    cut_off_while_the_others_start_again,
    wiped,
)
_BY_NAME: tuple[Fault, ...] = (restored_from_an_old_backup,)
FAULTS = {fault.__name__: fault for fault in _ALWAYS}
FAULTS_OF_HELD = {fault.__name__: fault for fault in _OF_HELD}
EVERY_FAULT = FAULTS | FAULTS_OF_HELD | {fault.__name__: fault for fault in _BY_NAME}


def _ask_for(hosts: ChaosHosts, host: str, name: str, text: str = "") -> Path:
    hosts.history.write("fault", fault=name, on=host)
    file = hosts.home(host).folder / name
    file.write_text(text)
    return file


async def _stop(hosts: ChaosHosts, wait: Callable[[], Awaitable[None]]) -> None:
    host = hosts.random.choice(hosts.names)
    wake = hosts.pause(host)
    hosts.history.write("fault", fault="stop", on=host)  # nothing of it runs from here on
    await wait()
    hosts.history.write("fault", fault="wake", on=host)
    wake()


def _cut(hosts: ChaosHosts, some: list[str]) -> list[str]:
    """Off from all others, which it returns."""
    others = [host for host in hosts.names if host not in some]
    hosts.history.write("fault", fault="cut", between=[some, others])
    hosts.proxies.cut(some, others)
    return others


async def _a_while(hosts: ChaosHosts, most: float) -> None:
    """How long a fault lasts; nothing waits for it."""
    await asyncio.sleep(hosts.random.uniform(0.1, most))
