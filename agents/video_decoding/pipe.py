"""A stream that a client pushes, packet by packet (feeder.py). Nothing of it is lost by a move.

A decoder cannot be pickled. What it needs to come back can: the packets since the last key frame whose pictures were
all delivered. They are kept, and given to a new decoder again; what it shows once more is dropped (position.py).
"""

import hashlib
import threading
from collections.abc import Iterator
from fractions import Fraction
from queue import Queue
from typing import Annotated, Any

import av
import msgspec
import numpy as np
from numpy.typing import NDArray

from agents.video_decoding.limits import MAX_KEPT_BYTES, MAX_KEPT_PACKETS, MAX_PACKET_BYTES
from agents.video_decoding.media import CODECS, Medium, Reach, decoded, set_limits
from agents.video_decoding.position import Position
from ledger.errors import Misuse, Unavailable

MAX_EXTRADATA_BYTES = 64 << 10
PUSHED_CODECS = tuple(codec for codec in CODECS if codec != "ffv1")  # its packets do not say how large pictures are
_GIVEN_UP = None
Timestamp = Annotated[int, msgspec.Meta(ge=-(1 << 62), le=1 << 62)]  # FFmpeg adds to them, in 64 bits


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a decoder must know before the first packet."""

    codec: str
    time_base: tuple[int, int]  # of timestamps, in seconds: numerator, denominator
    extradata: bytes = b""


class Packet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One packet as it lies in the stream."""

    data: bytes
    pts: Timestamp
    dts: Timestamp | None = None
    key: bool = False


class Kept:
    """A packet that may be needed again. Its data are an array, which travels and is kept beside the pickle."""

    def __init__(self, packet: Packet) -> None:
        self.pts, self.dts, self.key = packet.pts, packet.dts, packet.key
        self.data: NDArray[np.uint8] = np.frombuffer(packet.data, np.uint8)


class PipeSource:
    def __init__(self, name: str) -> None:
        self.name, self.identity = name, ""
        self.parameters: Parameters | None = None
        self.pushed = 0  # packets so far
        self.ended = False
        self._kept: list[Kept] = []
        self._latest: int | None = None  # timestamp so far
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.Lock()  # `open` runs in a decoder's thread
        self._flowing: Queue[Kept | str | None] | None = None  # to the decoder that is at work

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("_lock", "_flowing")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._begin()

    @property
    def decoded(self) -> bool:
        """Whether the decoder that is at work has made of all packets what it can; more of them may come."""
        return self._flowing is not None and not self._flowing.unfinished_tasks

    def push(
        self, number: int, parameters: Parameters | None, packets: list[Packet], end: bool, stuck: bool = False
    ) -> int:
        """Takes packets, the first of which is the stream's `number`; those that came before are passed over. Returns
        the number of the next. Raises Misuse, and Unavailable when frames must be taken first; then none was taken.
        `stuck`: without more packets there are no more frames."""
        if number > self.pushed or (self.parameters is None and parameters is None):
            raise Misuse(
                f"packet {number} came, and {self.pushed} is next: begin there, with the stream's parameters at 0"
            )
        identity = self.identity or (_identity(packets[0]) if packets else "")
        if number == 0 and packets and identity != _identity(packets[0]):
            raise Misuse("this stream begins otherwise than the one that is pushed here: 'open' another for it")
        fresh = packets[self.pushed - number :]
        if fresh and self.ended:
            raise Misuse("this stream has ended: 'open' another, and push it from packet 0")
        parameters = self.parameters or _checked(parameters)
        if fresh and not self._kept and not fresh[0].key:
            raise Misuse("a stream begins with a key frame: push from one on")
        sizes = [len(packet.data) for packet in fresh]
        if sizes and not 0 < min(sizes) <= max(sizes) <= MAX_PACKET_BYTES:
            raise Misuse(f"a packet has 1 to {MAX_PACKET_BYTES} bytes; one has {max(sizes) if all(sizes) else 0}")
        latest = self._latest
        for packet in fresh:
            if packet.key and latest is not None and packet.pts <= latest:
                raise Misuse(
                    f"a key frame at {packet.pts} came after a timestamp of {latest}: where the clock of a stream goes "
                    "back, 'open' another one"
                )
            latest = packet.pts if latest is None else max(latest, packet.pts)
        held = sum(len(kept.data) for kept in self._kept)
        if len(self._kept) + len(fresh) > MAX_KEPT_PACKETS or held + sum(sizes) > MAX_KEPT_BYTES:
            self._refuse(stuck)
        with self._lock:
            self.parameters, self.identity, self._latest = parameters, identity, latest
            for packet in fresh:
                kept = Kept(packet)
                self._kept.append(kept)
                if self._flowing is not None:
                    self._flowing.put(kept)
            self.pushed += len(fresh)
            if end and not self.ended and self._flowing is not None:
                self._flowing.put("end")
            self.ended = self.ended or end
        return self.pushed

    def _refuse(self, stuck: bool) -> None:
        """A decoder gives frames late: a key frame among the last packets that there is room for is never shown."""
        if not stuck and any(kept.key for kept in self._kept[1:]):
            raise Unavailable(
                f"{len(self._kept)} packets wait: take frames ('next'), and push again then", retry_after=0.05
            )
        raise Misuse(
            f"no key frame can be shown but the first of {len(self._kept)} packets, and {MAX_KEPT_PACKETS} packets or "
            f"{MAX_KEPT_BYTES} bytes are kept at most: encode the stream with more key frames"
        )

    def forget(self, at: Position) -> None:
        """Drops what is needed no more when every frame up to `at` was delivered: what comes before a key frame is
        shown before it, too."""
        if at.pts is None:
            return
        with self._lock:
            needed = max((n for n, kept in enumerate(self._kept) if kept.key and kept.pts <= at.pts), default=0)
            del self._kept[:needed]

    def open(self, here: Any) -> Medium:
        with self._lock:
            if self.parameters is None:
                raise Unavailable(
                    "nothing was pushed yet: 'push' packets, with the stream's parameters", retry_after=0.1
                )
            flowing: Queue[Kept | str | None] = Queue()
            for kept in self._kept:
                flowing.put(kept)
            if self.ended:
                flowing.put("end")
            self._flowing = flowing  # now that it is filled: see `decoded`
            return _Flow(self.name, self.parameters, flowing, here.accelerator)


