"""The gallery against OpenCV's own recogniser, and faces of people who were never shown."""

import cv2
import numpy as np
import pytest
from skimage.data import lfw_subset

from agents.face_recognition import recogniser
from agents.face_recognition.recogniser import BINS, STRANGER, Gallery, distances, histogram, normalise
from agents.pictures import Picture
from ledger.errors import Misuse

PEOPLE = 24


@pytest.fixture(scope="module")
def people() -> list[Picture]:
    """Faces of different people (a part of Labeled Faces in the Wild, 25 x 25 pixels)."""
    return [normalise((face * 255).astype(np.uint8)) for face in lfw_subset()[:PEOPLE]]


@pytest.fixture(scope="module")
def gallery(people: list[Picture]) -> Gallery:
    gallery = Gallery()
    for number, face in enumerate(people):
        gallery.enrol(f"p{number}", face)
    return gallery


def changed(face: Picture) -> Picture:
    """The same face, somewhat turned, darker and blurred."""
    middle = (face.shape[1] / 2, face.shape[0] / 2)
    turned = cv2.warpAffine(face, cv2.getRotationMatrix2D(middle, 3, 1.02), face.shape[::-1], borderMode=1)
    return np.asarray(cv2.GaussianBlur(cv2.convertScaleAbs(turned, alpha=0.8), (3, 3), 0), np.uint8)


def test_labels_and_distances_are_those_of_opencv(people: list[Picture], gallery: Gallery) -> None:
    model = cv2.face.LBPHFaceRecognizer_create()  # type: ignore[attr-defined]
    model.train(people, np.arange(PEOPLE, dtype=np.int32))
    for face in map(changed, people):
        number, distance = model.predict(face)
        assert gallery.nearest(face) == (f"p{number}", pytest.approx(distance, rel=1e-6))


def test_another_distance_would_not_pass(people: list[Picture], gallery: Gallery) -> None:
    # The broken twin: chi-square over one histogram's own bins (OpenCV's HISTCMP_CHISQR), without the other's.
    face = histogram(changed(people[0]))
    row = gallery.histograms[0]
    broken = float(np.sum((row - face)[row > 0] ** 2 / row[row > 0]))
    assert broken != pytest.approx(float(distances(gallery.histograms[:1], face)[0]), rel=1e-2)


def test_people_are_told_apart_and_strangers_stay_strangers(people: list[Picture], gallery: Gallery) -> None:
    for number, face in enumerate(people):
        label, distance = gallery.nearest(changed(face))
        assert (label, distance <= STRANGER) == (f"p{number}", True)
        others = np.delete(distances(gallery.histograms, histogram(face)), number)
        assert others.min() > STRANGER


def test_forgetting_removes_one_label_only(people: list[Picture]) -> None:
    gallery = Gallery()
    for label, face in zip("aba", people, strict=False):
        gallery.enrol(label, face)
    assert gallery.people() == {"a": 2, "b": 1}
    assert gallery.forget("a") == 2
    assert gallery.people() == {"b": 1}
    assert gallery.nearest(people[0])[0] == "b"
    assert gallery.histograms.shape == (1, BINS)
    with pytest.raises(Misuse, match="nobody is called 'a'"):
        gallery.forget("a")


def test_an_empty_and_a_full_gallery_say_so(people: list[Picture], monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = Gallery()
    with pytest.raises(Misuse, match="nobody is known yet"):
        gallery.nearest(people[0])
    monkeypatch.setattr(recogniser, "MAX_FACES", 1)
    gallery.enrol("a", people[0])
    with pytest.raises(Misuse, match="full"):
        gallery.enrol("a", people[1])
