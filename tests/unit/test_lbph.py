"""Local binary patterns against OpenCV's own recogniser, faces of people who were never shown, and the gallery."""

import zlib

import cv2
import numpy as np
import pytest
from skimage.data import lfw_subset

from agentplatform.data import Data
from agents.face_recognition import gallery as galleries
from agents.face_recognition.gallery import Gallery, enrol, forget, open_gallery, thumbnails
from agents.face_recognition.lbph import BINS, CELLS, PIXELS, STRANGER, Counts, Lbph, distances, histogram, normalise
from agents.pictures import Picture
from ledger.errors import Misuse

PEOPLE = 24
LBPH = Lbph()


@pytest.fixture(scope="module")
def people() -> list[Picture]:
    """Faces of different people (a part of Labeled Faces in the Wild, 25 x 25 pixels)."""
    return [normalise((face * 255).astype(np.uint8)) for face in lfw_subset()[:PEOPLE]]


@pytest.fixture(scope="module")
def data(people: list[Picture]) -> Data:
    data = Data()
    for number, face in enumerate(people):
        enrol(data, number, f"p{number}", LBPH, histogram(face), b"small")
    return data


@pytest.fixture(scope="module")
def gallery(data: Data) -> Gallery:
    return open_gallery(data, LBPH)


def changed(face: Picture) -> Picture:
    """The same face, somewhat turned, darker and blurred."""
    middle = (face.shape[1] / 2, face.shape[0] / 2)
    turned = cv2.warpAffine(face, cv2.getRotationMatrix2D(middle, 3, 1.02), face.shape[::-1], borderMode=1)
    return np.asarray(cv2.GaussianBlur(cv2.convertScaleAbs(turned, alpha=0.8), (3, 3), 0), np.uint8)


def of_opencv(face: Picture) -> np.ndarray:
    """Its own histogram: shares, not counts."""
    model = cv2.face.LBPHFaceRecognizer_create()  # type: ignore[attr-defined]
    model.train([face], np.zeros(1, np.int32))
    return np.asarray(model.getHistograms()[0], np.float32).ravel()


def test_labels_and_distances_are_those_of_opencv(people: list[Picture], gallery: Gallery) -> None:
    model = cv2.face.LBPHFaceRecognizer_create()  # type: ignore[attr-defined]
    model.train(people, np.arange(PEOPLE, dtype=np.int32))
    for face in map(changed, people):
        number, distance = model.predict(face)
        assert gallery.nearest(LBPH, histogram(face)) == (f"p{number}", pytest.approx(distance, rel=1e-6))


def test_another_distance_would_not_pass(people: list[Picture], gallery: Gallery) -> None:
    # The broken twin: chi-square over one histogram's own bins (OpenCV's HISTCMP_CHISQR), without the other's.
    face, row = (each / PIXELS for each in (histogram(changed(people[0])), gallery.vectors[0]))
    broken = float(np.sum((row - face)[row > 0] ** 2 / row[row > 0]))
    right = float(distances(gallery.vectors[:1], histogram(changed(people[0])))[0])
    assert broken != pytest.approx(right, rel=1e-2)


def extremes(people: list[Picture]) -> list[Picture]:
    rng = np.random.default_rng(7)
    return [*people, np.zeros((128, 128), np.uint8), rng.integers(0, 256, (128, 128)).astype(np.uint8)]


def test_one_byte_a_pattern_is_exact(people: list[Picture]) -> None:
    # Of a picture of one colour all 225 pixels of a cell have one pattern: the largest count that there can be.
    for face in extremes(people):
        counts = histogram(face)
        assert (counts.dtype, counts.shape) == (np.uint8, (BINS,))
        assert (counts.reshape(CELLS, -1).sum(axis=1, dtype=int) == PIXELS).all()
        assert np.allclose(counts / PIXELS, of_opencv(face), rtol=0, atol=1e-7)
    assert histogram(extremes(people)[-2]).max() == PIXELS


def test_a_narrower_number_would_be_noticed(people: list[Picture]) -> None:
    flat = extremes(people)[-2]
    assert not np.allclose((histogram(flat) & 0x7F) / PIXELS, of_opencv(flat), rtol=0, atol=1e-7)


