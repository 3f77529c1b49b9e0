"""A relay that holds back what passes it: a link with a long round trip, on one machine and without privileges.

Threads and `time.sleep`, since the timers of event loops are coarser than a millisecond.
"""

import contextlib
import queue
import socket
import threading
import time

CHUNK = 64 * 1024  # bytes


class SlowLink:
    """Takes the place of what listens on `front`, and passes all on to `back`: ports of the loopback."""

    def __init__(self, front: int, back: int, delay: float) -> None:
        """`delay`: seconds, each way."""
        self._back, self._delay = back, delay
        self._open: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", front))
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
                try:
                    far = socket.create_connection(("127.0.0.1", self._back))
                except OSError:  # it does not listen yet: whoever dialled tries again
                    near.close()
                    continue
                self._open += (near, far)
                for each in (near, far):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for source, target in ((near, far), (far, near)):
                    self._pass(source, target)

    def _pass(self, source: socket.socket, target: socket.socket) -> None:
        """In two threads, so that a piece that is held back holds up no other."""
        held: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()

        def take() -> None:
            piece = b"-"
            while piece:
                try:
                    piece = source.recv(CHUNK)
                except OSError:
                    piece = b""
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
