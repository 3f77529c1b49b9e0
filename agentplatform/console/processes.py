"""Hosts of this machine as processes: start them, wait until they answer, stop them and all that they started."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from agentplatform.frontdoor.client import Host, connect, homes
from agentplatform.settings import Home
from ledger.errors import Misuse, Unavailable

# Seconds. A daemon reads its journal and warms workers before it answers; it ends its agents before it goes.
START_DEADLINE = 60.0
STOP_DEADLINE = 15.0
TERM_DEADLINE = 5.0
LOOK_EVERY = 0.05
_LOG_TAIL = 8192  # bytes


def start(root: Path, hosts: Iterable[str]) -> list[dict[str, Any]]:
    """Starts those that do not run yet, and waits until each answers. Returns what each says of itself.

    Raises Misuse or Unavailable with the last line of the log of one that did not start; the others go on.
    """
    known = homes(root)
    begun = {name: _spawn(known[name]) if running(known[name]) is None else None for name in hosts}
    return [_answering(root, known[name], process) for name, process in begun.items()]


def stop(root: Path, hosts: Iterable[str]) -> list[dict[str, Any]]:
    """Stops those that run. Returns for each whether it ran and what it took: its word, SIGTERM or SIGKILL."""
    known = homes(root)
    asked = {name: _ask_to_stop(root, known[name]) for name in hosts}  # all first: they end beside each other
    return [{"host": name, "ran": bool(family), "by": _see_end(family)} for name, family in asked.items()]


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


def _spawn(home: Home) -> subprocess.Popen[bytes]:
    descriptor = os.open(home.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        # A session of its own: Ctrl-C in this terminal is for us, and we stop the hosts in order.
        return subprocess.Popen(
            [sys.executable, "-m", "agentplatform.mae", "--home", str(home.folder)],
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


def _last_line(log: Path) -> str:
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_TAIL))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return "it wrote no log"


def _ask_to_stop(root: Path, home: Home) -> list[psutil.Process]:
    """The daemon and what it started, itself first; empty when it does not run."""
    daemon = running(home)
    if daemon is None:
        return []
    try:
        family = [daemon, *daemon.children(recursive=True)]
        host: Host = connect(home.folder.name, root=root)
        host.call("stop", patience=STOP_DEADLINE)
    except psutil.NoSuchProcess:
        return []
    except Unavailable:  # hung, still starting, or gone before it could answer: a signal reaches it, see _see_end
        daemon.terminate()
    return family


def _see_end(family: list[psutil.Process]) -> str | None:
    if not family:
        return None
    daemon, children = family[0], family[1:]
    by = "word"
    try:
        daemon.wait(STOP_DEADLINE)
    except psutil.TimeoutExpired:
        by = _end_by_signal(daemon)
    # Workers end when their daemon does; one that hangs must not be left behind.
    _, left = psutil.wait_procs(children, timeout=TERM_DEADLINE)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(left, timeout=TERM_DEADLINE)
    return by


def _end_by_signal(daemon: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess):
        daemon.terminate()
        try:
            daemon.wait(TERM_DEADLINE)
            return "SIGTERM"
        except psutil.TimeoutExpired:
            daemon.kill()
            daemon.wait()
            return "SIGKILL"
    return "SIGTERM"
