"""Four running hosts: how long from an event to the first PREPARE, and what a storm of events does.

The time is from the call of a client on the same machine, front door included, to PREPARE durable at the source, as the
history of its daemon says: both read the same CLOCK_MONOTONIC. The group, two light agents, lives on the host that is
told, follows a user, and has been there for longer than the minimum stay.
"""

import itertools
import json
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from agentplatform import connect
from agentplatform.console import processes
from agentplatform.consortium import COMPASS, found
from agentplatform.frontdoor.client import Host
from agentplatform.settings import Home
from agents.counter import Counter
from benchmarks import hosts
from benchmarks.percentiles import percentile
from ledger.errors import PlatformError
from services.eds.policies.falcon import Falcon

EVENTS = 40  # that are timed
GROUPS = 4  # of two agents each, in the storm
RATE = 1_000  # events a second
SENDERS = 4  # threads that send them; one waits for each answer of the front door
STORM_S = 60.0
STAY_S = 0.5  # minimum stay while events are timed: the default would only make that take longer
# Where the user is decides alone, so that the load of this machine moves nobody.
SETTINGS = f"""
[decisions.settings]
minimum_stay = {STAY_S}
weights = {{ network = 1.0, cpu = 0.0, memory = 0.0, experience = 0.0 }}
"""
DEFAULT_STAY_S = Falcon().minimum_stay  # in the storm
PATIENCE = 30.0


def measure(storm_s: float = STORM_S, events: int = EVENTS) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        timed = _event_to_prepare(Path(folder) / "timed", events)
    with tempfile.TemporaryDirectory() as folder:
        return timed | _storm(Path(folder) / "storm", storm_s)


def _event_to_prepare(root: Path, events: int) -> dict[str, Any]:
    for home in found(root):
        with home.settings_file.open("a") as settings:
            settings.write(SETTINGS)
    history, asked = root.parent / "history", []
    with hosts.running(root, COMPASS, history):
        doors = {name: connect(name, root=root) for name in COMPASS}
        agents = _group(doors["north"], "ada")
        at = itertools.cycle(COMPASS)
        here = _warm(doors, agents, at)
        for _ in range(events):
            there = next(at)
            time.sleep(STAY_S + 0.2)
            begun = time.monotonic()
            doors[here].call("event", event=_moved("ada", there))
            asked.append(begun)
            _until(lambda there=there: _place(doors[there], agents) == there)
            here = there
    prepared = sorted(line["t"] for line in _told(history, "prepare") if line["agent"] == agents[0])
    took = [(next(t for t in prepared if t > begun) - begun) * 1000 for begun in asked]
    p50, p95 = statistics.median(took), percentile(took, 95)
    print(
        f"event to first PREPARE, {events} moves of 2 agents: "
        f"p50 {p50:.1f} ms, p95 {p95:.1f} ms, max {max(took):.1f} ms"
    )
    return {"event_to_prepare_ms_p50": round(p50, 2), "event_to_prepare_ms_p95": round(p95, 2)}


def _told(history: Path, event: str) -> list[dict[str, Any]]:
    """What the daemons' histories, not the workers', say of such events."""
    files = (file for file in history.glob("*.jsonl") if ".worker-" not in file.name)
    lines = (json.loads(line) for file in files for line in file.read_text().splitlines())
    return [line for line in lines if line["event"] == event]


