"""Figure 10: what the face-recognition service answers at the destination, drawn into the picture that it was sent."""

from collections.abc import Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from agentplatform.console import catalogue
from agentplatform.console.demo.stage import all_hear_each_other, await_that, temporary_consortium
from agentplatform.frontdoor.client import AgentProxy
from agents.face_recognition.annotate import annotate
from agents.face_recognition.camera import RATE, Camera
from examples.papers.plots import GREY, INK
from examples.papers.result import Column, NotHere, Result, Row, Say, Scale
from ledger.errors import Misuse

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SOURCE, DESTINATION = "north", "south"
PICTURES = {Scale.TINY: 2, Scale.SMALL: 6, Scale.FULL: 50}
_HEAR = 30.0  # seconds until the hosts know of each other

Faces = list[dict[str, Any]]


def measure(scale: Scale, say: Say) -> Result:
    try:
        camera = Camera()
    except Misuse as missing:  # its picture comes with an extra
        raise NotHere(str(missing)) from None
    pictures = list(islice(camera.frames(), 0, PICTURES[scale] * RATE, RATE))
    say("four hosts start")
    with temporary_consortium(keep=False) as hosts:
        await_that("every host hears of every other", lambda: all_hear_each_other(hosts), _HEAR)
        say("the face service learns a face, and moves")
        service = hosts[SOURCE].create(catalogue.find("face-recognition"), "faces")
        for portrait in camera.enrolment():
            service.call("enrol", {"label": camera.label, "picture": portrait})
        before = _recognised(service, pictures)
        hop = service.dispatch(DESTINATION)
        host = service.host
        after = _recognised(service, pictures)
    rows = tuple(_row(number, *pair) for number, pair in enumerate(zip(before, after, strict=True), 1))
    caption = f"{rows[0][3] or 'nobody'}, recognised on {host}\nenrolled on {SOURCE}, before the service moved"
    return Result(
        title=f"A face that was learned on {SOURCE}, recognised on {host}",
        columns=(
            Column("picture"),
            Column("label before"),
            Column("distance before"),
            Column("label after"),
            Column("distance after"),
        ),
        rows=rows,
        paper="A face is recognised, with what the service says of it, at the target node after the migration.",
        measured=_sentence(rows, host, hop["downtime_ms"]),
        differs="The paper's service names expression, age and gender, for which this one needs weights; here it says "
        "who it is, and how far (LBPH, chi-square) from what it learned. The paper shows nothing of before the move.",
        draw=partial(_draw, annotate(pictures[0], after[0], caption)),
        emulated=("all four hosts are daemons of one machine", "a camera's path over a picture stands for a camera"),
    )


def _recognised(service: AgentProxy, pictures: Sequence[Any]) -> list[Faces]:
    encoded = (cv2.imencode(".png", picture)[1].tobytes() for picture in pictures)
    return [service.call("recognise", {"picture": each})["faces"] for each in encoded]


def _row(number: int, before: Faces, after: Faces) -> Row:
    """Of the largest face; words and distance are empty where none was found."""
    found = [(faces[0]["label"], faces[0]["distance"]) if faces else ("", "") for faces in (before, after)]
    return (number, *found[0], *found[1])


def _sentence(rows: Sequence[Row], host: str, downtime_ms: float) -> str:
    equal = sum(row[1:3] == row[3:5] for row in rows)
    known = sum(bool(row[3]) for row in rows)
    return (
        f"On {host} {known} of {len(rows)} pictures show a face that it knows, {equal} of {len(rows)} with the same "
        "label and the same distance to the last digit as before it moved; the service was away for "
        f"{downtime_ms:.0f} ms."
    )


def _draw(png: bytes, figure: "Figure", rows: Sequence[Row]) -> None:
    image = np.asarray(cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR))
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    left.imshow(image[..., ::-1])
    for axes in (left, right):
        axes.axis("off")
    right.set(xlim=(0, 1), ylim=(0, 1))
    shown = rows[:8]
    step = 0.8 / (len(shown) + 1)
    right.text(0.0, 0.98, "who it is, and the distance (LBPH, chi-square)", color=GREY, fontsize=8.5)
    _line(right, 0.9, GREY, "picture", f"on {SOURCE}", f"on {DESTINATION}")
    for place, (number, label, distance, label_after, distance_after) in enumerate(shown, 1):
        words = [f"{name or 'nobody'} {far:.2f}" for name, far in ((label, distance), (label_after, distance_after))]
        _line(right, 0.9 - place * step, INK, str(number), *words)


def _line(axes: Any, height: float, colour: str, *words: str) -> None:
    for at, word in zip((0.0, 0.22, 0.64), words, strict=True):
        axes.text(at, height, word, color=colour, fontsize=8.5)
