"""A file on a web server. One that answers to ranges (RFC 9110, section 14) is as good as a file of the host; of one
that does not, what passes while the agent moves is lost.

The requests are made here and not by FFmpeg: a redirection is refused, so a server sends an agent nowhere else, and a
read under way can be given up.
"""

import hashlib
import http.client
import io
import socket
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urlsplit

from agents.video_decoding.limits import OPEN_SECONDS, READ_SECONDS
from agents.video_decoding.media import Container, Medium, Reach
from ledger.errors import Misuse, Unavailable

READ_ON_BYTES = 256 << 10  # so far ahead is read on, rather than asked for anew
AGAIN = 3  # times that a connection is made anew without a byte in between
PROOF_BYTES = 64 << 10


class HttpSource:
    def __init__(self, name: str) -> None:
        self.name, self.identity = name, ""
        parts = urlsplit(name)
        if not parts.hostname or parts.username or parts.port == 0:
            raise Misuse(f"{name:.200} is no address of a file on a web server: write http://host[:port]/path")

    def open(self, here: Any) -> Medium:
        file = RangeFile(self.name)
        here.reading(file)
        try:
            identity = file.begin()
            if self.identity not in ("", identity):
                raise Misuse(
                    f"{self.name} is another file by now than the one that was begun: say 'open' to begin anew"
                )
            reach = Reach.ALL if file.seekable() else Reach.NOTHING
            return Container(file, self.name, reach=reach, identity=identity, accelerator=here.accelerator)
        except OSError as error:
            file.close()
            raise Unavailable(f"{self.name} does not go on ({error!r:.100}): ask again", retry_after=1.0) from None
        except BaseException:
            file.close()
            raise


class RangeFile:
    """Reads a file on a web server, at any place if that answers to ranges. Raises Misuse, and OSError in `read`."""

    def __init__(self, url: str) -> None:
        self._url: SplitResult = urlsplit(url)
        self._name, self._at, self._read_to = url, 0, 0
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._response: http.client.HTTPResponse | None = None
        self._given_up = False
        self._seekable, self._size, self._tag = False, -1, ""

    def begin(self) -> str:
        """Comes first. Returns which file it is: size, the server's tag and the digest of the beginning; "" where the
        server gives no ranges."""
        self._request(0)
        if not self._seekable:
            return ""
        head = b""
        while len(head) < min(PROOF_BYTES, self._size):
            head += self.read(min(PROOF_BYTES, self._size) - len(head))
        self.seek(0)
        return f"{self._size}:{self._tag}:{hashlib.sha256(head).hexdigest()[:32]}"

    def seekable(self) -> bool:
        return self._seekable

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def read(self, size: int) -> bytes:
        """At most so many bytes, and at least one before the end."""
        if self._size >= 0 and self._at >= self._size:
            return b""
        self._come_to(self._at)
        for _ in range(AGAIN):
            data = self._some(size)
            if data or not self._seekable:
                break
            self._request(self._at)  # the server has closed the connection in midst of the file
        if not data and (self._seekable or (self._response is not None and self._response.length)):
            raise ConnectionError(f"{self._name}: the connection is closed before the end")
        self._at += len(data)
        self._read_to = self._at
        return data

    def give_up(self) -> None:
        self._given_up = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _some(self, size: int) -> bytes:
        assert self._response is not None
        try:
            return self._response.read1(size)
        except http.client.HTTPException as error:
            raise ConnectionError(f"{self._name}: {error!r}") from None

    def _come_to(self, place: int) -> None:
        if 0 < place - self._read_to <= READ_ON_BYTES:
            left = place - self._read_to
            while left and (data := self._some(left)):
                left -= len(data)
            self._read_to = place - left
        if place != self._read_to:
            self._request(place)

    def _request(self, place: int) -> None:
        self.close()
        kind = http.client.HTTPSConnection if self._url.scheme == "https" else http.client.HTTPConnection
        try:
            host = self._url.hostname or ""
            self._connection = kind(host, self._url.port, timeout=OPEN_SECONDS)
            self._connection.connect()
            self._socket = self._connection.sock
            self._socket.settimeout(READ_SECONDS)
            if self._given_up:
                raise ConnectionError("given up")
            path = (self._url.path or "/") + (f"?{self._url.query}" if self._url.query else "")
            self._connection.request("GET", path, headers={"Range": f"bytes={place}-", "Accept-Encoding": "identity"})
            self._response = self._connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(f"{self._name} does not answer ({error!r:.100}): ask again", retry_after=1.0) from None
        self._judge(self._response, place)
        self._read_to = place

    def _judge(self, response: http.client.HTTPResponse, place: int) -> None:
        if response.status >= 500 or response.status in (408, 429):
            raise Unavailable(
                f"{self._name} answers {response.status} {response.reason:.50}: ask again", retry_after=1.0
            )
        if 300 <= response.status < 400:
            where = response.getheader("Location", "elsewhere")
            raise Misuse(f"{self._name} sends on to {where:.200}, which is not followed: name that address itself")
        if response.status not in (200, 206):
            raise Misuse(
                f"{self._name} answers {response.status} {response.reason:.50}: name an address that has a video"
            )
        tag = response.getheader("ETag") or response.getheader("Last-Modified") or ""
        if response.status == 206:
            first, size = _content_range(response.getheader("Content-Range", ""))
            if first != place or (self._seekable and (size, tag) != (self._size, self._tag)):
                raise Misuse(
                    f"{self._name} has changed, or its server does not keep to ranges: ask again, or 'open' it anew"
                )
            self._seekable, self._size, self._tag = True, size, tag
        elif place or self._seekable:
            raise Misuse(f"{self._name} gave ranges before, and does no more: ask again")


def _content_range(header: str) -> tuple[int, int]:
    """(first byte, size of the whole) of "bytes 0-99/100"; (-1, -1) for anything else."""
    unit, _, rest = header.partition(" ")
    span, _, size = rest.partition("/")
    first = span.partition("-")[0]
    good = unit == "bytes" and first.isdecimal() and size.isdecimal() and max(len(first), len(size)) < 16
    return (int(first), int(size)) if good else (-1, -1)
