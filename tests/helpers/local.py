"""A consortium of real daemons on this machine, for one test; everything is stopped whatever happens."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from agentplatform import connect
from agentplatform.console import processes
from agentplatform.consortium import COMPASS, found
from agentplatform.frontdoor.client import Host
from agentplatform.settings import Home

PATIENCE = 60.0  # seconds until a condition must hold; a bound for broken code, not a measure


def until(what: str, condition: Callable[[], Any]) -> Any:
    """Waits until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
    return found


class Local:
    def __init__(self, root: Path) -> None:
        self.root = root

    def host(self, name: str) -> Host:
        return connect(name, root=self.root)

    def home(self, name: str) -> Home:
        return Home(self.root / "hosts" / name)

    def start(self, *names: str) -> None:
        processes.start(self.root, names)

    def kill(self, name: str) -> list[psutil.Process]:
        """SIGKILL for the daemon alone; returns what it had started."""
        daemon = processes.running(self.home(name))
        assert daemon is not None
        children = daemon.children(recursive=True)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        return children

    def log(self, name: str) -> str:
        return self.home(name).log.read_text()


@contextmanager
def consortium(root: Path, *names: str, start: tuple[str, ...] | None = None) -> Iterator[Local]:
    """Hosts of these names, all of which are started, or those in `start`."""
    names = names or COMPASS
    found(root, names)
    local = Local(root)
    try:
        local.start(*(names if start is None else start))
        yield local
    finally:
        processes.stop(root, names)
