"""A proxy before an endpoint that passes requests on, and of some keeps the answer to itself and hangs up."""

import socket
import threading
from contextlib import suppress


class CuttingProxy:
    def __init__(self, port: int, every: int) -> None:
        """Every so many answers to a POST, one is kept back."""
        self._port, self._every = port, every
        self.cut = 0
        self._answers = 0
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One piece there, one piece back: requests and answers are small."""
        with client, socket.create_connection(("127.0.0.1", self._port)) as server, suppress(OSError):
            while request := client.recv(1 << 16):
                while request.startswith(b"POST") and not self._whole(request):
                    request += client.recv(1 << 16)
                server.sendall(request)
                answer = server.recv(1 << 16)
                self._answers += request.startswith(b"POST")
                if request.startswith(b"POST") and self._answers % self._every == 0:
                    self.cut += 1
                    return
                client.sendall(answer)

    def _whole(self, request: bytes) -> bool:
        head, found, body = request.partition(b"\r\n\r\n")
        if not found:
            return False
        lines = head.lower().split(b"\r\n")
        return len(body) >= int(next(line[15:] for line in lines if line.startswith(b"content-length:")))
