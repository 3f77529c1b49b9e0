"""A paglet (paglets, from PyPI) goes to and fro between two hosts, each a process: from the wish to its `on_arrival`.

Run by an interpreter that has paglets: `PYTHON paglets_hop.py --hops N`. The last line is {"ms": [..]}.
"""

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from paglets.core.agent import Paglet, PagletState
from paglets.core.messages import Message
from paglets.runtime.host import Host

WARM_UP = 2
DEADLINE = 60.0  # seconds in which one hop must be done


@dataclass
class ShuttleState(PagletState):
    arrived: list[float] = field(default_factory=list)  # by the machine's clock


class Shuttle(Paglet[ShuttleState]):
    State = ShuttleState

    def on_arrival(self, event: Any) -> None:
        self.state.arrived.append(time.monotonic())

    def handle_message(self, message: Message) -> Any:
        return {"arrived": self.state.arrived}


def serve(name: str, folder: Path, pipe: Connection) -> None:
    """One host, until the pipe speaks. It creates a shuttle when it is the first."""
    host = Host(name, port=0, mesh=False, persistence_dir=folder / name)
    host.start_background()
    shuttle = host.create(Shuttle) if name == "north" else None
    pipe.send((host.address, shuttle.agent_id if shuttle else ""))
    pipe.recv()
    host.stop()
    pipe.send(None)


def measure(hops: int, folder: Path) -> list[float]:
    """Milliseconds of each hop, warm-up left out."""
    from paglets.remote.client import HostClient
    from paglets.remote.proxy import PagletProxy

    context = multiprocessing.get_context("spawn")
    pipes, children, hosts = [], [], []
    try:
        for name in ("north", "east"):
            ours, theirs = context.Pipe()
            child = context.Process(target=serve, args=(name, folder, theirs))
            child.start()
            pipes.append(ours)
            children.append(child)
            hosts.append(ours.recv())
        proxy = PagletProxy(hosts[0][0], hosts[0][1], HostClient(timeout=DEADLINE))
        asked = []
        for hop in range(WARM_UP + hops):
            asked.append(time.monotonic())
            proxy = proxy.dispatch(hosts[(hop + 1) % 2][0])
        arrived = proxy.send(Message("look"))["arrived"]
    finally:
        for pipe in pipes:
            pipe.send(None)
        for child in children:
            child.join(10)
            child.kill()
    return [(end - begin) * 1000 for begin, end in zip(asked, arrived, strict=True)][WARM_UP:]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hops", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        times = measure(options.hops, Path(folder))
    print(json.dumps({"ms": times}))
    return 0


if __name__ == "__main__":
    # Hosts import the class by the name of its module, so it must not be "__main__".
    sys.path.insert(0, str(Path(__file__).parent))
    import paglets_hop

    sys.exit(paglets_hop.main())