def test_people_are_told_apart_and_strangers_stay_strangers(people: list[Picture], gallery: Gallery) -> None:
    for number, face in enumerate(people):
        label, distance = gallery.nearest(LBPH, histogram(changed(face)))
        assert (label, distance <= STRANGER) == (f"p{number}", True)
        others = np.delete(distances(gallery.vectors, histogram(face)), number)
        assert others.min() > STRANGER


def filled(people: list[Picture], labels: str) -> Data:
    data = Data()
    for number, (label, face) in enumerate(zip(labels, people, strict=False)):
        enrol(data, number, label, LBPH, histogram(face), label.encode())
    return data


def test_forgetting_removes_one_label_only(people: list[Picture]) -> None:
    data = filled(people, "aba")
    assert open_gallery(data, LBPH).people() == {"a": 2, "b": 1}
    assert thumbnails(data) == {"a": [b"a", b"a"], "b": [b"b"]}
    assert forget(data, "a") == (2, 0)
    gallery = open_gallery(data, LBPH)
    assert gallery.people() == {"b": 1}
    assert gallery.nearest(LBPH, histogram(people[0]))[0] == "b"
    assert thumbnails(data) == {"b": [b"b"]}
    with pytest.raises(Misuse, match="nobody is called 'a'"):
        forget(data, "a")


def test_forgetting_takes_the_snapshots_along(people: list[Picture]) -> None:
    data = filled(people, "ab")
    data.snapshot("with both")
    assert forget(data, "a") == (1, 1)
    assert data.snapshots() == ()


def test_a_snapshot_that_was_restored_counts_at_once(people: list[Picture]) -> None:
    data = filled(people, "a")
    number = data.snapshot()
    gallery = open_gallery(data, LBPH)
    enrol(data, 1, "b", LBPH, histogram(people[1]), b"")
    gallery = open_gallery(data, LBPH, gallery)
    assert gallery.labels == ("a", "b")
    data.restore(number)
    enrol(data, 2, "c", LBPH, histogram(people[2]), b"")  # as many as before, and not the same
    assert open_gallery(data, LBPH, gallery).labels == ("a", "c")


def test_a_full_gallery_says_so(people: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data()
    monkeypatch.setattr(galleries, "MAX_FACES", 1)
    enrol(data, 0, "a", LBPH, histogram(people[0]), b"")
    with pytest.raises(Misuse, match="full"):
        enrol(data, 1, "a", LBPH, histogram(people[1]), b"")


def test_what_another_recogniser_has_described_is_refused(people: list[Picture]) -> None:
    class Other(Lbph):
        name = "sface 0123"

    data = filled(people, "a")
    with pytest.raises(Misuse, match="made by the recogniser 'lbph', and this is 'sface 0123'"):
        open_gallery(data, Other())


@pytest.mark.parametrize(
    "value",
    [
        5,
        {"label": "a"},
        {"label": 1, "by": "lbph", "vector": b""},
        {"label": "a", "by": "lbph", "vector": b"not packed"},
    ],
)
def test_a_state_that_a_host_has_broken_costs_an_error(value: object) -> None:
    data = Data()
    data.put("face/00000000", value)
    with pytest.raises(Misuse, match="face/00000000"):
        assert open_gallery(data, LBPH).vectors is None


def test_vectors_that_blow_up_or_differ_in_length_are_refused(people: list[Picture]) -> None:
    data = filled(people, "a")
    bomb = zlib.compress(bytes(1 << 22))
    data.put("face/00000009", {"label": "b", "by": "lbph", "vector": bomb, "thumbnail": b""})
    with pytest.raises(Misuse, match="different lengths"):
        assert open_gallery(data, LBPH).vectors is None


def counts_of(seed: int) -> Counts:
    return histogram(np.random.default_rng(seed).integers(0, 256, (128, 128)).astype(np.uint8))


def test_what_is_still_so_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    data, read = Data(), []
    before = galleries._read
    monkeypatch.setattr(galleries, "_read", lambda *of: (read.append(of[0]), before(*of))[1])
    gallery = None
    for number in range(3):
        enrol(data, number, "a", LBPH, counts_of(number), b"")
        gallery = open_gallery(data, LBPH, gallery)
    assert read == ["face/00000000", "face/00000001", "face/00000002"]
