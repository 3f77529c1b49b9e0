"""Pictures from outside: bombs, broken files, other formats, turned and tiny ones."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from agents.face_recognition.choice import Choice
from agents.face_recognition.engines import Engines
from agents.pictures import MAX_PIXELS, MAX_SCANNED, open_picture
from ledger.errors import Misuse

MIB = 1 << 20
GREY = np.tile(np.arange(96, dtype=np.uint8), (64, 1))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, rows: bytes = b"", level: int = -1) -> bytes:
    """A PNG that claims to be so large, with `rows` as its packed data, in one chunk."""
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    packed = zlib.compress(rows, level)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


def jpeg(picture: np.ndarray = GREY, *options: int) -> bytes:
    return cv2.imencode(".jpg", picture, list(options))[1].tobytes()


def sized(raw: bytes, width: int, height: int) -> bytes:
    """The same JPEG, claiming to be so large."""
    at = raw.index(b"\xff\xc0") + 5
    return raw[:at] + struct.pack(">HH", height, width) + raw[at + 4 :]


def turned(raw: bytes, orientation: int) -> bytes:
    """The same JPEG with an EXIF orientation."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    body = b"Exif\0\0" + tiff
    return raw[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + raw[2:]


def scanned(raw: bytes, scans: int) -> bytes:
    """A progressive JPEG with its last scan so many times."""
    last = raw.rindex(b"\xff\xda")
    end = raw.rindex(b"\xff\xd9")
    return raw[:last] + raw[last:end] * scans + raw[end:]


def smuggled(raw: bytes, marker: int) -> bytes:
    """The same JPEG behind a marker that has no length. Who reads one there goes on at a header of 8 x 8 pixels."""
    frame = b"\xff\xc0\x00\x0b\x08\x00\x08\x00\x08\x01\x01\x11\x00"
    first = b"\xff\xfe" + struct.pack(">H", 60_000) + bytes(59_998)
    gap = bytes(2 + 2 + 0xFFFE - (4 + len(first) + 4))
    second = b"\xff\xfe" + struct.pack(">H", 2 + len(gap) + len(frame)) + gap + frame
    return raw[:2] + bytes([0xFF, marker]) + first + second + raw[2:]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (png(60_000, 60_000), "60000 x 60000 pixels is not taken"),
        (png(2**31 - 1, 2**31 - 1), "is not taken"),
        (png(0, 7), "0 x 7 pixels"),
        (sized(jpeg(), 65_000, 65_000), "65000 x 65000 pixels is not taken"),
        (png(96, 64, bytes(97 * 64))[:60], "damaged"),
        (jpeg()[:20], "cut off"),
        (b"GIF89a" + bytes(99), "no PNG or JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no PNG or JPEG"),
        (cv2.imencode(".bmp", GREY)[1].tobytes(), "no PNG or JPEG"),
        (cv2.imencode(".webp", GREY)[1].tobytes(), "no PNG or JPEG"),
        (b"", "0 bytes"),
        (b"\xff\xd8" * 5000, "cut off"),
        (smuggled(sized(jpeg(), 9000, 9000), 0x00), "no PNG or JPEG"),
        (smuggled(sized(jpeg(), 9000, 9000), 0x01), "no PNG or JPEG"),
        (smuggled(sized(jpeg(), 9000, 9000), 0xD0), "no PNG or JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "cut off"),
    ],
)
@pytest.mark.parametrize("colour", [False, True])
def test_what_is_no_picture_or_too_large_is_refused(raw: bytes, words: str, colour: bool) -> None:
    with pytest.raises(Misuse, match=words):
        open_picture(raw, colour=colour)


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    picture = np.zeros((2500, 4000), np.uint8)
    raw = jpeg(picture, cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    assert open_picture(raw).shape == (2500, 4000)
    most = MAX_SCANNED // (2500 * 4000)
    with pytest.raises(Misuse, match=r"4000 x 2500 pixels in \d+ scans"):
        open_picture(scanned(raw, most + 1))


def test_the_decoder_gets_no_texts_profiles_and_further_frames_of_a_png(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bytes] = []
    decode = cv2.imdecode
    monkeypatch.setattr(cv2, "imdecode", lambda raw, way: given.append(raw.tobytes()) or decode(raw, way))
    plain = cv2.imencode(".png", GREY)[1].tobytes()
    words = zlib.compress(bytes(1 << 20))  # 1 KB, and as many of them as a message holds
    texts = chunk(b"zTXt", b"k\0\0" + words) + chunk(b"iTXt", b"k\0\1\0\0\0" + words) + chunk(b"iCCP", b"k\0\0" + words)
    frames = chunk(b"acTL", struct.pack(">II", 1000, 0))
    end = len(plain) - 12
    raw = plain[:33] + texts + frames + plain[33:end] + texts + plain[end:]
    assert np.array_equal(open_picture(raw), GREY)
    assert given == [plain]


def test_a_png_may_have_all_its_pixels_in_one_chunk() -> None:
    """libpng takes 8 MB of other chunks."""
    picture = np.arange(12_000_000, dtype=np.uint32).astype(np.uint8).reshape(3000, 4000)
    raw = png(4000, 3000, np.insert(picture, 0, 0, axis=1).tobytes(), level=0)
    assert len(raw) > 12_000_000
    assert np.array_equal(open_picture(raw), picture)


def test_pictures_are_turned_as_they_say() -> None:
    upright = open_picture(jpeg())
    assert upright.shape == (64, 96)
    right = open_picture(turned(jpeg(), 6))
    assert right.shape == (96, 64)
    assert np.abs(right.astype(int) - np.rot90(upright, -1)).max() <= 2
    assert np.array_equal(open_picture(turned(jpeg(), 3)), upright[::-1, ::-1])
    assert np.array_equal(open_picture(turned(jpeg(), 99)), upright)  # what there is not counts for nothing


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (3, 900_000), (47, 4000), (2, 2)])
def test_pictures_without_room_for_a_face_have_none(shape: tuple[int, int]) -> None:
    engines = Engines(Choice(), lambda name: pytest.fail("no weights are needed"))
    picture = engines.open(cv2.imencode(".png", np.full(shape, 77, np.uint8))[1].tobytes())
    assert picture.shape == shape
    assert engines.look(picture) == ([], 0)


