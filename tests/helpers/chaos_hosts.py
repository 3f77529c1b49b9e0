"""The four hosts of the chaos driver: real daemons behind relays, killed, stopped and started again."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import psutil

from agentplatform import backup
from agentplatform.consortium import COMPASS, found
from agentplatform.frontdoor.client import Host, connect
from agentplatform.history import HostHistory
from agentplatform.messages import Custody
from agentplatform.settings import Home
from agentplatform.version import __version__
from benchmarks.chaos_host import VIA
from ledger import genesisfile, store
from ledger.disk import FileDisk
from ledger.errors import PlatformError, Unavailable
from tests.helpers.losing_disk import lose_power
from tests.helpers.proxies import Proxies

START_SECONDS, END_SECONDS = 60.0, 10.0  # bounds for what is broken, not measures
CALLERS = 24  # calls at a time
PROGRAM = Path(__file__).parents[2]
PACKAGES = "agentplatform", "ledger", "services", "benchmarks", "tests"
VERSION_FILE = "agentplatform/version.py"
SETTINGS = "[handoff]\noffer_deadline = 2.0\nremind_every = 0.3\n\n[workers]\nwarm = 1\npreload = []\n"


class ChaosHosts:
    """Use it with `async with`. What it does is written to the driver's own history."""

    def __init__(self, root: Path, history: Path, random: Random, mutant: str | None) -> None:
        self.names = COMPASS
        self.random, self.proxies = random, Proxies()
        self.history = HostHistory(history, "driver")
        self._root, self._folder, self._mutant = root, history, mutant
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._starts = 0
        self._releases = {host: 0 for host in COMPASS}  # how often each was upgraded
        self._callers = ThreadPoolExecutor(CALLERS)
        self._hosts: dict[str, Host] = {}
        self.held: set[str] = set()  # agents in held custody

    def home(self, host: str) -> Home:
        return Home(self._root / "hosts" / host)

    async def __aenter__(self) -> "ChaosHosts":
        await self.proxies.start(self.names)  # before free ports are sought for the hosts
        homes = found(self._root, self.names)
        for home in homes:
            settings = home.settings()
            self.proxies.targets[settings.host] = settings.listen
            before, _, _ = home.settings_file.read_text().partition("[workers]")
            home.settings_file.write_text(before + SETTINGS)
            (home.folder / VIA).write_text(json.dumps(self.proxies.via(settings.host)))
        try:
            await self.start_all()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
        await asyncio.gather(*(self._end(host) for host in self._processes))
        await self.proxies.stop()
        for host in self.names:
            self.home(host).socket.unlink(missing_ok=True)
        self._callers.shutdown(wait=False)

    # Their lives

    def up(self) -> list[str]:
        return [host for host, process in self._processes.items() if process.poll() is None]

    async def start(self, host: str) -> None:
        """Returns when it answers. One that ends at once is started again: it may have met a fault that lasts."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if host not in self.up():
                self._spawn(host)
            with suppress(PlatformError):
                await self._in_thread(lambda: self._host(host).call("hello", patience=2.0))
                return
            await asyncio.sleep(0.1)
        raise RuntimeError(f"{host} does not start:\n{self.home(host).log.read_text()[-2000:]}")

    def _spawn(self, host: str) -> None:
        self._starts += 1
        home = self.home(host)
        command = ["-m", "benchmarks.chaos_host", "--home", str(home.folder), "--history", str(self._folder)]
        mutant = [] if self._mutant is None else ["--mutant", self._mutant]
        with home.log.open("ab") as log:
            self._processes[host] = subprocess.Popen(
                [
                    sys.executable,
                    *command,
                    *mutant,
                    "--seed",
                    f"{self.random.random()} {host} {self._starts}",
                    "--parent",
                    str(os.getpid()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self._release(host),
                env=os.environ | {"PYTHONPATH": str(self._release(host))},
            )

    def _release(self, host: str) -> Path:
        """The folder of the program that the host runs: every second one is a copy with another version."""
        return PROGRAM if self._releases[host] % 2 == 0 else self._root / "next-release"

    async def kill(self, *hosts: str, power: bool = False) -> None:
        """SIGKILL, and waits until all that they had started is gone; with `power` what was not synced is lost."""
        for host in hosts:
            process = self._processes[host]
            tree = _tree(process.pid)
            process.kill()
            await self._in_thread(process.wait)
            await self._in_thread(lambda tree=tree: psutil.wait_procs(tree, END_SECONDS))  # type: ignore[misc]
            self.history.write("fault", fault="kill", on=host)
        for host in hosts if power else ():
            lost = lose_power(self.home(host).data, self.random)
            self.history.write("fault", fault="power loss", on=host, bytes=lost)

    async def upgrade(self, host: str) -> None:
        """It is stopped in order, and started from another folder, as another version."""
        if not (next_one := self._root / "next-release").exists():
            await self._in_thread(lambda: _copy_program(next_one))
        self._releases[host] += 1
        await self._end(host)
        self.history.write("fault", fault="kill", on=host)
        await self.start(host)
        said = await self.call(host, "hello")
        if said["version"] != _version(self._release(host)):
            raise RuntimeError(f"{host} was upgraded, and runs {said['version']}")

    def wipe(self, host: str) -> None:
        """After a kill: all that it wrote is gone. Its keys, settings and the genesis come from where they are kept."""
        shutil.rmtree(self.home(host).data)
        self._hosts.pop(host, None)  # it will number what its clients send from 1 again: they are new ones

    async def back_up(self, host: str) -> Path:
        """While it runs. Returns the file."""
        file = self._root / f"{host}-{time.monotonic_ns()}.backup"
        await self._in_thread(lambda: backup.make(self.home(host), file))
        return file

    async def restore(self, host: str, file: Path) -> None:
        """After a kill: from a backup, with the command that marks it as old."""
        await self._in_thread(lambda: backup.restore(self.home(host), file, replace=True))
        shutil.rmtree(self.home(host).folder / backup.REPLACED)
        self._hosts.pop(host, None)
        await self.start(host)

    async def replace(self, host: str) -> None:
        """A new machine for a host that was wiped: it says that it has forgotten what it signed, and starts."""
        disk = FileDisk(self.home(host).data)
        await store.mark_restored(disk, genesisfile.read(self.home(host).genesis))
        await disk.close()
        await self.start(host)

    async def start_all(self) -> None:
        """Those that were killed, or ended by themselves."""
        async with asyncio.TaskGroup() as starting:  # when one does not start, the others are not started any more
            for host in sorted(set(self.names) - set(self.up())):
                starting.create_task(self.start(host))

    async def ends(self, host: str, seconds: float) -> bool:
        """Whether the daemon ends by itself within `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            await self._in_thread(lambda: self._processes[host].wait(seconds))
        return host not in self.up()

    def pause(self, host: str, alone: bool = False) -> Callable[[], None]:
        """SIGSTOP for the host and all its processes, or its daemon alone; call what is returned to wake them."""
        daemon = self._processes[host].pid
        tree = [psutil.Process(daemon), *(() if alone else _tree(daemon))]
        _signal(tree, signal.SIGSTOP)
        return lambda: _signal(tree, signal.SIGCONT)

    async def _end(self, host: str) -> None:
        process = self._processes[host]
        tree = _tree(process.pid)
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            await self._in_thread(lambda: process.wait(END_SECONDS))
        for each in (process, *tree):
            with suppress(ProcessLookupError, psutil.NoSuchProcess):
                each.kill()
        await self._in_thread(process.wait)

    def errors(self) -> list[str]:
        """What their logs say of what went wrong, the newest last."""
        return [
            f"{host}: {line}"
            for host in self.names
            for line in self.home(host).log.read_text().splitlines()
            if any(word in line for word in (" ERROR ", " CRITICAL ", "Error: "))
        ]

    async def until(self, what: str, condition: Callable[[], Awaitable[bool]]) -> None:
        """Raises RuntimeError when it takes too long: something is broken."""
        if not await self.within(START_SECONDS, condition):
            raise RuntimeError(f"still not: {what}")

    async def within(self, seconds: float, condition: Callable[[], Awaitable[bool]]) -> bool:
        """Waits for it that long at most. Whether it came."""
        deadline = time.monotonic() + seconds
        while not await condition():
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True

    # What is asked of them

    async def call(self, host: str, verb: str, **arguments: Any) -> Any:
        """A host that has just started does not answer everyone at once."""
        deadline = time.monotonic() + END_SECONDS
        while True:
            try:
                return await self._in_thread(lambda: self._host(host).call(verb, patience=5.0, **arguments))
            except Unavailable:
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.1)

    async def create(self, host: str, agent: Any, name: str, init: Any, custody: Custody) -> str:
        return str((await self._in_thread(lambda: self._host(host).create(agent, name, init, custody=custody))).id)

    async def ask(self, host: str, agent: str, kind: str, body: Any, patience: float) -> Any:
        """Raises PlatformError."""

        def ask() -> Any:
            return self._host(host).agent(agent).call(kind, body, patience=patience)

        return await self._in_thread(ask)

    def client(self, host: str) -> str:
        return self._host(host).client

    def _host(self, host: str) -> Host:
        if host not in self._hosts:
            self._hosts[host] = connect(host, root=self._root)
        return self._hosts[host]

    async def _in_thread(self, act: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._callers, act)


def _copy_program(folder: Path) -> None:
    """What is of the project, with another version."""
    folder.mkdir()
    for package in PACKAGES:
        shutil.copytree(PROGRAM / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / VERSION_FILE).write_text(f'__version__ = "{__version__}+next"\n')


def _version(release: Path) -> str:
    return (release / VERSION_FILE).read_text().split('"')[1]


def _tree(pid: int) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = psutil.Process(pid).children(recursive=True)
        return found
    except psutil.NoSuchProcess:
        return []


def _signal(processes: Iterable[psutil.Process], number: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            os.kill(process.pid, number)
