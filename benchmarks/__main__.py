"""`python -m benchmarks NAME [options] --json`: the last line is one JSON object."""

import importlib
import sys

from benchmarks.hosts import end_in_order

BENCHMARKS = {
    "migration": "a small agent to and fro between two daemons, beside its floor",
    "inference": "models through agents, beside the bare models: latency, throughput, and a hop with weights",
    "large-state": "a large agent between two daemons: time beside its floor, memory, pace of mail and ledger",
    "messages": "messages between agents on one host and across two, beside raw Pyro5 calls and a commit",
    "requests": "requests over HTTP beside a proxy's calls, while the agent stays and while it moves, in each mode",
    "crowd": "many light agents on one host: memory of each while idle, disk of each when deactivated",
    "video": "video decoding by an agent beside PyAV alone; frames lost and time without one at a hop",
    "decide": "decisions: time of a plan, from event to PREPARE, cost against hindsight, a storm of events",
    "face": "the face-recognition service: how long nobody answers while it moves, on loopback and at 5 Mbit/s",
    "rehoming": "a host is wiped: how long its held agents do not answer, and that nothing is lost",
    "ledger": "transactions a second and time to finality, improved beside the baseline",
    "links": "throughput and round trip of a link between two hosts",
    "ledger-state": "a state of a million accounts: memory, restoring, catching up, and what it costs each block",
    "ledger-simulation": "consensus under a seeded network with faults; counts forks and stalls",
    "consensus-exhaustive": "every state of consensus in a small scope; counts violations",
    "handoff-exhaustive": "every state of a handoff in a small scope; counts violations",
    "handoff-simulation": "handoffs at random, with crashes, in a scope too large to search; counts violations",
    "gpu": "state on a GPU between two daemons, beside bus and wire; NVDEC; a face known before and after",
    "chaos": "four daemons under every fault, with agents that move and talk; counts what was lost or came twice",
    "history-check": "a history of hosts and drivers, by a checker that knows nothing of the code",
}


def main() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in BENCHMARKS:
        print("usage: python -m benchmarks NAME [options] --json\n", file=sys.stderr)
        for name, what in BENCHMARKS.items():
            print(f"  {name:20} {what}", file=sys.stderr)
        return 2
    end_in_order()
    module = importlib.import_module(f"benchmarks.{sys.argv[1].replace('-', '_')}")
    return int(module.main(sys.argv[2:]))


if __name__ == "__main__":
    sys.exit(main())