# VmHWM: ru_maxrss of a child begins with what its parent had.
MEMORY = """
import sys
from pathlib import Path
from agents.face_recognition.choice import Choice
from agents.face_recognition.engines import Engines
from agents.pictures import open_picture
from ledger.errors import Misuse

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))

engines = Engines(Choice(), lambda name: None)
before = most()
refused = 0
for path in sys.argv[1:]:
    try:
        engines.look(open_picture(Path(path).read_bytes(), colour=True))
    except Misuse:
        refused += 1
print(refused, (most() - before) // 1024)
"""


def growth(*pictures: Path) -> tuple[int, int]:
    """How many were refused, and by how many MiB the process grew at most."""
    words = [sys.executable, "-c", MEMORY, *map(str, pictures)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=110, check=True, cwd=Path(__file__).parents[2])
    refused, grown = map(int, done.stdout.split())
    return refused, grown


@pytest.mark.slow
def test_memory_stays_bounded_whatever_comes(tmp_path: Path) -> None:
    side = 6320  # nearly 40 megapixels
    assert side * side <= MAX_PIXELS < 10_000 * 10_000
    rows = bytes(1 + 10_000) * 10_000
    bombs = {
        "bomb.png": png(10_000, 10_000, rows),  # 100 megapixels in 100 KB
        "bomb.jpg": sized(jpeg(), 65_000, 65_000),
        "short.png": png(side, side, rows[:1000]),
        "scans.jpg": scanned(jpeg(np.zeros((side, side), np.uint8), cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 300),
    }
    black = np.zeros((side, side), np.uint8)
    allowed = {"large.png": png(side, side, bytes(1 + side) * side), "large.jpg": jpeg(black)}
    for name, raw in (bombs | allowed).items():
        (tmp_path / name).write_bytes(raw)
    refused, grown = growth(*(tmp_path / name for name in bombs))
    assert refused == len(bombs)
    assert grown < 400, f"{grown} MiB for {len(bombs)} bombs"
    refused, grown = growth(*(tmp_path / name for name in allowed))
    assert refused == 0
    # The harness sees memory: 40 megapixels in colour are 114 MiB by themselves.
    assert 114 <= grown < 600, f"{grown} MiB for 40 megapixels"
