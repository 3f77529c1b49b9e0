"""A camera for machines that have none: a picture, a video or a folder of pictures becomes a live H.264 stream.

The user's own process runs it and sends the packets; the agent never sees a file. Over a picture the camera moves
and zooms around the largest face, so that every frame is another one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from agents.face_recognition.cascade import find_faces
from agents.face_recognition.port import Box
from agents.pictures import Picture
from ledger.errors import Misuse

RATE = 25  # frames a second; a packet's pts counts in 1 / RATE seconds
KEY_EVERY = 12  # frames: what an agent on the move must carry of the stream
SIDE = 320  # pixels: width and height of what is filmed from pictures
_LONGEST_SIDE = 640  # pixels: videos keep their shape and are shrunk to this
_FACE_SIDE = 160  # pixels: larger faces are shrunk before the camera moves over them, for a quiet picture
_HOLD = 2 * RATE  # frames that each picture of a folder is shown
_VIEWS = 8  # pictures of a folder that are filmed, and of a folder or video that the person is enrolled from
_PORTRAITS = 15  # pictures for the enrolment, at most; each is some 5 KB of the state of the agent that learns it
_SEARCH = 20 * RATE  # frames of a video in which a face must come
_PORTRAIT_SIDE = 240  # pixels: a picture for the enrolment, of which the face takes half
# Enrolment: degrees turned, size, brightness. Slight, as a person moves in front of a camera.
_VARIATIONS = ((0, 1.0, 1.0), (-4, 1.0, 1.0), (4, 1.0, 1.0), (0, 0.92, 1.1), (0, 1.08, 0.9))


@dataclass(frozen=True)
class Packet:
    """One frame, encoded, and what was filmed (which is not sent)."""

    data: bytes  # H.264, Annex B, one picture
    pts: int  # in 1 / RATE seconds
    key: bool
    picture: Picture  # blue, green, red


class Camera:
    """Films `source`: a picture, a video, or a folder with pictures of one person; None is scikit-image's astronaut.

    Raises Misuse when the source cannot be read or shows no face.
    """

    def __init__(self, source: str | Path | None = None) -> None:
        self.label = "astronaut" if source is None else Path(source).resolve().stem
        self._frames: Callable[[], Iterator[Picture]]
        if source is None:
            self._views = [_astronaut()]
            self._frames = self._over_pictures
        elif not Path(source).exists():
            raise Misuse(f"there is no file or folder {source}: name a picture, a video or a folder of pictures")
        elif Path(source).is_dir():
            self._views = _views_of_folder(Path(source))
            self._frames = self._over_pictures
        elif cv2.haveImageReader(str(source)):
            self._views = [_view_of_picture(Path(source))]
            self._frames = self._over_pictures
        else:
            video = Path(source)
            self._views = _views_of_video(video)
            self._frames = lambda: _again_and_again(video)

    def frames(self) -> Iterator[Picture]:
        """What is filmed, without end: take as many as you need."""
        return self._frames()

    def packets(self) -> Iterator[Packet]:
        """The same, encoded: each frame gives one packet at once (no B-frames)."""
        encoder: Any = None
        for pts, picture in enumerate(self.frames()):
            encoder = encoder or _new_encoder(picture.shape[1], picture.shape[0])
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts = pts
            for packet in encoder.encode(frame):
                yield Packet(bytes(packet), pts, packet.is_keyframe, picture)

    def enrolment(self) -> list[bytes]:
        """A few pictures (PNG) of the person's face, to be sent with 'enrol'."""
        variations = _VARIATIONS[: _PORTRAITS // len(self._views)]  # several pictures vary by themselves
        shots = (_portrait(view, *change) for view in self._views for change in variations)
        return [_png(shot) for shot in shots if find_faces(_grey(shot))]

    def _over_pictures(self) -> Iterator[Picture]:
        for number in count():
            view = self._views[number // _HOLD % len(self._views)]
            yield _pan(view, number)


@dataclass(frozen=True)
class _View:
    """A picture, and the largest face in it."""

    picture: Picture
    box: Box


def _view(picture: Picture) -> _View | None:
    faces = find_faces(_grey(picture))
    if not faces:
        return None
    scale = min(1.0, _FACE_SIDE / faces[0][2])
    x, y, width, height = (round(edge * scale) for edge in faces[0])
    if scale < 1:
        picture = np.asarray(cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    return _View(picture, (x, y, width, height))


def _astronaut() -> _View:
    try:
        from skimage.data import astronaut  # only this picture needs it
    except ImportError:
        raise Misuse(
            "the picture of the demo comes with scikit-image: install 'agentplatform[demo]', or name a picture"
        ) from None
    view = _view(np.ascontiguousarray(astronaut()[..., ::-1]))
    assert view, "the cascade finds this face"
    return view


def _read_picture(path: Path) -> Picture:
    try:
        picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    except cv2.error:  # among others, more pixels than OpenCV opens
        picture = None
    if picture is None:
        raise Misuse(f"{path} cannot be read as a picture: it is damaged or too large, name another")
    return np.asarray(picture, np.uint8)


def _view_of_picture(path: Path) -> _View:
    view = _view(_read_picture(path))
    if view is None:
        raise Misuse(f"no face was found in {path}: name a picture of somebody who looks at the camera")
    return view


def _views_of_folder(folder: Path) -> list[_View]:
    try:
        pictures = [path for path in sorted(folder.iterdir()) if path.is_file() and cv2.haveImageReader(str(path))]
    except OSError as error:
        raise Misuse(f"{folder} cannot be read ({error.strerror}): name another folder") from None
    if not pictures:
        raise Misuse(f"there is no picture in {folder}: put some of one person into it, or name another folder")
    views = list(islice(filter(None, (_view(_read_picture(path)) for path in pictures)), _VIEWS))
    if not views:
        raise Misuse(f"no face was found in the {len(pictures)} pictures of {folder}: add a better one")
    return views


def _views_of_video(path: Path) -> list[_View]:
    sample = islice(_film(path), 0, _SEARCH, RATE // 3)
    views = list(islice(filter(None, map(_view, sample)), _VIEWS))
    if not views:
        raise Misuse(f"no face was found in the first {_SEARCH} frames of {path}: name a video that shows one early")
    return views


def _film(path: Path) -> Iterator[Picture]:
    """The frames of a video file, shrunk, once."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise Misuse(f"{path} holds no video: name a picture, a video or a folder of pictures")
            for frame in container.decode(video=0):
                # libx264 takes even numbers only.
                scale = min(1.0, _LONGEST_SIDE / max(frame.width, frame.height))
                width, height = (max(2, int(side * scale) & ~1) for side in (frame.width, frame.height))
                yield np.asarray(frame.to_ndarray(width=width, height=height, format="bgr24"), np.uint8)
    except (av.FFmpegError, OSError) as error:
        raise Misuse(f"{path} is no picture and no video that can be read ({error.strerror}): name another") from None


def _again_and_again(video: Path) -> Iterator[Picture]:
    while True:
        yield from _film(video)


def _pan(view: _View, number: int) -> Picture:
    """The camera circles around the face and zooms; the face stays whole."""
    turn = 2 * math.pi * number
    x, y, width, height = view.box
    side = width * (2.6 + 0.5 * math.sin(turn / 90))
    moved = (x + 0.35 * width * math.sin(turn / 60), y + 0.2 * height * math.sin(turn / 45), width, height)
    return _shot(view.picture, moved, side, SIDE)


def _portrait(view: _View, degrees: float, size: float, brightness: float) -> Picture:
    """The face with as much around it as the detector needs."""
    shot = _shot(view.picture, view.box, view.box[2] * 2 / size, _PORTRAIT_SIDE, degrees)
    return np.asarray(cv2.convertScaleAbs(shot, alpha=brightness), np.uint8)


def _shot(
    picture: Picture, box: tuple[float, float, float, float], side: float, pixels: int, degrees: float = 0
) -> Picture:
    """A square of `side` around the box's middle, moved into the picture where it can be, as pixels x pixels."""
    rows, columns = picture.shape[:2]
    side = min(side, rows, columns)
    x, y, width, height = box
    middle_x = min(max(x + width / 2, side / 2), columns - side / 2)
    middle_y = min(max(y + height / 2, side / 2), rows - side / 2)
    turn = np.asarray(cv2.getRotationMatrix2D((middle_x, middle_y), degrees, pixels / side), np.float64)
    turn[:, 2] += pixels / 2 - np.array([middle_x, middle_y])
    shot = cv2.warpAffine(picture, turn, (pixels, pixels), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(shot, np.uint8)


def _new_encoder(width: int, height: int) -> Any:
    try:
        encoder = av.CodecContext.create("libx264", "w")
    except av.codec.codec.UnknownCodecError:
        raise Misuse("PyAV here has no H.264 encoder (libx264): take the wheel that 'pip install av' brings") from None
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate = Fraction(RATE)
    encoder.gop_size, encoder.max_b_frames = KEY_EVERY, 0
    encoder.thread_count = 1
    encoder.options = {"preset": "veryfast", "tune": "zerolatency", "crf": "20"}
    return encoder


def _grey(picture: Picture) -> Picture:
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), np.uint8)


def _png(picture: Picture) -> bytes:
    return cv2.imencode(".png", picture)[1].tobytes()
