"""The face service with its gallery, between two hosts: what figures 8 and 9 move."""

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

from agentplatform import connect
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.camera import Camera
from benchmarks.shaped import PAIR

PATIENCE = 600.0  # seconds for a move
REST = 0.3  # seconds in which a host forks and warms the next worker


@dataclass(frozen=True)
class Hop:
    begin: float  # CLOCK_MONOTONIC, seconds: the order
    seconds: float  # from the order, given by a client, to the first answer at the destination: whose face that is
    downtime: float  # seconds in which it handled nothing
    size: int  # bytes that moved


class FaceService:
    """Begins on the first host of PAIR. `people`: so many are enrolled, of portraits that are alike."""

    def __init__(self, root: Path, people: int) -> None:
        self._root, self._at = root, PAIR[0]
        agent = connect(PAIR[0], root=root).create(FaceRecognition, patience=PATIENCE)
        self.id = agent.id
        self._portraits = list(Camera().enrolment())
        for number, portrait in zip(range(people), itertools.cycle(self._portraits), strict=False):
            agent.call("enrol", {"label": f"person {number:03}", "picture": portrait}, patience=PATIENCE)

    def hop(self) -> Hop:
        """To the other host, after a rest. Raises AssertionError when it does not know there whom it knew here."""
        time.sleep(REST)
        there = PAIR[1 - PAIR.index(self._at)]
        begin = time.monotonic()
        record = connect(self._at, root=self._root).agent(self.id).dispatch(there, patience=PATIENCE)
        agent = connect(there, root=self._root).agent(self.id)
        answer = agent.call("recognise", {"picture": self._portraits[0]}, patience=PATIENCE)
        seconds = time.monotonic() - begin
        if answer["faces"][0]["label"] is None:
            raise AssertionError(f"whom the service knew on {self._at} it does not know on {there}: {answer}")
        self._at = there
        return Hop(begin, seconds, record["downtime_ms"] / 1000, record["bytes"])
