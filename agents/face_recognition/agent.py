"""The face-recognition service: it is shown faces once, and knows them wherever it goes.

What it has learned (the gallery) and the stream it is watching are its state; there is nothing to train or to start
again after a move. Messages and their fields: messages.py. Answers name faces like this:

    {"label": "ada", "distance": 31.4, "box": [x, y, width, height]}

where the label is None for a stranger, and the distance None while nobody is known.
"""

from typing import Any

from agentplatform.agent import Message
from agentplatform.service_agent import ServiceAgent
from agents.face_recognition import messages as ask
from agents.face_recognition.detector import Box, crop, find_faces
from agents.face_recognition.recogniser import STRANGER, Gallery, normalise
from agents.face_recognition.stream import Stream
from agents.pictures import Picture, open_picture
from ledger.errors import Misuse


class FaceRecognition(ServiceAgent):
    service, version = "face-recognition", "1.0"
    light = False  # it computes: a worker of its own

    def on_creation(self, init: Any) -> None:
        """`init` is {"tell": an agent's id or name} or None, see messages.Tell."""
        self.gallery = Gallery()
        self.stream = Stream()
        self.seen: dict[str, int] = {}  # label -> frames of the stream
        self.listener: str | None = None
        self.latest: Picture | None = None  # the largest face of the latest frame, to enrol it
        if init is not None:
            if not isinstance(init, dict) or set(init) != {"tell"}:
                raise Misuse(f"face recognition starts with nothing or {{'tell': AGENT}}, not with {init!r}")
            self.handle_message(Message("tell", {"to": init["tell"]}, sender=""))

    def handle_message(self, message: Message) -> Any:
        match ask.parse(message.kind, message.body):
            case ask.Enrol(label, picture, frame):
                face = self._largest_face(picture) if picture is not None else self._face_of_frame(frame)
                return {"label": label, "faces": self.gallery.enrol(label, face)}
            case ask.Forget(label):
                return {"label": label, "faces": self.gallery.forget(label)}
            case ask.People():
                return self.gallery.people()
            case ask.Packet(data, pts):
                return {**self._watch(data), "pts": pts}
            case ask.Recognise(picture):
                grey = open_picture(picture)
                return {"faces": [self._name(grey, box) for box in find_faces(grey)]}
            case ask.Tell(to):
                self.listener = to
                return {"to": to}
            case ask.Status():
                return {
                    "host": self.host,
                    "epoch": self.epoch,
                    "frames": self.stream.frames,
                    "seen": self.seen,
                    "people": self.gallery.people(),
                }

    def _watch(self, packet: bytes) -> dict[str, Any]:
        grey = self.stream.feed(packet)
        boxes = find_faces(grey)
        self.latest = normalise(crop(grey, boxes[0])) if boxes else None
        faces = [self._name(grey, box) for box in boxes]
        for label in sorted({face["label"] for face in faces if face["label"]}):
            self.seen[label] = self.seen.get(label, 0) + 1
            if self.listener:
                self.send(self.listener, "saw", {"label": label, "frame": self.stream.frames})
        return {"frame": self.stream.frames, "faces": faces, "host": self.host}

    def _name(self, grey: Picture, box: Box) -> dict[str, Any]:
        if not self.gallery.labels:
            return {"label": None, "distance": None, "box": list(box)}
        label, distance = self.gallery.nearest(crop(grey, box))
        return {"label": label if distance <= STRANGER else None, "distance": distance, "box": list(box)}

    def _largest_face(self, picture: bytes) -> Picture:
        grey = open_picture(picture)
        boxes = find_faces(grey)
        if not boxes:
            raise Misuse("no face was found in the picture: send somebody who looks at the camera, with some margin")
        return crop(grey, boxes[0])

    def _face_of_frame(self, frame: int | None) -> Picture:
        if frame != self.stream.frames or self.latest is None:
            raise Misuse(
                f"frame {frame} cannot be enrolled: the latest is {self.stream.frames}"
                f"{'' if self.latest is not None else ', and shows no face'}; send a picture, or that number"
            )
        return self.latest
