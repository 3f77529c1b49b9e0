"""The daemon's side of the fork server (zygote.py): starts it, asks it for workers, hears when they end."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from agentplatform import history
from agentplatform.runners.process import gpu as nvidia
from agentplatform.runners.process.requests import CONTINUE, ENDED, FORK, FORKED, KILL, PACKET
from agentplatform.runners.process.scratch import remove

STOP_SECONDS = 5.0
ONE_THREAD = {  # a forked child inherits a library's locks, but not the threads that would open them
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "OPENCV_FOR_THREADS_NUM": "1",
}


class ForkServer:
    def __init__(
        self,
        preload: tuple[str, ...],
        ended: Callable[[int, str], None],
        lost: Callable[[], None],
        told: Path | None = None,
        readable: Sequence[Path] = (),
        gpu: bool = False,
    ) -> None:
        """`ended(pid, reason)`: a worker ended. `lost()`: the fork server itself did, and all workers with it.
        `told`: the prefix of the files that workers write their histories to. `readable`: folders that agents
        may read; `gpu`: they may use the GPUs."""
        self._preload, self._ended, self._lost, self._told = preload, ended, lost, told
        self._readable, self._gpu = readable, gpu
        self._process: subprocess.Popen[bytes] | None = None
        self._forks: deque[tuple[Callable[[int], None], Callable[[str], None]]] = deque()

    def start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        root = Path(__file__).parents[3]
        places = [str(root), *(path for path in sys.path if path.endswith("-packages"))]
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
            "PYTHONPATH": os.pathsep.join(places),
            "PYTHONDONTWRITEBYTECODE": "1",
            **ONE_THREAD,
            **(nvidia.environment() if self._gpu else {}),
            **({} if self._told is None else {history.ENVIRONMENT: str(self._told)}),
        }
        command = [sys.executable, "-P", "-m", "agentplatform.runners.process.zygote"]
        command += [f"--readable={folder}" for folder in self._readable]
        command += ["--gpu"] if self._gpu else []
        # Removed by whichever of the two ends last.
        self._scratch = Path(tempfile.mkdtemp(prefix="agentplatform-workers-"))
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid()), str(self._scratch), *self._preload],
                pass_fds=[theirs.fileno()],
                env=environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C in a terminal is for the daemon, which then stops us in order
            )
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours, self._read)

    def fork(self, ends: Sequence[socket.socket], born: Callable[[int], None], failed: Callable[[str], None]) -> None:
        """Asks for a new worker that has `ends` of socketpairs, for frames and for descriptors. `born` hears its
        process id, before anything else is told of it; or `failed` hears why there is none."""
        try:
            socket.send_fds(self._socket, [PACKET.pack(FORK, 0, 0)], [end.fileno() for end in ends])
        except OSError as error:
            failed(f"the fork server takes no request: {error}")
        else:
            self._forks.append((born, failed))

    def kill(self, pid: int) -> None:
        """Ends a worker and what it started. Through the fork server, who alone knows that the number is still its."""
        with contextlib.suppress(OSError):  # else the fork server is gone, and its workers with it
            self._socket.send(PACKET.pack(KILL, pid, 0))

    def scratch(self, pid: int) -> Path:
        """The folder of a worker."""
        return self._scratch / str(pid)

    def wake(self, pid: int) -> None:
        """A worker that stopped itself (leased.py) goes on. For one that runs it does nothing."""
        with contextlib.suppress(OSError):
            self._socket.send(PACKET.pack(CONTINUE, pid, 0))

    async def stop(self) -> None:
        """Ends the fork server and all workers, and waits until they are gone."""
        if self._process is None:
            return
        process, self._process = self._process, None
        self._close()
        process.terminate()  # it may be busy with an import still, and not see that its socket is closed
        try:
            await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
        remove(self._scratch)

    def _read(self) -> None:
        while True:
            try:
                packet = self._socket.recv(PACKET.size)
            except (BlockingIOError, InterruptedError):
                return
            except OSError:
                packet = b""
            if not packet:
                self._close()
                remove(self._scratch)
                self._lost()
                return
            verb, pid, status = PACKET.unpack(packet)
            if verb == FORKED:
                self._forks.popleft()[0](pid)
            elif verb == ENDED:
                self._ended(pid, _reason(status))

    def _close(self) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        forks, self._forks = self._forks, deque()
        for _, failed in forks:
            failed("the fork server ended")


def _reason(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"its worker exited with status {code}"
    return f"its worker was ended by {signal.Signals(-code).name}"
