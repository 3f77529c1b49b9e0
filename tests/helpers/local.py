"""A consortium of real daemons on this machine, for one test; everything is stopped whatever happens."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from agentplatform import connect
from agentplatform.console import processes
from agentplatform.consortium import COMPASS, found
from agentplatform.frontdoor.client import Host, homes
from agentplatform.history import HostHistory
from agentplatform.settings import Home
from ledger.errors import PlatformError
from tests.helpers.history_checker import check, read

PATIENCE = 60.0  # seconds until a condition must hold; a bound for broken code, not a measure


def until(what: str, condition: Callable[[], Any]) -> Any:
    """Waits until `condition` gives something true, and returns that."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"still not: {what}"
        time.sleep(0.02)
    return found


def patiently(act: Callable[[], Any]) -> Any:
    """What `act` returns, as soon as it can: a host that has just started does not know all yet."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return act()
        except PlatformError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def gone(processes: Iterable[psutil.Process]) -> bool:
    """None of them runs. Nobody may ask for their exit status: a zombie is gone too."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def small(home: Home) -> None:
    """Settings for agents that need no libraries: the host is up in half a second."""
    settings, _, _ = home.settings_file.read_text().partition("[workers]")
    home.settings_file.write_text(f"{settings}[workers]\nwarm = 1\npreload = []\n")


class Local:
    def __init__(self, root: Path) -> None:
        self.root, self.history = root, root.parent / "history"

    def host(self, name: str) -> Host:
        return connect(name, root=self.root)

    def home(self, name: str) -> Home:
        return Home(self.root / "hosts" / name)

    def start(self, *names: str) -> None:
        processes.start(self.root, names, self.history)

    def kill(self, name: str) -> list[psutil.Process]:
        """SIGKILL for the daemon alone; returns what it had started."""
        daemon = processes.running(self.home(name))
        assert daemon is not None
        children = daemon.children(recursive=True)
        os.kill(daemon.pid, signal.SIGKILL)
        daemon.wait()
        return children

    def kill_all(self, name: str) -> None:
        """SIGKILL for the daemon, and the end of all that it had started."""
        for child in self.kill(name):
            child.wait()
        driver = HostHistory(self.history, "driver")
        driver.write("fault", fault="kill", on=name)
        driver.close()

    def wipe(self, name: str) -> None:
        """Nothing of it is left."""
        self.kill_all(name)
        shutil.rmtree(self.home(name).folder)

    def judge(self) -> None:
        """No copy ran beside another, and nothing was handled twice or answered for in vain."""
        violations = check(read(self.history), at_rest=False)
        assert not violations, "\n".join(map(str, violations))

    def residents(self, agent: str) -> list[dict[str, Any]]:
        """What the hosts, all of which run, say of an agent that lives on them: one row, if all is well."""
        rows = [row for name in homes(self.root) for row in self.host(name).call("agents")]
        return [row for row in rows if row["agent"] == agent and row["resident"]]

    def in_doubt(self) -> list[dict[str, Any]]:
        """Handoffs that wait for another host, on all hosts."""
        return [each for name in homes(self.root) for each in self.host(name).call("status")["in_doubt"]]

    def phases(self, name: str) -> list[str]:
        """Of the handoffs of one host that wait for another one."""
        return [each["phase"] for each in self.host(name).call("status")["in_doubt"]]

    def log(self, name: str) -> str:
        return self.home(name).log.read_text()


@contextmanager
def consortium(root: Path, *names: str, start: tuple[str, ...] | None = None, light: bool = False) -> Iterator[Local]:
    """Hosts of these names, all of which are started, or those in `start`. `light`: see `small`."""
    names = names or COMPASS
    for home in found(root, names):
        if light:
            small(home)
    local = Local(root)
    try:
        local.start(*(names if start is None else start))
        yield local
        local.judge()
    finally:
        processes.stop(root, tuple(name for name in names if name in homes(root)))  # a test may have deleted a folder
