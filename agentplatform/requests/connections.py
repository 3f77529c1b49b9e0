"""HTTP connections to endpoints, one for each thread and address, and what is read from them."""

import http.client
import io
import re
import socket
import threading
import time
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ledger.errors import Misuse

MAX_ANSWER = 64 << 20  # bytes
IDLE = 5.0  # seconds; endpoints close connections that are idle for twice as long
_VISIBLE = re.compile(r"[\x21-\x7e]+")
GRACE = 1.0  # seconds more for the endpoint, which knows better what is late


class Response(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes


class NotSent(OSError):
    """Nothing was asked. `gone`: nobody listens there."""

    def __init__(self, message: str, gone: bool = False) -> None:
        super().__init__(message)
        self.gone = gone


class Connections:
    """Safe to use from several threads."""

    def __init__(self) -> None:
        self._threads = threading.local()

    def send(
        self, address: str, method: str, path: str, body: bytes | None, headers: dict[str, str], until: float
    ) -> Response:
        """Raises NotSent when nothing of the request left; another OSError or HTTPException when some may have been
        heard, also when the answer is not here at `until`, by time.monotonic."""
        connection = self._connection(address, until)
        try:
            connection.response_class = partial(_Answer, until + GRACE)  # type: ignore[assignment]  # makes one
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            content = _content(answer)
        except BaseException:
            connection.close()
            raise
        if answer.will_close:
            connection.close()
        else:
            self._mine()[address] = connection, time.monotonic()
        return Response(answer.status, answer.headers, content)

    def _connection(self, address: str, until: float) -> http.client.HTTPConnection:
        """Taken out: it is put back when all went well."""
        known, used = self._mine().pop(address, (None, 0.0))
        seconds = max(0.001, until - time.monotonic() + GRACE)
        if known is not None and known.sock is not None:
            if time.monotonic() - used < IDLE:
                known.sock.settimeout(seconds)
                return known
            known.close()
        parts = urlsplit(address)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        made = kind(parts.hostname or "", parts.port, timeout=seconds)
        try:
            made.connect()
        except (OSError, UnicodeError) as error:  # what is no host name, too
            raise NotSent(f"{address} cannot be reached: {error}", isinstance(error, ConnectionRefusedError)) from None
        return made

    def _mine(self) -> dict[str, tuple[http.client.HTTPConnection, float]]:
        """This thread's, with the time at which each was used last."""
        if not hasattr(self._threads, "connections"):
            self._threads.connections = {}
        found: dict[str, tuple[http.client.HTTPConnection, float]] = self._threads.connections
        return found


def origin(address: str, whole: bool = True) -> str:
    """The scheme, host and port of an address, which is all of it if it is `whole`. Raises Misuse."""
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    plain = _VISIBLE.fullmatch(address) and not (parts.username or parts.password or parts.fragment)
    if parts.scheme not in ("http", "https") or not parts.hostname or not plain:
        raise Misuse(f"{address!r:.80} is no address of an endpoint: http://HOST:PORT, or https")
    if whole and (parts.path.strip("/") or parts.query):
        raise Misuse(f"{address!r:.80} has more in it than an endpoint's address: http://HOST:PORT")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{port or (443 if parts.scheme == 'https' else 80)}"


class _Answer(http.client.HTTPResponse):
    """Is waited for until a time by time.monotonic, however little of it comes at once."""

    def __init__(self, until: float, sock: socket.socket, **more: Any) -> None:
        super().__init__(sock, **more)
        self.fp: Any = io.BufferedReader(_Until(until, sock, self.fp.detach()))


class _Until(io.RawIOBase):
    def __init__(self, until: float, sock: socket.socket, raw: io.RawIOBase) -> None:
        self._until, self._sock, self._raw = until, sock, raw

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int | None:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer trickles")
        self._sock.settimeout(left)
        return self._raw.readinto(into)

    def close(self) -> None:
        self._raw.close()
        super().close()


def _content(answer: http.client.HTTPResponse) -> bytes:
    content = bytearray()
    while part := answer.read(1 << 16):
        content += part
        if len(content) > MAX_ANSWER:
            raise http.client.HTTPException(f"an answer of more than {MAX_ANSWER} bytes")
    if answer.length:  # the library does not say so where an answer is read in parts
        raise http.client.IncompleteRead(bytes(content), answer.length)
    return bytes(content)
