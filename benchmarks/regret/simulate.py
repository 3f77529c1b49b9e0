"""What a policy makes of a trace, by production's policy, planner, refusals and experience; network and clock differ.

One agent serves one user. The policy is asked at each event, when a minimum stay is over, when a move has ended
during which something happened, and at once when a move failed, as often as production does.
"""

import math

import msgspec

from benchmarks.regret import cost
from benchmarks.regret.trace import Start, Trace, World
from services.eds.experience import Record, after, expected_ms, value
from services.eds.limits import Limits
from services.eds.offers import Policy
from services.eds.planner import search
from services.eds.refusals import Refusals, lowered
from services.eds.rules import Group
from services.eds.snapshot import Access, Host, Link, Resident, Snapshot
from services.rms.resources import Resources
from services.tms.verdicts import Verdict

AGENT, GROUP, USER = "service", "group", "user"
EPOCH = 1_700_000_000.0  # seconds since 1970 at which traces begin
CORES = 4
GIB = 1 << 30


class Run(msgspec.Struct):
    """What became of it."""

    cost: float = 0.0  # seconds that the user waited, see cost.py
    moves: int = 0
    failed: int = 0
    downtime_ms: float = 0.0
    hosts: list[str] = []  # where it was, in this order


def run(trace: Trace, policy: Policy) -> Run:
    return _Simulation(trace.head, policy).through(trace)


class _Simulation:
    def __init__(self, head: Start, policy: Policy) -> None:
        self._head, self._policy = head, policy
        self._host, self._since = head.start, -math.inf
        self._due = math.inf  # when the policy is to be asked, without an event
        self._records: dict[tuple[str, str], Record] = {}  # each host has its own, of each destination
        self._refusals: dict[str, Refusals] = {}  # each host has its own
        self._run = Run(hosts=[head.start])

    def through(self, trace: Trace) -> Run:
        for world in trace.worlds():
            now = world.at
            if world.why:
                self._due = min(self._due, max(now, self._since))  # not while it is under way
            while self._due < world.until:
                self._serve(world, now, max(now, self._due))
                now, self._due = max(now, self._due), math.inf
                self._decide(world, now)
            self._serve(world, now, world.until)
        return self._run

    def _serve(self, world: World, begin: float, end: float) -> None:
        self._run.cost += cost.of_service(world, self._host) * (end - begin)

    def _decide(self, world: World, now: float) -> None:
        for _ in range(Limits().attempts):
            refusals = self._refusals.setdefault(self._host, Refusals())
            picture = msgspec.structs.replace(self._snapshot(world, now), refused=refusals.of({GROUP}, EPOCH + now))
            offers = lowered(self._policy.offers(picture), picture)
            destination = search(picture, offers).plan.hosts.get(AGENT, self._host)
            if AGENT in offers.again_at:
                self._due = max(now + 1e-3, offers.again_at[AGENT] - EPOCH)
            if destination == self._host or self._move(world, now, destination):
                return
            refusals.add(GROUP, destination, EPOCH + now)

    def _move(self, world: World, now: float, destination: str) -> bool:
        downtime, came = cost.downtime_ms(self._head, world, self._host, destination)
        rtt_ms, _ = world.links.get((self._host, destination), (0.0, 1.0))
        pair = (self._host, destination)
        self._records[pair] = after(
            self._records.get(pair, Record()),
            came=came,
            now=EPOCH + now,
            downtime_ms=downtime if came else None,
            expected_ms=expected_ms(rtt_ms, self._head.state_bytes, self._head.mbits),
        )
        self._run.cost += cost.of_move(self._head, downtime, came)
        self._run.downtime_ms += downtime
        if came:
            self._host, self._since = destination, now + downtime / 1000
            self._run.moves += 1
            self._run.hosts.append(destination)
        else:
            self._run.failed += 1
        return came

    def _snapshot(self, world: World, now: float) -> Snapshot:
        known = [name for name in self._head.hosts if name in world.cpu_free]
        return Snapshot(
            groups=(Group(GROUP, (AGENT,), user=USER),),
            at=EPOCH + now,
            hosts=tuple(self._seen(world, name, now) for name in known),
            links=tuple(
                Link(a, b, rtt_ms, loss, self._head.mbits) for (a, b), (rtt_ms, loss) in sorted(world.links.items())
            ),
            residents=(Resident(AGENT, self._host, EPOCH + max(self._since, -1e6)),),
            access={USER: tuple(Access(name, *link, "emulated") for name, link in sorted(world.access.items()))},
        )

    def _seen(self, world: World, name: str, now: float) -> Host:
        free = world.cpu_free[name]
        trusted = name not in world.revoked
        advert = Resources(
            cpu_free=free,
            cores=CORES,
            memory_free=4 * GIB,
            memory_total=8 * GIB,
            disk_free=64 * GIB,
            bandwidth=self._head.mbits,
        )
        return Host(
            name,
            Verdict(name, trusted, "trusted" if trusted else "it was revoked", 1),
            advert,
            task_weight=1.0 + (1.0 - free) * CORES,
            experience=value(self._records.get((self._host, name), Record()), EPOCH + now),
            closed="it is being drained" if name in world.closed else "",
        )