class _Flow:
    """The packets that are kept, and those that come."""

    reach = Reach.KEPT
    identity = ""

    def __init__(self, name: str, parameters: Parameters, packets: Queue[Any], accelerator: Any) -> None:
        self.name, self.damaged, self._packets = name, 0, packets
        self.time_base, self.start = Fraction(*parameters.time_base), 0
        # FFmpeg's own decoder of AV1 is for GPUs alone.
        decoder = "libdav1d" if parameters.codec == "av1" and accelerator is None else parameters.codec
        self.codec = av.CodecContext.create(decoder, "r", accelerator)
        if parameters.extradata:
            self.codec.extradata = parameters.extradata
        set_limits(self.codec)

    def frames(self) -> Iterator[Any]:
        yield from decoded(self, self._coming())

    def _coming(self) -> Iterator[Any]:
        while (kept := self._packets.get()) is not _GIVEN_UP:
            if kept == "end":
                yield None
                return
            # In FFmpeg's own memory: what is Python's is freed under the interpreter's lock, by a thread for which PyAV
            # waits under that lock when it closes the decoder.
            packet = av.Packet(len(kept.data))
            packet.update(kept.data)
            packet.pts, packet.dts, packet.time_base = kept.pts, kept.dts, self.time_base
            packet.is_keyframe = kept.key
            yield packet
            self._packets.task_done()

    def seek(self, seconds: float) -> None: ...

    def give_up(self) -> None:
        self._packets.put(_GIVEN_UP)

    def close(self) -> None: ...


def _identity(first: Packet) -> str:
    return f"{first.pts}:{hashlib.sha256(first.data).hexdigest()[:32]}"


def _checked(parameters: Parameters | None) -> Parameters:
    assert parameters is not None
    if parameters.codec not in PUSHED_CODECS:
        raise Misuse(f"a stream of {parameters.codec:.40} is not decoded; what is, is {', '.join(PUSHED_CODECS)}")
    if min(parameters.time_base) < 1 or max(parameters.time_base) >= 1 << 31:
        raise Misuse(f"a time base of {parameters.time_base} is none: give numerator and denominator, as [1, 90000]")
    if len(parameters.extradata) > MAX_EXTRADATA_BYTES:
        raise Misuse(f"{len(parameters.extradata)} bytes of extradata are not taken, at most {MAX_EXTRADATA_BYTES}")
    return parameters
