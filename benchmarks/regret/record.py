"""A trace from what real hosts decided: `python -m benchmarks.regret.record AGENT FILE.. > TRACE`.

Each FILE is what `agentplatform why AGENT --last 50 --json` printed, on one host or another. Each decision is a step:
the picture that it rested on is what was measured then.
"""

import sys
from pathlib import Path

import msgspec

from benchmarks.regret.trace import RttLoss, Start, Step, Trace
from services.eds.snapshot import Snapshot


class Decided(msgspec.Struct, frozen=True):
    """Of an explanation, what is needed here."""

    decision: str
    at: float
    why: str
    inputs: Snapshot


LINGER_S = 5.0  # after the last decision
MBITS = 1000.0  # where nothing was measured; within one machine it does not matter


def trace_of(explained: list[Decided], agent: str) -> Trace:
    """Steps hold only what is new, so that a person can read them."""
    decided = sorted(explained, key=lambda each: each.at)
    begin = decided[0].at
    access: dict[str, RttLoss] = {}
    links: dict[str, RttLoss] = {}
    cpu_free: dict[str, float] = {}
    revoked: set[str] = set()
    closed: set[str] = set()
    steps = []
    for each in decided:
        picture = each.inputs
        heard = {near.host: (near.rtt_ms, near.loss) for near in picture.access_of(agent)}
        linked = {f"{link.source}>{link.destination}": (link.rtt_ms, link.loss) for link in picture.links}
        free = {host.host: host.resources.cpu_free for host in picture.hosts if host.resources}
        out = {host.host for host in picture.hosts if not host.verdict.trusted}
        shut = {host.host for host in picture.hosts if host.closed}
        steps.append(
            Step(
                round(each.at - begin, 3),
                each.why,
                _new(heard, access),
                _new({pair: (round(rtt_ms, 2), round(loss, 3)) for pair, (rtt_ms, loss) in linked.items()}, links),
                _new({host: round(part, 2) for host, part in free.items()}, cpu_free),
                tuple(sorted(out - revoked)),
                tuple(sorted(shut - closed)),
            )
        )
        revoked, closed = revoked | out, closed | shut
    start = next(resident.host for resident in decided[0].inputs.residents if resident.agent == agent)
    hosts = tuple(host.host for host in decided[0].inputs.hosts)
    end = steps[-1].at + LINGER_S
    return Trace(Start("recorded", hosts, start, 1_000_000, MBITS, end, f"decisions about {agent}"), tuple(steps))


def _new(now: dict, before: dict) -> dict:
    new = {key: value for key, value in now.items() if before.get(key) != value}
    before |= new
    return new


def main() -> None:
    agent, *files = sys.argv[1:]
    decided = [each for file in files for each in msgspec.json.decode(Path(file).read_bytes(), type=list[Decided])]
    once = {each.decision: each for each in decided}
    for line in trace_of(list(once.values()), agent).lines():
        print(line.decode())


if __name__ == "__main__":
    main()