def _storm(root: Path, seconds: float) -> dict[str, Any]:
    found(root)
    history = root.parent / "history"
    with hosts.running(root, COMPASS, history):
        door = connect("north", root=root)
        groups = [_group(door, f"user-{number}") for number in range(GROUPS)]
        daemon = processes.running(Home(root / "hosts" / "north"))
        if daemon is None:
            raise SystemExit("north does not run")
        before = daemon.memory_info().rss
        begun = time.monotonic()
        senders = [_Sender(root, number, begun, seconds) for number in range(SENDERS)]
        for sender in senders:
            sender.start()
        most: dict[str, int] = {}
        sizes = []
        while any(sender.is_alive() for sender in senders):
            for name, number in door.call("status", patience=PATIENCE)["decisions"].items():
                most[name] = max(most.get(name, 0), number)
            sizes.append(daemon.memory_info().rss)
            time.sleep(0.1)
        took = time.monotonic() - begun
        sent = sum(sender.sent for sender in senders)
        first, second = sizes[len(sizes) // 2], sizes[-1]
        _until(lambda: door.call("status")["decisions"]["groups"] == 0)
        decided = sum(connect(name, root=root).call("status")["decisions"]["decided"] for name in COMPASS)
    moves: dict[str, int] = dict.fromkeys(itertools.chain(*groups), 0)
    for line in _told(history, "commit"):
        if line["agent"] in moves:
            moves[line["agent"]] += 1
    bound = int(took / DEFAULT_STAY_S) + 1
    print(
        f"storm of {sent} events in {took:.1f} s ({sent / took:.0f} a second) at one of 4 hosts; "
        f"{GROUPS} groups of 2 agents:\n"
        f"  most that waited there: {most['events']} events, {most['groups']} groups, {most['busy']} groups busy, "
        f"{most['moving']} plans under way, {most['timers']} timers\n"
        f"  decisions on all hosts: {decided}; moves of an agent: {max(moves.values())} at most, "
        f"{min(moves.values())} at least; the minimum stay of {DEFAULT_STAY_S:g} s allows {bound}\n"
        f"  memory of the daemon: {before / 1e6:.0f} MB before, "
        f"{first / 1e6:.0f} MB half way, {second / 1e6:.0f} MB at the end"
    )
    return {
        "storm_moves_per_agent_max": max(moves.values()),
        "storm_moves_bound": bound,
        "storm_events_per_s": round(sent / took),
        "storm_waiting_max": most["events"] + most["groups"],
    }


class _Sender(threading.Thread):
    """Sends its part of the storm, as evenly as it can."""

    def __init__(self, root: Path, number: int, begun: float, seconds: float) -> None:
        super().__init__(daemon=True)
        self.sent = 0
        self._root, self._number, self._begun, self._seconds = root, number, begun, seconds

    def run(self) -> None:
        door = connect("north", root=self._root)
        users = [f"user-{number}" for number in range(GROUPS)] + ["nobody"]
        while (now := time.monotonic()) < self._begun + self._seconds:
            due = int((now - self._begun) * RATE / SENDERS)
            if self.sent >= due:
                time.sleep(0.001)
                continue
            number = self.sent * SENDERS + self._number
            event = _moved(users[number % len(users)], COMPASS[number // 7 % len(COMPASS)])
            if number % 10 == 9:
                event = {"type": "overload", "host": COMPASS[number % len(COMPASS)], "resource": "cpu"}
            door.call("event", event=event, patience=PATIENCE)
            self.sent += 1


def _group(door: Host, user: str) -> list[str]:
    agents = [door.create(Counter, name=f"{user}-{number}").id for number in range(2)]
    rules = [{"type": "atomic", "agents": agents}]
    door.call("group", name=f"of-{user}", user=user, agents=agents, rules=rules)
    return agents


def _moved(user: str, near: str) -> dict[str, Any]:
    access = [
        {"host": host, "rtt_ms": 1.0 if host == near else 500.0, "loss": 0.0, "source": "emulated"} for host in COMPASS
    ]
    return {"type": "user-moved", "user": user, "access": access}


def _warm(doors: dict[str, Host], agents: list[str], at: "itertools.cycle[str]") -> str:
    """Until each host was gone to once: code is known there, links and adverts are fresh. Returns where they are."""
    here = next(at)
    for _ in COMPASS:
        there = next(at)

        def came(here: str = here, there: str = there) -> bool:
            doors[here].call("event", event=_moved("ada", there))
            time.sleep(0.2)
            return _place(doors[there], agents) == there

        _until(came)
        here = there
    return here


def _place(door: Host, agents: list[str]) -> str | None:
    here = {row["agent"] for row in door.call("agents") if row["resident"]}
    return door.name if here.issuperset(agents) else None


def _until(done: Any) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if done():
                return
        except PlatformError:
            pass
        time.sleep(0.01)
    raise SystemExit("it did not come to that in time")
