"""A medium that is open: its packets and its decoder, under limits. Runs in the decoder's thread, in a worker alone.

FFmpeg knows hundreds of formats, among them playlists that name other files and addresses. Those that are opened here
are listed, and whatever asks for a second file, of any format, is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import Enum
from fractions import Fraction
from typing import Any, Protocol

import av

from agents.video_decoding.limits import (
    MAX_DAMAGED,
    MAX_PIXELS,
    OPEN_SECONDS,
    PROBE_BYTES,
    PROBE_SECONDS,
    READ_SECONDS,
    THREADS,
)
from ledger.errors import Misuse, Unavailable

FORMATS = "mov,matroska,webm,avi,mpegts,mpeg,flv,ogg,ivf,nut,obu,h264,hevc,m4v,mjpeg,mpegvideo"
CODECS = (
    "av1",
    "ffv1",
    "flv1",
    "h263",
    "h264",
    "hevc",
    "mjpeg",
    "mpeg1video",
    "mpeg2video",
    "mpeg4",
    "theora",
    "vp8",
    "vp9",
)
MICROSECONDS = 1_000_000


class Reach(Enum):
    """What of a medium can be had once more."""

    ALL = "it is opened anew, and can be sought in"
    KEPT = "it begins at a key frame before the next frame"
    NOTHING = "what has passed is gone"


class Medium(Protocol):
    """What a source is when it is open. One thread uses it, but for `give_up`."""

    name: str  # for people
    codec: Any  # PyAV's CodecContext
    time_base: Fraction
    start: int  # the timestamp that counts as 0 seconds
    reach: Reach
    identity: str  # which one it is, where that can be said
    damaged: int  # packets that could not be decoded

    def frames(self) -> Iterator[Any]:
        """Decoded frames from here on, in the order in which they are shown. Raises Misuse, Unavailable."""

    def seek(self, seconds: float) -> None:
        """`frames` begins at a key frame at or before that, if the medium finds one."""

    def give_up(self) -> None:
        """From another thread: a read under way ends soon."""

    def close(self) -> None: ...


class Container:
    """A medium that FFmpeg takes apart: a file, or a stream. `file` is a name for FFmpeg, or has `read` and `seek`."""

    def __init__(
        self, file: Any, name: str, *, reach: Reach, identity: str = "", accelerator: Any, **options: str
    ) -> None:
        """`options` are FFmpeg's. Raises Misuse for what is no video, or one that is not taken; Unavailable when
        nothing comes."""
        self.name, self.reach, self.identity, self.damaged, self._file = name, reach, identity, 0, file
        checked = {"protocol_whitelist": "", "format_whitelist": FORMATS}
        probing = {"probesize": str(PROBE_BYTES), "analyzeduration": str(int(PROBE_SECONDS * MICROSECONDS))}
        try:
            self._container = av.open(
                file,
                options={"max_pixels": str(MAX_PIXELS), **checked, **probing, **options},
                io_open=None if isinstance(file, str) else _no_second_file,
                timeout=(OPEN_SECONDS, READ_SECONDS),
                hwaccel=accelerator,
                metadata_errors="replace",
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise _failure(name, "cannot be opened", error) from None
        try:
            self._stream = self._video()
        except Misuse:
            self._container.close()
            raise
        self.codec = self._stream.codec_context
        set_limits(self.codec)
        self.time_base: Fraction = self._stream.time_base or Fraction(1, MICROSECONDS)
        # A live stream is entered in its midst: its own clock says how much is missing after a gap.
        self.start: int = 0 if reach is Reach.NOTHING else self._stream.start_time or 0

    def _video(self) -> Any:
        streams = [
            each for each in self._container.streams.video
            if not each.disposition & av.stream.Disposition.attached_pic
        ]  # fmt: skip
        if not streams:
            held = ", ".join(sorted({each.type for each in self._container.streams})) or "nothing"
            raise Misuse(f"{self.name} holds no video, only {held}: name another")
        stream = streams[0]
        if stream.codec_context is None or stream.codec_context.codec.canonical_name not in CODECS:
            codec = "an unknown codec" if stream.codec_context is None else stream.codec_context.codec.canonical_name
            raise Misuse(f"{self.name} is encoded as {codec}; what is decoded is {', '.join(CODECS)}")
        check_size(self.name, stream.codec_context.width, stream.codec_context.height)
        return stream

    def frames(self) -> Iterator[Any]:
        yield from decoded(self, self._packets())

    def _packets(self) -> Iterator[Any]:
        while True:
            try:
                yield from self._container.demux(self._stream)
                return
            except IndexError:  # PyAV knows the streams that were there at the beginning, and another one has come
                self.damaged += 1
            except (av.FFmpegError, OSError) as error:
                raise _failure(self.name, "cannot be read further", error) from None

    def seek(self, seconds: float) -> None:
        with suppress(av.FFmpegError, OSError):  # what comes then is judged like what comes after any seek
            self._container.seek(int(seconds / self.time_base) + self.start, stream=self._stream, backward=True)

    def give_up(self) -> None:
        give_up = getattr(self._file, "give_up", None)
        if give_up is not None:
            give_up()

    def close(self) -> None:
        self._container.close()
        if not isinstance(self._file, str):
            self._file.close()


def decoded(medium: Medium, packets: Iterator[Any]) -> Iterator[Any]:
    """What the packets hold. One that is damaged is counted and left out, as players do; too many in a row are not."""
    damaged_in_a_row = 0
    for packet in packets:
        try:
            frames = medium.codec.decode(packet)
        except EOFError:
            return
        except av.FFmpegError as error:
            medium.damaged += 1
            damaged_in_a_row += 1
            if damaged_in_a_row >= MAX_DAMAGED:
                why = error.strerror or str(error)
                raise Misuse(f"{medium.name}: {damaged_in_a_row} packets in a row cannot be decoded ({why})") from None
            continue
        if frames:
            damaged_in_a_row = 0
        for frame in frames:
            check_size(medium.name, frame.width, frame.height)
            yield frame


def set_limits(codec: Any) -> None:
    """Before a decoder opens."""
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    codec.thread_type, codec.thread_count = "AUTO", THREADS


def check_size(name: str, width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise Misuse(
            f"{name} has pictures of {width} x {height} pixels; at most {MAX_PIXELS} are taken: shrink it first"
        )


def _failure(name: str, what: str, error: Exception) -> Misuse | Unavailable:
    if isinstance(error, av.error.ExitError | TimeoutError | av.error.TimeoutError | ConnectionError):
        return Unavailable(f"{name} {what}: nothing came for {READ_SECONDS:g} s, or the connection was lost: ask again")
    why = getattr(error, "strerror", None) or str(error)
    return Misuse(f"{name} {what} ({why}): it is damaged, no video, or of a kind that is not taken; name another")


def _no_second_file(url: str, flags: int, options: dict[str, str]) -> Callable[[], None]:
    raise PermissionError(f"a medium wanted to open {url}")
