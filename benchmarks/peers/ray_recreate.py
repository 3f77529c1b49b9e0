"""A Ray actor that "moves": its state is taken, it is killed, and created again elsewhere with that state.

Ray moves no actors, so this is what its users do: from the wish until the new actor says that it has the state. Run by
an interpreter that has ray: `PYTHON ray_recreate.py --hops N`. The last line is {"ms": [..]}.
"""

import argparse
import json
import os
import sys
import time

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray

WARM_UP = 2


@ray.remote(num_cpus=0)
class Shuttle:
    def __init__(self, state: bytes) -> None:
        self.state = state

    def look(self) -> bytes:
        return self.state


def measure(hops: int, size: int) -> list[float]:
    """Milliseconds of each, warm-up left out."""
    actor = Shuttle.remote(os.urandom(size))
    ray.get(actor.look.remote())
    times = []
    for _ in range(WARM_UP + hops):
        begin = time.monotonic()
        state = ray.get(actor.look.remote())
        ray.kill(actor)
        actor = Shuttle.remote(state)
        if ray.get(actor.look.remote()) != state:
            raise SystemExit("the new actor has not the state of the old one")
        times.append((time.monotonic() - begin) * 1000)
    return times[WARM_UP:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, default=10)
    parser.add_argument("--bytes", type=int, default=4096, help="of the actor's state")
    options = parser.parse_args()
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        times = measure(options.hops, options.bytes)
    finally:
        ray.shutdown()
    print(json.dumps({"ms": times}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
