"""What the demo stands on: a consortium in a temporary folder, gone again afterwards, whatever happens."""

import contextlib
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil

from agentplatform import consortium
from agentplatform.console import processes
from agentplatform.console.interrupts import ending_in_order, take_no_more
from agentplatform.frontdoor.client import Host, connect
from ledger.errors import Unavailable

_LOOK_EVERY = 0.1  # seconds

Found = TypeVar("Found")


@contextlib.contextmanager
def temporary_consortium(keep: bool) -> Iterator[dict[str, Host]]:
    """Founds and starts four hosts, and gives them by name. Afterwards nothing of them runs, nor is left on disk.

    Ctrl-C, SIGTERM and SIGHUP end it by KeyboardInterrupt; while it cleans up it takes no further ones.
    """
    with ending_in_order():
        root = Path(tempfile.mkdtemp(prefix="agentplatform-demo-"))
        try:
            try:
                names = [home.folder.name for home in consortium.found(root / "root", name="demo")]
                processes.start(root / "root", names)
                yield {name: connect(name, root=root / "root") for name in names}
            finally:
                take_no_more()  # one that comes before this is done still finds the cleaning below
        finally:
            _stop(root / "root")
            if not keep:
                shutil.rmtree(root, ignore_errors=True)


def await_that(what: str, look: Callable[[], Found | None], seconds: float) -> Found:
    """Looks again and again until something is found. Raises Unavailable, naming `what`, when the time is up."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found is not None:
            return found
        if time.monotonic() > deadline:
            raise Unavailable(f"{what}: that did not happen within {seconds:g} s")
        time.sleep(_LOOK_EVERY)


def all_hear_each_other(hosts: dict[str, Host]) -> bool | None:
    """True when every host has links to all others, and their adverts."""
    for name, host in hosts.items():
        rows: list[dict[str, Any]] = host.call("hosts")
        others = [row for row in rows if row["host"] != name and row["up"] and row["rtt_ms"] is not None]
        if len(others) < len(hosts) - 1 or any(row["cpu_free"] is None for row in rows):
            return None
    return True


def _stop(root: Path) -> None:
    processes.stop(root, processes.homes(root))
    # A daemon that an interrupt caught between fork and exec bears no name yet; every child is the demo's own.
    processes.end_all(psutil.Process().children(recursive=True))
