"""Hosts of this machine as processes: start them, wait until they answer, stop them and all that they started."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil

from agentplatform.frontdoor.client import Host, connect, homes
from agentplatform.settings import Home
from ledger.errors import Misuse, PlatformError, Unavailable

# Seconds. A daemon reads its journal and warms workers before it answers; it ends its agents before it goes.
START_DEADLINE = 60.0
LINK_DEADLINE = 10.0
STOP_DEADLINE = 15.0
TERM_DEADLINE = 5.0
LOOK_EVERY = 0.05
_LOG_TAIL = 8192  # bytes


def start(root: Path, hosts: Iterable[str], history: Path | None = None) -> list[dict[str, Any]]:
    """Starts those that do not run yet, and waits until each answers and has links to the others.

    They write what happens to the folder `history`, if one is given (agentplatform.history). Returns what each says of
    itself. Raises Misuse or Unavailable with the last line of the log of one that did not start; the others go on.
    """
    known = homes(root)
    begun = {name: _spawn(known[name], history) if running(known[name]) is None else None for name in hosts}
    hellos = [_answering(root, known[name], process) for name, process in begun.items()]
    _await_links(root, list(begun))
    return hellos


def stop(root: Path, hosts: Iterable[str]) -> list[dict[str, Any]]:
    """Stops those that run, and all that they started. `by`: what it took (word, SIGTERM, SIGKILL; None: nothing)."""
    known = homes(root)
    daemons = {name: daemon for name in hosts if (daemon := running(known[name])) is not None}
    workers = [worker for daemon in daemons.values() for worker in _children(daemon)]
    by: dict[str, str] = {}
    for how, act, seconds in _WAYS_TO_STOP:
        # All of one way first: they end beside each other. Whom it cannot reach is not waited for.
        asked = [name for name in daemons if name not in by and act(root, name, daemons[name])]
        _await_end([daemons[name] for name in asked], seconds)
        by |= {name: how for name in daemons if name not in by and _ended(daemons[name])}
    for name in by:
        known[name].socket.unlink(missing_ok=True)  # who is killed leaves it behind
    # Workers end when their daemon does; one that hangs must not be left behind.
    _await_end(workers, TERM_DEADLINE)
    end_all(workers)
    return [{"host": name, "ran": name in daemons, "by": by.get(name)} for name in hosts]


def end_all(processes: Iterable[psutil.Process]) -> None:
    """SIGKILL for those that are still there, and waits until they are gone."""
    left = [process for process in processes if not _ended(process)]
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _await_end(left, TERM_DEADLINE)


def reached(name: str | None, root: Path) -> Host:
    """As `connect`; of a host that is named, what hangs is told from what does not run."""
    try:
        return connect(name, root=root)
    except Unavailable:
        daemon = running(homes(root)[name]) if name is not None else None
        if daemon is None:
            raise
        hangs = f"{name} does not answer (process {daemon.pid}); it is busy or stopped: look at: agentplatform status"
        raise Unavailable(hangs) from None


def running(home: Home) -> psutil.Process | None:
    """The daemon's process, also while it does not answer."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        command = process.info["cmdline"] or []
        if _is_daemon(command, home) and process.info["uids"].real == os.getuid():
            return process
    return None


def _is_daemon(command: list[str], home: Home) -> bool:
    if "--home" not in command[:-1]:
        return False
    at = command.index("--home")
    return "mae" in command[at - 1].split(".")[-1] and Path(command[at + 1]) == home.folder


def _spawn(home: Home, history: Path | None) -> subprocess.Popen[bytes]:
    told = () if history is None else ("--history", str(history.absolute()))
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # A session of its own: Ctrl-C in this terminal is for us, and we stop the hosts in order.
        return subprocess.Popen(
            [sys.executable, "-m", "agentplatform.mae", "--home", str(home.folder), *told],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def _answering(root: Path, home: Home, process: subprocess.Popen[bytes] | None) -> dict[str, Any]:
    name, deadline = home.folder.name, time.monotonic() + START_DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(Unavailable):
            hello: dict[str, Any] = connect(name, root=root).call("hello")
            return hello | {"started": process is not None}
        if process is not None and process.poll() is not None:
            kind = Misuse if process.returncode == 2 else Unavailable
            raise kind(f"{name} did not start: {_last_line(home.log)} (log: {home.log})")
        time.sleep(LOOK_EVERY)
    if process is not None:
        process.kill()
        process.wait()
    raise Unavailable(f"{name} does not answer after {START_DEADLINE:g} s: {_last_line(home.log)} (log: {home.log})")


def _await_links(root: Path, hosts: list[str]) -> None:
    """So that what a person types next finds the others. No links in time is no error: `status` shows it."""
    deadline = time.monotonic() + LINK_DEADLINE
    while time.monotonic() < deadline:
        down = {name: connect(name, root=root).call("status")["links"]["down"] for name in hosts}
        # A host that was revoked still waits for the others, but they do not wait for it.
        if not any(one in down[other] for one in hosts for other in down[one] if other in down):
            return
        time.sleep(LOOK_EVERY)


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return "it wrote no log"


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        found: list[psutil.Process] = process.children(recursive=True)
        return found
    except psutil.NoSuchProcess:
        return []


def _by_word(root: Path, name: str, daemon: psutil.Process) -> bool:
    try:
        connect(name, root=root).call("stop", patience=STOP_DEADLINE)
    except PlatformError:  # it hangs, still starts, or ended before it could answer
        return False
    return True


def _by_sigterm(root: Path, name: str, daemon: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon.terminate()
    return True


def _by_sigkill(root: Path, name: str, daemon: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon.kill()
    return True


_WAYS_TO_STOP: tuple[tuple[str, Callable[[Path, str, psutil.Process], bool], float], ...] = (
    ("word", _by_word, STOP_DEADLINE),
    ("SIGTERM", _by_sigterm, TERM_DEADLINE),
    ("SIGKILL", _by_sigkill, TERM_DEADLINE),
)


def _ended(process: psutil.Process) -> bool:
    """Also when nobody has asked for its exit status yet: in a container there may be no one who does."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _await_end(processes: list[psutil.Process], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not all(map(_ended, processes)) and time.monotonic() < deadline:
        time.sleep(LOOK_EVERY)
