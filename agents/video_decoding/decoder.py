"""Decodes ahead, in a thread, from a position on, into a bounded buffer. The buffer is no state: the position is."""

import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol

from agents.video_decoding.limits import AHEAD_BYTES, AHEAD_FRAMES, MAX_AGAIN
from agents.video_decoding.media import Medium, Reach
from agents.video_decoding.pictures import digest, frame_bytes
from agents.video_decoding.position import Position, Sieve, Verdict, attempts
from ledger.errors import Misuse, PeerFault, PlatformError


@dataclass(frozen=True)
class Decoded:
    """A frame that comes next."""

    frame: Any
    pts: int | None
    seconds: float | None  # since the start of its stream
    size: int  # bytes of memory
    took: float  # seconds of decoding, waiting for the source included


@dataclass(frozen=True)
class Opened:
    """What is decoded, and how its place was found."""

    identity: str
    codec: str
    width: int
    height: int
    by: str  # "cpu", or the device
    live: bool
    again: int  # frames that were decoded once more
    attempt: int  # the first one that fitted: 1, as a rule


class Reading(Protocol):
    """What may wait for bytes for long: a medium, or what it is opened from."""

    def give_up(self) -> None:
        """From another thread: a read under way ends soon."""


class _Stopped(Exception):
    """Nobody wants more."""


class Decoder:
    """From `start` on, until `stop`. What `ready`, `opened`, `ended` and `failure` say is only ever added to."""

    def __init__(
        self,
        open_: Callable[[Callable[[Reading], None]], Medium],
        position: Position,
        rendition: str,
        device: str,
        tell: Callable[[], None],
    ) -> None:
        """`open_` opens the medium, from its start, and may be called several times; what it waits for meanwhile it
        names to the function that is given to it. `tell` is called from the thread when there is something new."""
        self.ready: deque[Decoded] = deque()
        self.opened: Opened | None = None
        self.ended = False
        self.failure: PlatformError | None = None
        self.damaged = self.taken = 0
        self.wake_at = 1  # `tell` is called when so many frames are ready
        self.full = False
        self.position, self.rendition = position, rendition
        self._open, self._device, self._tell = open_, device, tell
        self._room = threading.Condition()
        self._bytes, self._stopped = 0, False
        self._kind: tuple[int, int, str] | None = None  # of the frame before
        self._kind_bytes = 0
        self._medium: Medium | None = None
        self._reads: Reading | None = None
        self._thread = threading.Thread(target=self._run, name="video decoder", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the thread ends when the read that is under way does."""
        with self._room:
            self._stopped = True
            self._room.notify_all()
            reads = self._reads
        if reads is not None:
            reads.give_up()

    @property
    def over(self) -> bool:
        """Nothing more comes than what is ready."""
        return self.ended or self.failure is not None

    def drop(self, count: int) -> None:
        """The first `count` frames that are ready were taken."""
        self.taken += count
        with self._room:
            for _ in range(count):
                self._bytes -= self.ready.popleft().size
            self._room.notify_all()

    def _run(self) -> None:
        try:
            begin = perf_counter()
            for frame, medium in self._found():
                self._put(frame, medium, perf_counter() - begin)
                begin = perf_counter()
            self.ended = True
        except _Stopped:
            return
        except PlatformError as error:
            self.failure = error
        except Exception as error:
            traceback.print_exc()  # into the agent's log
            self.failure = PeerFault(self.rendition or "the decoder", f"failed: {error!r:.200}")
        finally:
            if self._medium is not None:
                self._medium.close()
            self._tell()

    def _found(self) -> Iterator[tuple[Any, Medium]]:
        """The frames that come next, by the first attempt that finds the place."""
        begun = self._begin()
        for number, attempt in enumerate(attempts(self.position, self.rendition, begun.reach is Reach.ALL), start=1):
            medium = begun if number == 1 else self._begin()
            if attempt.seconds is not None:
                medium.seek(attempt.seconds)
            sieve, again = Sieve(self.position, self.rendition, attempt), 0
            if medium.reach is Reach.NOTHING:
                sieve.found = True
            seen = False
            for frame in medium.frames():
                self._check()
                seen = True
                verdict = self._judge(sieve, medium, frame)
                if verdict is Verdict.INEXACT:
                    break
                if verdict is Verdict.DROP:
                    again += 1
                    if again > MAX_AGAIN:
                        raise Misuse(
                            f"{medium.name}: the place is not found again within {MAX_AGAIN} frames: 'open' it anew"
                        )
                    continue
                self._note(medium, frame, again, number)
                yield frame, medium
            else:
                self._note(medium, None, again, number)
                if attempt.last and not seen and medium.damaged:
                    raise Misuse(f"{medium.name}: nothing of it can be decoded ({medium.damaged} packets are damaged)")
                if sieve.found or attempt.last:
                    return

    def _begin(self) -> Medium:
        if self._medium is not None:
            self._medium.close()
        self._medium = medium = self._open(self._reading)
        self._reading(medium)
        return medium

    def _reading(self, reads: Reading) -> None:
        with self._room:
            self._reads = reads
        self._check()

    def _judge(self, sieve: Sieve, medium: Medium, frame: Any) -> Verdict:
        if sieve.found:
            return Verdict.TAKE
        return sieve.judge(frame.pts, _seconds(frame, medium), lambda: digest(frame))

    def _note(self, medium: Medium, frame: Any, again: int, number: int) -> None:
        self.damaged = medium.damaged
        if self.opened is None:
            codec = medium.codec
            width, height = (codec.width, codec.height) if frame is None else (frame.width, frame.height)
            by = self._device if getattr(codec, "is_hwaccel", False) else "cpu"
            live = medium.reach is Reach.NOTHING
            self.opened = Opened(medium.identity, codec.name, width, height, by, live, again, number)

    def _put(self, frame: Any, medium: Medium, took: float) -> None:
        decoded = Decoded(frame, frame.pts, _seconds(frame, medium), self._size(frame), took)
        with self._room:
            while not self._stopped and (len(self.ready) >= AHEAD_FRAMES or self._bytes >= AHEAD_BYTES):
                self.full = True
                self._tell()
                self._room.wait()
            self.full = False
            self._bytes += decoded.size
            self.ready.append(decoded)
        self._check()
        if len(self.ready) == self.wake_at:  # who sets it looks for himself whether there are more
            self._tell()

    def _size(self, frame: Any) -> int:
        """Looked at anew where frames change: that takes as long as all else that is done here with a frame."""
        kind = (frame.width, frame.height, frame.format.name)
        if kind != self._kind:
            self._kind, self._kind_bytes = kind, frame_bytes(frame)
        return self._kind_bytes

    def _check(self) -> None:
        if self._stopped:
            raise _Stopped


def _seconds(frame: Any, medium: Medium) -> float | None:
    # Of integers, as a float of the Fraction would be to the last bit, in a tenth of the time.
    base = medium.time_base
    return None if frame.pts is None else (frame.pts - medium.start) * base.numerator / base.denominator
