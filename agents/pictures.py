"""Pictures from outside: what they claim to be is checked before a decoder makes room for them."""

import cv2
import numpy as np
from numpy.typing import NDArray

from ledger.errors import Misuse

Picture = NDArray[np.uint8]  # rows x columns (grey) or rows x columns x 3 (blue, green, red)

MAX_PIXELS = 40_000_000
MAX_SCANNED = 12 * MAX_PIXELS  # pixels of all scans of a JPEG: a progressive one has 10, a bomb thousands
_PNG = b"\x89PNG\r\n\x1a\n"
# Chunks that pixels are made of, and how the picture is turned (PNG, clause 11).
_PNG_PICTURE = frozenset({b"IHDR", b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"IEND"})
_JPEG = b"\xff\xd8"
_SCAN = b"\xff\xda"  # no coded data has it, so there are at most as many scans
# Start-of-frame markers (ITU-T T.81, table B.1): C0 to CF without DHT (C4), JPG (C8) and DAC (CC).
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_BARE = frozenset({0x00, 0x01, *range(0xD0, 0xDA)})  # no length follows: a decoder reads on right behind them


def open_picture(raw: bytes, *, colour: bool = False) -> Picture:
    """A PNG or JPEG file as a grey picture, or one in colour, turned as its EXIF orientation says. Raises Misuse for
    anything else, more than MAX_PIXELS, or a JPEG that would be decoded over and over."""
    size = _png_size(raw) if raw.startswith(_PNG) else _jpeg_size(raw) if raw.startswith(_JPEG) else None
    if size is None:
        raise Misuse(f"{len(raw)} bytes are no PNG or JPEG picture, or are cut off: send the whole file as it is")
    width, height = size
    if not 0 < width * height <= MAX_PIXELS:
        raise Misuse(
            f"a picture of {width} x {height} pixels is not taken, the limit is {MAX_PIXELS // 1_000_000} megapixels: "
            "shrink it first"
        )
    if raw.startswith(_JPEG) and raw.count(_SCAN) * width * height > MAX_SCANNED:
        raise Misuse(f"a JPEG of {width} x {height} pixels in {raw.count(_SCAN)} scans is not taken: save it anew")
    file = _without_words(raw) if raw.startswith(_PNG) else raw
    try:
        picture = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
    except cv2.error:
        picture = None
    if picture is None:
        raise Misuse(f"a picture of {width} x {height} pixels and {len(raw)} bytes is damaged: send it again")
    return np.asarray(picture, np.uint8)


def _png_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) from the IHDR chunk, which must be the first (PNG, clause 11.2.1)."""
    if len(raw) < 24 or raw[12:16] != b"IHDR":
        return None
    return int.from_bytes(raw[16:20], "big"), int.from_bytes(raw[20:24], "big")


def _without_words(raw: bytes) -> bytes:
    """A PNG without texts, profiles and further frames: a few bytes of packed text are megabytes for the decoder."""
    kept, at = [_PNG], len(_PNG)
    while at < len(raw):
        end = at + 12 + int.from_bytes(raw[at : at + 4], "big")
        if raw[at + 4 : at + 8] in _PNG_PICTURE:
            kept.append(raw[at:end])
        at = end
    return b"".join(kept)


def _jpeg_size(raw: bytes) -> tuple[int, int] | None:
    """(width, height) from the first frame header (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 <= len(raw) and raw[at] == 0xFF:
        if raw[at + 1] == 0xFF:  # a fill byte
            at += 1
        elif raw[at + 1] in _JPEG_FRAMES:
            return int.from_bytes(raw[at + 7 : at + 9], "big"), int.from_bytes(raw[at + 5 : at + 7], "big")
        elif raw[at + 1] in _JPEG_BARE:
            return None
        else:
            at += 2 + int.from_bytes(raw[at + 2 : at + 4], "big")
    return None
