"""Draws what the agent answered into the picture that it was asked about."""

import unicodedata
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from agents.pictures import Picture

Colour = tuple[int, int, int]  # blue, green, red

_KNOWN: Colour = (120, 200, 40)
_STRANGER: Colour = (60, 140, 245)
_INK: Colour = (30, 24, 20)
_PAPER: Colour = (250, 248, 246)
_GREY: Colour = (150, 140, 132)
_FONT = cv2.FONT_HERSHEY_DUPLEX
_WIDTH = 1280  # pixels, at least, to draw on; then shrunk to half, which smooths OpenCV's plain letters


def annotate(picture: Picture, faces: Sequence[dict[str, Any]], caption: str) -> bytes:
    """A PNG: the picture (blue, green, red) with a frame and a label for each face, and a caption below it."""
    zoom = max(2.0, _WIDTH / picture.shape[1])
    canvas = np.asarray(cv2.resize(picture, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC), np.uint8)
    unit = canvas.shape[1] / 100  # everything is drawn in hundredths of the width
    for face in faces:
        colour = _KNOWN if face["label"] else _STRANGER
        box = [round(edge * zoom) for edge in face["box"]]
        _corners(canvas, box, unit, colour)
        _tag(canvas, box, unit, colour, face)
    canvas = np.vstack([canvas, _caption(caption, canvas.shape[1], unit)])
    small = cv2.resize(canvas, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".png", small)[1].tobytes()


def _corners(canvas: Picture, box: list[int], unit: float, colour: Colour) -> None:
    x, y, width, height = box
    arm, thick = round(min(width, height) * 0.18), max(2, round(unit * 0.45))
    for line, shade in ((thick + 4, _INK), (thick, colour)):  # a dark edge, so that it shows on any picture
        for corner_x, step_x in ((x, arm), (x + width, -arm)):
            for corner_y, step_y in ((y, arm), (y + height, -arm)):
                path = [[corner_x + step_x, corner_y], [corner_x, corner_y], [corner_x, corner_y + step_y]]
                cv2.polylines(canvas, [np.array(path, np.int32)], False, shade, line, cv2.LINE_AA)


def _tag(canvas: Picture, box: list[int], unit: float, colour: Colour, face: dict[str, Any]) -> None:
    """The label in a filled tag under the face, or above it where there is no room."""
    text = face["label"] or "stranger"
    if face["distance"] is not None:
        text += f", distance {face['distance']:.{0 if face['distance'] >= 10 else 2}f}"
    x, y, width, height = box
    size = unit / 11
    (long, high), _ = cv2.getTextSize(_plain(text), _FONT, size, 1)
    pad = round(unit * 1.1)
    left = int(np.clip(x + (width - long) // 2 - pad, 0, max(0, canvas.shape[1] - long - 2 * pad)))
    top = y + height + pad
    if top + high + 2 * pad > canvas.shape[0]:
        top = max(0, y - high - 3 * pad)
    _rounded(canvas, (left, top, long + 2 * pad, high + 2 * pad), colour)
    thick = max(1, round(unit * 0.14))
    cv2.putText(canvas, _plain(text), (left + pad, top + pad + high), _FONT, size, _INK, thick, cv2.LINE_AA)


def _rounded(canvas: Picture, area: tuple[int, int, int, int], colour: Colour) -> None:
    x, y, width, height = area
    r = height // 3
    cv2.rectangle(canvas, (x + r, y), (x + width - r, y + height), colour, cv2.FILLED)
    cv2.rectangle(canvas, (x, y + r), (x + width, y + height - r), colour, cv2.FILLED)
    for middle in ((x + r, y + r), (x + width - r, y + r), (x + r, y + height - r), (x + width - r, y + height - r)):
        cv2.circle(canvas, middle, r, colour, cv2.FILLED, cv2.LINE_AA)


def _caption(caption: str, width: int, unit: float) -> Picture:
    """A light strip; the caption's lines one below the other, the first in ink and the others in grey."""
    lines = _plain(caption).splitlines() or [""]
    step, size, thick = round(unit * 4.4), unit / 12, max(1, round(unit * 0.12))
    strip = np.full((round(unit * 2.6) + step * len(lines), width, 3), _PAPER, np.uint8)
    for number, line in enumerate(lines):
        (long, _), _ = cv2.getTextSize(line, _FONT, size, 1)
        fitted = size * min(1.0, (width - 6 * unit) / max(long, 1))
        at = (round(3 * unit), round(unit * 0.2) + step * (number + 1))
        cv2.putText(strip, line, at, _FONT, fitted, _GREY if number else _INK, thick, cv2.LINE_AA)
    return strip


def _plain(text: str) -> str:
    """OpenCV's letters are ASCII: accents are dropped, the rest becomes '?'."""
    spread = unicodedata.normalize("NFKD", text)
    kept = "".join(letter for letter in spread if not unicodedata.combining(letter))
    return kept.encode("ascii", "replace").decode()
