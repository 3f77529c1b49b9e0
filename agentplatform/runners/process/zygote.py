"""The fork server, `python -m agentplatform.runners.process.zygote SOCKET PARENT SCRATCH PRELOAD...`; see `main`.

The daemon executes it with a clean environment, before any of its keys could be in this memory. It has one thread and
no event loop, imports once what workers need, and forks a worker for each request (requests.py). When the daemon
ends, for whatever reason, so do all of these processes.
"""

import argparse
import contextlib
import fcntl
import gc
import importlib
import os
import select
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from agentplatform import history
from agentplatform.runners.process import jail, worker
from agentplatform.runners.process.leased import CALL
from agentplatform.runners.process.requests import CONTINUE, ENDED, FORK, FORKED, KILL, PACKET
from agentplatform.runners.process.scratch import remove

ENDS = 2  # sockets of a worker: for frames, and for descriptors
FIRST = 3  # their numbers in it


class Zygote:
    def __init__(self, daemon: socket.socket, scratch: Path, readable: Sequence[Path], gpu: bool) -> None:
        self._daemon, self._readable, self._gpu = daemon, readable, gpu
        self._workers: set[int] = set()
        self._scratch = scratch
        self._alarm, alarm = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        self._stopping = False
        signal.signal(signal.SIGCHLD, lambda number, frame: None)  # it only wakes the loop
        signal.signal(signal.SIGTERM, self._stop)

    def serve(self) -> None:
        """Until the daemon closes its end, or ends."""
        try:
            while not self._stopping and self._step():
                pass
        finally:
            self._end()

    def _step(self) -> bool:
        ready, _, _ = select.select([self._daemon.fileno(), self._alarm], [], [])
        if self._alarm in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._alarm, 4096)
            self._reap()
        if self._daemon.fileno() not in ready:
            return True
        try:
            packet, files, _, _ = socket.recv_fds(self._daemon, PACKET.size, ENDS)
        except ConnectionResetError:
            return False  # it ended before it had read all that we said
        if not packet:
            return False
        verb, pid, _ = PACKET.unpack(packet)
        if verb == FORK:
            self._fork(files)
        elif verb == KILL and pid in self._workers:  # only a child not yet reaped: the number cannot be another's
            _kill(pid)
        elif verb == CONTINUE and pid in self._workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, CALL)
                os.kill(pid, signal.SIGCONT)
        return True

    def _stop(self, number: int, frame: FrameType | None) -> None:
        self._stopping = True  # no exception: it could come in the midst of the cleaning up

    def _fork(self, files: list[int]) -> None:
        zygote = os.getpid()
        pid = os.fork()
        if pid == 0:
            _become_worker(zygote, files, self._scratch, self._readable, self._gpu)
        for file in files:
            os.close(file)
        self._workers.add(pid)
        with contextlib.suppress(OSError):
            self._daemon.send(PACKET.pack(FORKED, pid, 0))

    def _reap(self) -> None:
        ended = []
        while (pid := _ended_child()) is not None:
            if pid in self._workers:  # else it is what an agent started and left behind: it was given to us
                _kill_group(pid)  # before the reaping, while the number is surely still its own
            _, status = os.waitpid(pid, 0)
            if pid in self._workers:
                self._workers.discard(pid)
                ended.append(pid)
                with contextlib.suppress(OSError):
                    self._daemon.send(PACKET.pack(ENDED, pid, status))
        self._kill_orphans()
        for pid in ended:  # last: an agent may have filled it, and nobody should wait for that
            remove(self._scratch / str(pid))

    def _kill_orphans(self) -> None:
        """What a worker started is given to us when the worker ends, whatever group or session it is in. When it dies
        of this, we are woken again, and have been given what it started itself: until none are left."""
        for pid in _children():
            if pid not in self._workers:
                _kill(pid)

    def _end(self) -> None:
        # Children of a child come to us when it dies (we are their subreaper), so a few rounds catch all.
        while children := _children():
            for pid in children:
                _kill(pid)
            for pid in children:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)
        remove(self._scratch)


def _become_worker(zygote: int, files: list[int], scratches: Path, readable: Sequence[Path], gpu: bool) -> None:
    """In the child. Never returns."""
    status = 1
    try:
        jail.die_with_parent(zygote, signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        os.setpgid(0, 0)  # what the agent starts dies with its group
        jail.adopt_orphans()  # so that nothing it starts comes to the fork server before it ends itself
        scratch = scratches / str(os.getpid())
        scratch.mkdir(mode=0o700)
        os.chdir(scratch)
        os.environ.update(HOME=str(scratch), TMPDIR=str(scratch))
        tempfile.tempdir = None
        for place, file in enumerate([fcntl.fcntl(file, fcntl.F_DUPFD, FIRST + ENDS) for file in files], FIRST):
            os.dup2(file, place)
        os.closerange(FIRST + ENDS, 1 << 16)
        told = history.of_worker()
        null = os.open(os.devnull, os.O_RDWR)
        strength = jail.close_in(scratch, readable, gpu)
        for standard in (0, 1, 2):  # last, so that a failure so far is seen in the daemon's log
            os.dup2(null, standard)
        os.close(null)
        worker.main(socket.socket(fileno=FIRST), socket.socket(fileno=FIRST + 1), strength, told, readable)
        status = 0
    except Exception:
        traceback.print_exc()
    finally:
        os._exit(status)


def _preload(names: list[str]) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    vision = sys.modules.get("cv2")
    if vision is not None:
        vision.setNumThreads(1)
    gc.collect()
    gc.freeze()  # the collector of a worker leaves these objects alone, so their pages stay shared


def _children() -> list[int]:
    path = f"/proc/self/task/{os.getpid()}/children"
    with open(path) as file:
        return [int(pid) for pid in file.read().split()]


def _ended_child() -> int | None:
    """One that is not reaped yet."""
    try:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return None if ended is None else ended.si_pid


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _kill_group(pid)


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--readable", type=Path, action="append", default=[])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("socket", type=int)
    parser.add_argument("parent", type=int)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("preload", nargs="*")
    given = parser.parse_args()
    jail.die_with_parent(given.parent, signal.SIGTERM)
    jail.adopt_orphans()
    _preload(given.preload)
    Zygote(socket.socket(fileno=given.socket), given.scratch, given.readable, given.gpu).serve()


if __name__ == "__main__":
    main()
