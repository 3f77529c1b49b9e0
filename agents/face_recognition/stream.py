"""A live H.264 stream that is decoded packet by packet, and goes on elsewhere in mid-stream.

A decoder cannot be pickled. What it needs to come back can: the packets since the last key frame. So they are kept,
and after a move a new decoder is given them again; its pictures of the past are thrown away, and no frame is lost.
This holds for streams in which each packet gives its picture at once: no B-frames, one picture a packet (x264:
tune=zerolatency). Others are refused.
"""

import re
from collections.abc import Iterator
from typing import Any

import av
import numpy as np

from agents.pictures import MAX_PIXELS, Picture
from ledger.errors import Misuse

MAX_PACKET_BYTES = 4 * 1024 * 1024
MAX_KEPT_PACKETS = 600  # since the last key frame: 24 s at 25 frames a second
MAX_KEPT_BYTES = 32 * 1024 * 1024
# Types of NAL units (ITU-T H.264, table 7-1).
_SLICE, _KEY_SLICE, _SEQUENCE, _PICTURE = 1, 5, 7, 8
_START_CODE = re.compile(b"\0\0\x01")


class Stream:
    def __init__(self) -> None:
        self.frames = 0  # decoded so far: the number of the latest frame
        self._kept: list[bytes] = []  # the packets since the last key frame, all of them decoded
        self._decoder: Any = None  # None: the next packet must be a key frame, or _kept tells how to make one

    def __getstate__(self) -> dict[str, Any]:
        return {"frames": self.frames, "_kept": self._kept, "_decoder": None}

    def feed(self, packet: bytes, *, colour: bool = False) -> Picture:
        """The packet's picture, grey or in colour. Raises Misuse for a packet that gives none; then a key frame must
        follow."""
        if not packet or len(packet) > MAX_PACKET_BYTES:
            raise Misuse(f"a packet of {len(packet)} bytes is not taken: send 1 to {MAX_PACKET_BYTES} bytes")
        if _is_key_frame(packet):
            self._kept, self._decoder = [], _new_decoder()
        elif not self._kept:
            raise Misuse("this packet builds on pictures that are not here: send a key frame first")
        elif len(self._kept) >= MAX_KEPT_PACKETS or sum(map(len, self._kept)) + len(packet) > MAX_KEPT_BYTES:
            self._lose()
            raise Misuse(f"no key frame came for {MAX_KEPT_PACKETS} packets or {MAX_KEPT_BYTES} bytes: send one")
        try:
            if self._decoder is None:
                self._decoder = self._decoder_again()
            pictures = self._decoder.decode(av.Packet(packet))
        except av.FFmpegError as error:
            self._lose()
            raise Misuse(
                f"a packet of {len(packet)} bytes cannot be decoded ({error.strerror}): go on with a key frame"
            ) from None
        if len(pictures) != 1:
            self._lose()
            raise Misuse(
                "this stream gives its pictures late, so a move would lose some: "
                "encode it without B-frames (x264: tune=zerolatency)"
            )
        self._kept.append(packet)
        self.frames += 1
        return np.asarray(pictures[0].to_ndarray(format="bgr24" if colour else "gray"), np.uint8)

    def _decoder_again(self) -> Any:
        decoder = _new_decoder()
        for packet in self._kept:
            decoder.decode(av.Packet(packet))
        return decoder

    def _lose(self) -> None:
        self._kept, self._decoder = [], None


def _new_decoder() -> Any:
    """A fresh one for each key frame: then it is the same whether the agent moved or not."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1  # frame threads would hold pictures back
    decoder.options = {"max_pixels": str(MAX_PIXELS), "err_detect": "explode"}
    return decoder


def _is_key_frame(packet: bytes) -> bool:
    """Checks that the packet is one whole picture in Annex B form, and tells whether it stands by itself."""
    kinds: set[int] = set()
    pictures = 0
    for kind, first_byte in _units(packet):
        kinds.add(kind)
        # A slice that begins with macroblock 0, coded as a single 1 bit, begins a picture (clause 7.3.3).
        pictures += kind in (_SLICE, _KEY_SLICE) and first_byte >= 0x80
    if pictures != 1:
        raise Misuse(f"a packet must hold one H.264 picture in Annex B form; {len(packet)} bytes hold {pictures}")
    if _KEY_SLICE in kinds and not {_SEQUENCE, _PICTURE} <= kinds:
        raise Misuse("a key frame came without its parameter sets (SPS, PPS): have the encoder repeat them in each")
    return _KEY_SLICE in kinds


def _units(packet: bytes) -> Iterator[tuple[int, int]]:
    """(type, first byte of the payload) of each NAL unit (ITU-T H.264, annex B)."""
    for start in _START_CODE.finditer(packet):
        at = start.end()
        if at + 1 < len(packet):
            yield packet[at] & 0x1F, packet[at + 1]
