"""Replica processes in network namespaces of their own, on bridges in another one: a partition that drops packets.

Nothing outside these namespaces is touched; they go, with all that is in them, when the run ends. Needs root.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from msgspec.structs import replace

from ledger.genesis import Genesis
from tests.helpers.founders import genesis
from tests.helpers.ledger_chaos import Chaos
from tests.helpers.replica_process import ReplicaProcess

PORT = 7000
BRIDGES = ("main", "aside")  # hosts hear those on their own bridge


def why_not() -> str | None:
    """Why namespaces cannot be made here; None if they can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "there is no `ip`; install iproute2"
    name = f"ledger-{os.getpid()}-try"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces are not allowed here: {tried.stderr.strip()}"
    ip("netns", "delete", name)
    return None


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Namespaced(Chaos):
    """Chaos whose hosts have addresses of their own; there are no proxies."""

    def _found(self, size: int) -> Genesis:
        founding = genesis(size)
        organisations = [
            replace(each, hosts=(replace(each.hosts[0], address=f"10.77.0.{number}:{PORT}"),))
            for number, each in enumerate(founding.organisations, start=1)
        ]
        return replace(founding, organisations=tuple(organisations))

    @property
    def _hub(self) -> str:
        return f"ledger-{os.getpid()}-hub"

    def _space(self, host: str) -> str:
        return f"ledger-{os.getpid()}-{host}"

    def _address(self, host: str) -> str:
        return next(p.address for each in self.genesis.organisations for p in each.hosts if p.host == host)

    async def _network(self) -> None:
        self._made: list[str] = []
        self._make(self._hub)
        for bridge in BRIDGES:
            ip("-n", self._hub, "link", "add", bridge, "type", "bridge")
            ip("-n", self._hub, "link", "set", bridge, "up")
        for host in self.hosts:
            space = self._space(host)
            self._make(space)
            ip("-n", self._hub, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", space)
            ip("-n", space, "address", "add", self._address(host).replace(f":{PORT}", "/24"), "dev", "eth0")
            ip("-n", space, "link", "set", "eth0", "up")
            ip("-n", self._hub, "link", "set", host, "master", BRIDGES[0], "up")

    def _make(self, space: str) -> None:
        ip("netns", "add", space)
        self._made.append(space)

    async def _no_network(self) -> None:
        for space in self._made:
            ip("netns", "delete", space)

    def cut(self, one: Iterable[str], others: Iterable[str]) -> None:
        """`others` are all that are not in `one`. Connections stand, and nothing comes through."""
        for host in one:
            ip("-n", self._hub, "link", "set", host, "master", BRIDGES[1])

    def heal(self) -> None:
        for host in self.hosts:
            ip("-n", self._hub, "link", "set", host, "master", BRIDGES[0])

    def _process(self, host: str) -> ReplicaProcess:
        enter = ("ip", "netns", "exec", self._space(host))
        return ReplicaProcess(self._plan(host, self._address(host)), self._folder / f"{host}.log", enter)


def mount_small(folder: Path, size: int) -> None:
    """A file system of `size` bytes in memory on `folder`; `unmount` takes it away. Needs root."""
    folder.mkdir(mode=0o700)
    options = f"size={size},mode=0700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "ledger", str(folder)], check=True, capture_output=True)


def make_larger(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True, capture_output=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
