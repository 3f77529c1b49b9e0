"""A host is killed and its folder is deleted: how long its held agents do not answer, and whether anything is lost.

Each agent counts what a client on another host adds, one after the other. A sum that a client was told is a promise: at
the end all that was told is in it, and no more than was asked.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import tempfile
import threading
import time
from pathlib import Path

from agentplatform import connect
from agentplatform.console import processes
from agentplatform.consortium import COMPASS, found
from agentplatform.frontdoor.client import AgentProxy
from agentplatform.settings import Home
from agents.counter import Counter
from benchmarks import hosts
from ledger.errors import PlatformError
from ledger.heartbeats import LEASE

LOST, ELSEWHERE = "east", "south"
BEFORE = 3.0  # seconds in which the agents answer first
PATIENCE = 60.0  # seconds that one answer is waited for


class Asker(threading.Thread):
    """Adds 1 again and again, until it is told to stop."""

    def __init__(self, agent: AgentProxy) -> None:
        super().__init__(daemon=True)
        self.agent, self.stop = agent, threading.Event()
        self.answers: list[tuple[float, int]] = []  # when, and the sum
        self.asked = 0

    def run(self) -> None:
        while not self.stop.is_set():
            self.asked += 1
            try:
                told = self.agent.call("add", 1, patience=PATIENCE)
            except PlatformError:
                continue
            self.answers.append((time.monotonic(), told))

    def silence(self, since: float) -> float:
        """Seconds from then to the next answer, which is of another host: what was under way comes within the first."""
        return next((at - since for at, _ in self.answers if at - since > 1.0), PATIENCE)


def measure(root: Path, agents: int) -> dict[str, object]:
    found(root)
    with hosts.running(root, COMPASS):
        host, other = connect(LOST, root=root), connect(ELSEWHERE, root=root)
        held = [host.create(Counter, name=f"held-{number}", custody="held") for number in range(agents)]
        askers = [Asker(connect(ELSEWHERE, root=root).agent(each.id)) for each in held]
        for asker in askers:
            asker.start()
        time.sleep(BEFORE)
        daemon = processes.running(Home(root / "hosts" / LOST))
        if daemon is None:
            raise SystemExit(f"{LOST} does not run")
        killed = time.monotonic()
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        shutil.rmtree(root / "hosts" / LOST)
        deadline = killed + PATIENCE
        while any(asker.silence(killed) == PATIENCE for asker in askers) and time.monotonic() < deadline:
            time.sleep(0.1)
        for asker in askers:
            asker.stop.set()
        for asker in askers:
            asker.join(PATIENCE)
        sums = [other.agent(each.id).call("read", patience=PATIENCE) for each in held]
    seconds = [asker.silence(killed) for asker in askers]
    return {
        "agents": agents,
        "seconds_p50": round(statistics.median(seconds), 3),
        "seconds_max": round(max(seconds), 3),
        "lease": LEASE,
        "over_lease_s": round(max(seconds) - LEASE, 3),
        "acknowledged": sum(len(asker.answers) for asker in askers),
        "lost": sum(max(0, len(asker.answers) - end) for asker, end in zip(askers, sums, strict=True)),
        "doubled": sum(max(0, end - asker.asked) for asker, end in zip(askers, sums, strict=True)),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks rehoming", description=__doc__)
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--json", action="store_true", help="print only the last line")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder) / "root", options.agents)
    if not options.json:
        print(f"{figures['agents']} held agents of a host that was wiped answer after {figures['seconds_p50']} s (p50)")
    print(json.dumps(figures))
    return 0 if figures["lost"] == figures["doubled"] == 0 else 1
