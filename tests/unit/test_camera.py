"""The camera: from a picture, a video or a folder to packets, enrolment pictures and an annotated picture."""

from fractions import Fraction
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from skimage.data import astronaut

from agents.face_recognition.annotate import annotate
from agents.face_recognition.camera import KEY_EVERY, SIDE, Camera
from agents.face_recognition.cascade import find_faces
from agents.face_recognition.stream import Stream
from agents.pictures import Picture, open_picture
from ledger.errors import Misuse


@pytest.fixture(scope="module")
def face() -> Picture:
    """A small picture with one face: blue, green, red."""
    return np.ascontiguousarray(astronaut()[:256, 80:336, ::-1])


@pytest.fixture(scope="module")
def camera() -> Camera:
    return Camera()


def write_video(path: Path, pictures: list[Picture]) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=Fraction(25))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return path


def test_each_frame_is_one_packet_and_keys_come_in_time(camera: Camera) -> None:
    packets = list(islice(camera.packets(), 2 * KEY_EVERY + 1))
    assert [packet.pts for packet in packets] == list(range(len(packets)))
    assert [packet.pts for packet in packets if packet.key] == [0, KEY_EVERY, 2 * KEY_EVERY]
    stream = Stream()
    for packet in packets:
        grey = cv2.cvtColor(packet.picture, cv2.COLOR_BGR2GRAY)
        decoded = stream.feed(packet.data)
        assert decoded.shape == (SIDE, SIDE)
        assert np.abs(decoded.astype(float) - grey).mean() < 5  # of 255: what was filmed, almost


def test_the_camera_moves_and_the_face_stays_in_the_picture(camera: Camera) -> None:
    boxes = []
    for frame in islice(camera.frames(), 0, 180, 15):
        found = find_faces(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
        assert len(found) == 1
        boxes.append(found[0])
    for values in zip(*boxes, strict=True):
        assert max(values) - min(values) > 10  # pixels


def test_every_enrolment_picture_shows_one_face_and_no_two_are_equal(camera: Camera) -> None:
    pictures = camera.enrolment()
    assert len(pictures) >= 3
    assert len(set(pictures)) == len(pictures)
    for raw in pictures:
        assert len(find_faces(open_picture(raw))) == 1


def test_a_picture_of_any_name_becomes_its_label(tmp_path: Path, face: Picture) -> None:
    cv2.imwrite(str(tmp_path / "ada.jpg"), face)
    camera = Camera(tmp_path / "ada.jpg")
    assert camera.label == "ada"
    assert next(camera.packets()).key


def test_a_video_keeps_its_frames_and_begins_again_at_its_end(tmp_path: Path, face: Picture) -> None:
    wide = cv2.copyMakeBorder(face, 0, 2, 0, 40, cv2.BORDER_REPLICATE)
    dark = cv2.convertScaleAbs(wide, alpha=0.5)
    camera = Camera(write_video(tmp_path / "film.mp4", [wide, wide, dark]))
    frames = list(islice(camera.frames(), 6))
    assert {frame.shape for frame in frames} == {(258, 296, 3)}
    light = [frame.mean() > 100 for frame in frames]
    assert light == [True, True, False] * 2
    assert len(list(islice(camera.packets(), 6))) == 6
    assert camera.enrolment()


def test_a_folder_shows_its_pictures_one_after_the_other(tmp_path: Path, face: Picture) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), face)
    cv2.imwrite(str(tmp_path / "2.png"), cv2.convertScaleAbs(face, alpha=0.4))
    (tmp_path / "notes.txt").write_text("no picture")
    camera = Camera(tmp_path)
    first, later = (frame.mean() for frame in islice(camera.frames(), 0, 51, 50))
    assert later < 0.6 * first
    assert len(camera.enrolment()) > 5


def test_what_cannot_be_filmed_is_refused_with_what_to_do(tmp_path: Path, face: Picture) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "plain").mkdir()
    wall = np.full((240, 320, 3), 128, np.uint8)
    cv2.imwrite(str(tmp_path / "plain" / "wall.png"), wall)
    (tmp_path / "text.txt").write_text("hello")
    (tmp_path / "nothing.mp4").touch()
    whole = cv2.imencode(".png", face)[1].tobytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 20])
    write_video(tmp_path / "wall.mp4", [wall] * 3)
    for name, words in {
        "missing.png": "no file or folder",
        "empty": "no picture in",
        "plain": "no face was found in the 1 pictures",
        "plain/wall.png": "no face was found in",
        "text.txt": "no picture and no video",
        "nothing.mp4": "no picture and no video",
        "cut.png": "cannot be read as a picture|no face was found",
        "wall.mp4": "no face was found in the first",
    }.items():
        with pytest.raises(Misuse, match=words):
            Camera(tmp_path / name)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(Misuse, match="holds no video"):
        Camera(tmp_path / "sound.wav")


def test_a_large_photograph_is_shrunk_first(tmp_path: Path, face: Picture) -> None:
    cv2.imwrite(str(tmp_path / "large.jpg"), cv2.resize(face, (3000, 3000)))
    frame = next(Camera(tmp_path / "large.jpg").frames())
    assert frame.shape == (SIDE, SIDE, 3)
    assert find_faces(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))


def test_the_annotated_picture_shows_frames_labels_and_caption(face: Picture) -> None:
    answer = [
        {"label": "Zoë", "distance": 31.0, "box": [80, 40, 90, 90]},
        {"label": None, "distance": None, "box": [-5, 230, 40, 40]},  # over the edge: still drawn
    ]
    raw = annotate(face, answer, "one line\nand another")
    drawn = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_COLOR)
    assert drawn is not None
    plain = cv2.imdecode(np.frombuffer(annotate(face, [], "one line\nand another"), np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == plain.shape
    assert drawn.shape[0] > drawn.shape[1]  # the caption is below the square
    assert (drawn != plain).any()
    assert (annotate(face, answer, "x" * 500) != raw) and annotate(face, [], "")
