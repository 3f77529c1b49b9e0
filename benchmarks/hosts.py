"""The daemons of a benchmark: they run within a block, and none is left behind, however that ends."""

import json
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from agentplatform.console import processes
from agentplatform.frontdoor.client import homes
from agentplatform.settings import Home

ENDS = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def running(root: Path, names: tuple[str, ...], history: Path | None = None) -> Iterator[None]:
    """Hosts whose folders are there. Those whose folder a benchmark deletes meanwhile are its own to end."""
    try:
        processes.start(root, names, history)
        yield
    finally:
        processes.stop(root, tuple(name for name in names if name in homes(root)))


def spawn(
    home: Home, module: str, *words: str, history: Path | None = None, at: tuple[str, ...] = ()
) -> "subprocess.Popen[bytes]":
    """A daemon of that module, for which `running` then waits. `at`: words before its command."""
    told = () if history is None else ("--history", str(history))
    command = (*at, sys.executable, "-m", module, "--home", str(home.folder), *words, *told)
    with home.log.open("ab") as log:
        home.log.chmod(0o600)
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)


def listen_on(home: Home, address: str) -> None:
    """Others still dial the address that the ledger has."""
    text, before = home.settings_file.read_text(), home.settings().listen
    home.settings_file.write_text(text.replace(f'listen = "{before}"', f'listen = "{address}"'))


def set_workers(home: Home, **settings: Any) -> None:
    """Of [workers], the last table of a new host's settings; what is not named stays."""
    before, _, table = home.settings_file.read_text().partition("[workers]\n")
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in (tomllib.loads(table) | settings).items())
    home.settings_file.write_text(f"{before}[workers]\n{''.join(lines)}")


def end_in_order() -> None:
    """A benchmark that is told to end leaves its blocks first, as with Ctrl-C: `finally` stops what it has started."""

    def end(number: int, frame: FrameType | None) -> None:
        for each in ENDS:
            signal.signal(each, signal.SIG_IGN)  # once is enough
        raise SystemExit(128 + number)

    for each in ENDS:
        signal.signal(each, end)
