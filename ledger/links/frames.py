"""Messages as frames, and the fair sharing of one connection. Sans-IO: bytes in, messages out, and the other way.

A frame is one byte (the channel, and END on a message's last frame), the payload's length in four bytes
(big-endian), and the payload. Frames of different channels may alternate; those of one channel may not.
"""

import struct
from collections import deque
from collections.abc import Iterator
from io import BytesIO

from ledger.errors import Misuse, PeerFault
from ledger.links.base import MAX_MESSAGE_BYTES, Channel

FRAME_BYTES = 64 * 1024  # largest payload: what the most urgent message may have to wait for
HEADER = struct.Struct(">BI")
END = 0x80

# Bytes that a channel may send before the others have had their turn. Votes and custody go first and are small;
# a parcel inline in HANDOFF still leaves the others their part.
SHARES = {
    Channel.LEDGER: 4 * FRAME_BYTES,
    Channel.HANDOFF: 2 * FRAME_BYTES,
    Channel.MAIL: FRAME_BYTES,
    Channel.ADVERT: FRAME_BYTES,
    Channel.COMMAND: FRAME_BYTES,
    Channel.BULK: FRAME_BYTES,
    Channel.COPY: 2 * FRAME_BYTES,
}


def check_size(message: bytes) -> None:
    if len(message) > MAX_MESSAGE_BYTES:
        raise Misuse(f"a message of {len(message)} bytes; a link takes at most {MAX_MESSAGE_BYTES}; send it in parts")


class Outbox:
    """What waits to be sent. Deficit round robin over the channels, in the order of SHARES.

    M. Shreedhar, G. Varghese, "Efficient fair queuing using deficit round-robin", SIGCOMM 1995; here a channel
    may overdraw its share by one frame, which the next round takes off.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._waiting = 0
        self._queues: dict[Channel, deque[memoryview]] = {channel: deque() for channel in SHARES}
        self._credit = dict(SHARES)

    def __bool__(self) -> bool:
        return self._waiting > 0

    def put(self, channel: Channel, message: bytes) -> None:
        self._queues[channel].append(memoryview(message))
        self._waiting += 1
        self.bytes += len(message)

    def take(self) -> bytes:
        """The next frames, together about FRAME_BYTES at most; empty when nothing waits."""
        parts: list[bytes | memoryview] = []
        size = 0
        while size < FRAME_BYTES and self._waiting:
            channel = self._next()
            queue = self._queues[channel]
            payload, mark = queue.popleft(), END
            if len(payload) > FRAME_BYTES:
                queue.appendleft(payload[FRAME_BYTES:])
                payload, mark = payload[:FRAME_BYTES], 0
            else:
                self._waiting -= 1
            parts += (HEADER.pack(channel | mark, len(payload)), payload)
            frame = HEADER.size + len(payload)
            size += frame
            self._credit[channel] -= frame
            self.bytes -= len(payload)
        return b"".join(parts)

    def _next(self) -> Channel:
        while True:
            for channel, queue in self._queues.items():
                if queue and self._credit[channel] > 0:
                    return channel
            for channel, share in SHARES.items():
                self._credit[channel] = min(share, self._credit[channel] + share)


class Inbox:
    """Puts the frames of one peer together. `limit` (bytes of one message) may be changed between messages."""

    def __init__(self, peer: str, limit: int = MAX_MESSAGE_BYTES) -> None:
        self.peer = peer
        self.limit = limit
        # A BytesIO grows where it lies and gives its bytes away uncopied: fresh memory costs more than decryption.
        self._messages = {channel: BytesIO() for channel in SHARES}
        self._sizes = dict.fromkeys(SHARES, 0)
        self._header = b""  # the beginning of one
        self._channel = Channel.LEDGER
        self._end = False
        self._missing = 0  # bytes of the present frame
        self._between = True  # frames: a header comes next

    def feed(self, data: memoryview) -> Iterator[tuple[Channel, bytes]]:
        """The messages that `data` completes, lazily. Raises PeerFault at the first byte that must not be."""
        at = 0
        while True:
            if self._between:
                if at == len(data):
                    return
                header = self._header + bytes(data[at : at + HEADER.size - len(self._header)])
                at += len(header) - len(self._header)
                if len(header) < HEADER.size:
                    self._header = header
                    return
                self._header = b""
                self._begin(*HEADER.unpack(header))
                if self._end and self._sizes[self._channel] == self._missing <= len(data) - at:  # whole, as most are
                    payload = data[at : at + self._missing]
                    at += self._missing
                    self._between = True
                    self._sizes[self._channel] = 0
                    yield self._channel, bytes(payload)
                    continue
            payload = data[at : at + self._missing]
            at += len(payload)
            self._missing -= len(payload)
            message = self._messages[self._channel]
            message.write(payload)
            if self._missing:
                return
            self._between = True
            if self._end:
                self._messages[self._channel] = BytesIO()
                self._sizes[self._channel] = 0
                yield self._channel, message.getvalue()

    def _begin(self, first: int, length: int) -> None:
        if length > FRAME_BYTES:
            raise PeerFault(self.peer, f"sent a frame of {length} bytes; at most {FRAME_BYTES} are taken")
        try:
            self._channel = Channel(first & ~END)
        except ValueError:
            raise PeerFault(self.peer, f"sent a frame for channel {first & ~END}, which does not exist") from None
        self._end = bool(first & END)
        if not length and not self._end:
            raise PeerFault(self.peer, "sent an empty frame that ends nothing")
        self._sizes[self._channel] += length
        if self._sizes[self._channel] > self.limit:
            raise PeerFault(self.peer, f"sent a message of more than {self.limit} bytes")
        self._missing = length
        self._between = False
