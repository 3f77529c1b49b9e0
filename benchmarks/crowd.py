"""Many light agents of one owner on one host: what each costs while it is idle, and when it is deactivated.

Memory is that of the daemon and all that it started, in proportional set size: a page that several share counts
once. All figures are over the same host before the first agent came. Memory that agents leave in the daemon when they
are deactivated it uses again, but does not give back; so the host is started again too: then what they cost is seen.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from agentplatform import Agent, connect
from agentplatform.console import processes
from agentplatform.consortium import found
from agentplatform.frontdoor.client import AgentProxy
from agentplatform.settings import Home
from benchmarks import hosts

HOST = "north"
CALLERS = 16  # at once: creating one waits for the disk, so many at a time are written together
PATIENCE = 120.0  # seconds that one of them is waited for
QUIET = 0.5  # seconds without news after which memory is looked at
ENDS = 60.0  # seconds within which the worker that they shared ends, when the last of them is deactivated


class Idler(Agent):
    light = True

    def on_creation(self, init: Any) -> None:
        self.count = init

    def handle_message(self, message: Any) -> Any:
        self.count += 1
        return self.count


class Scales:
    """A running host on them: its processes, and its folder of data."""

    def __init__(self, home: Home) -> None:
        daemon = processes.running(home)
        if daemon is None:
            raise SystemExit(f"{home.folder.name} does not run")
        self._daemon, self._data = daemon, home.data

    def processes(self) -> int:
        return len(self._daemon.children(recursive=True))

    def memory(self) -> dict[str, int]:
        """Bytes of the daemon, and of its fork server and workers."""
        time.sleep(QUIET)
        daemon = _resident(self._daemon.pid)
        return {"daemon": daemon, "workers": sum(_resident(each.pid) for each in self._daemon.children(recursive=True))}

    def disk(self) -> int:
        """Bytes that its files take."""
        return sum(file.stat().st_blocks * 512 for file in self._data.rglob("*") if file.is_file())


def _resident(process: int) -> int:
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except FileNotFoundError:
        return psutil.Process(process).memory_info().rss  # not a Linux: what is shared counts for each
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def _all(pool: ThreadPoolExecutor, act: Callable[[Any], Any], of: Any) -> tuple[list[Any], float]:
    begun = time.monotonic()
    done = list(pool.map(act, of))
    return done, time.monotonic() - begun


def measure(root: Path, count: int) -> dict[str, Any]:
    found(root, (HOST,))
    with hosts.running(root, (HOST,)):
        home = Home(root / "hosts" / HOST)
        host, scales = connect(HOST, root=root), Scales(home)
        empty, empty_disk, alone = scales.memory(), scales.disk(), scales.processes()
        with ThreadPoolExecutor(CALLERS) as pool:
            crowd, create_s = _all(pool, lambda n: host.create(Idler, "idler", n, patience=PATIENCE), range(count))
            idle, idle_disk = scales.memory(), scales.disk()
            some = crowd[:: max(1, count // 100)]
            answers, _ = _all(pool, lambda agent: agent.call("count", patience=PATIENCE), some)
            if any(answer <= 0 for answer in answers):
                raise SystemExit("an agent of the crowd miscounts")
            _, sleep_s = _all(pool, lambda agent: agent.deactivate(patience=PATIENCE), crowd)
        _wait_until(lambda: scales.processes() <= alone)
        asleep, asleep_disk = scales.memory(), scales.disk()
        processes.stop(root, (HOST,))
        processes.start(root, (HOST,))
        host, scales = connect(HOST, root=root), Scales(home)
        restarted, state = scales.memory(), host.call("status")
        woken = AgentProxy(host, crowd[-1].id).call("count", patience=PATIENCE)
    if state["deactivated"] != count or woken <= 0:
        raise SystemExit(f"{state['deactivated']} of {count} agents are deactivated")
    each = lambda after, before: {name: round((after[name] - before[name]) / count) for name in before}  # noqa: E731
    idle_each = each(idle, empty)
    return {
        "agents": count,
        "bytes_per_idle_agent": sum(idle_each.values()),
        "daemon_bytes_per_idle_agent": idle_each["daemon"],
        "worker_bytes_per_idle_agent": idle_each["workers"],
        "disk_bytes_per_idle_agent": round((idle_disk - empty_disk) / count),
        "create_s": round(create_s, 2),
        "deactivate_s": round(sleep_s, 2),
        "bytes_per_deactivated_agent": sum(each(asleep, empty).values()),
        "bytes_per_deactivated_agent_restarted": sum(each(restarted, empty).values()),
        "disk_bytes_per_deactivated_agent": round((asleep_disk - empty_disk) / count),
    }


def _wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS
    while not true():
        if time.monotonic() > deadline:
            raise SystemExit(f"the worker of the crowd did not end within {ENDS:g} s")
        time.sleep(0.05)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks crowd", description=__doc__)
    parser.add_argument("--agents", type=int, default=2000)
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder) / "root", options.agents)
    if not options.json:
        idle, asleep = figures["bytes_per_idle_agent"], figures["bytes_per_deactivated_agent_restarted"]
        print(f"{options.agents} agents: {idle / 1024:.1f} KiB of memory each; {asleep / 1024:.1f} when deactivated,")
        print("and the host started again")
    print(json.dumps(figures))
    return 0
