"""A relay that holds back what passes it: a link with a long round trip or a low rate, on one machine and without
privileges.

Threads and `time.sleep`, since the timers of event loops are coarser than a millisecond.
"""

import contextlib
import queue
import socket
import threading
import time

from benchmarks.token_bucket import TokenBucket

CHUNK = 64 * 1024  # bytes; a line with a rate takes what it carries in PIECE seconds, so that small things come early
PIECE = 0.002
ROOM = 64 * 1024  # bytes that a link with a rate lets its sender have in a buffer of the kernel
BURST = 3200  # bytes, two packets


class SlowLink:
    """Takes the place of what listens on `front`, and passes all on to `back`: ports of the loopback."""

    def __init__(self, front: int, back: int, delay: float, lines: "tuple[Line, Line] | None" = None) -> None:
        """`front`: 0 takes a free one, see `port`. `delay`: seconds, each way. `lines`: of all that dial, and back."""
        self._back, self._delay, self._lines = back, delay, lines or (Line(None), Line(None))
        self._room = lines is not None  # whether what a sender may have in a buffer of the kernel is limited
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", front))
        if self._room:  # what it accepts has it too
            self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        for each in (self._listening, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.socket()
                if self._room:
                    far.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, ROOM)
                try:
                    far.connect(("127.0.0.1", self._back))
                except OSError:  # it does not listen yet: whoever dialled tries again
                    near.close()
                    far.close()
                    continue
                self._open += (near, far)
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for line, source, target in zip(self._lines, (near, far), (far, near), strict=True):
                    self._pass(line, source, target)

    def _pass(self, line: "Line", source: socket.socket, target: socket.socket) -> None:
        """In two threads, so that a piece that is held back holds up no other."""
        held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def take() -> None:
            piece = b"-"
            while piece:
                try:
                    piece = source.recv(line.chunk)
                except OSError:
                    piece = b""
                line.carry(len(piece))  # meanwhile nothing more is taken: the sender feels it
                held.put((time.monotonic() + self._delay, piece))

        def give() -> None:
            with contextlib.suppress(OSError):
                while True:
                    due, piece = held.get()
                    time.sleep(max(0.0, due - time.monotonic()))
                    if not piece:
                        break
                    target.sendall(piece)
                target.shutdown(socket.SHUT_WR)

        for work in (take, give):
            threading.Thread(target=work, daemon=True).start()


class Line:
    """One direction: what all its connections send goes through one bucket."""

    def __init__(self, rate: float | None) -> None:
        self._lock = threading.Lock()
        self.shape(rate)

    def shape(self, rate: float | None) -> None:
        """From now on it carries `rate` bytes a second; None: what comes."""
        self._bucket = None if rate is None else TokenBucket(rate, BURST)
        self.chunk = CHUNK if rate is None else max(1024, min(CHUNK, int(rate * PIECE)))

    def carry(self, size: int) -> None:
        """Returns when they are through."""
        if self._bucket is not None:
            with self._lock:
                through = self._bucket.take(size, time.monotonic())
            time.sleep(max(0.0, through - time.monotonic()))
