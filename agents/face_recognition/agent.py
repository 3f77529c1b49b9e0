"""The face-recognition service: it is shown faces once, and knows them wherever it goes.

What it has learned (the gallery, in `self.data`) and the stream it is watching are its state; there is nothing to train
or to start again after a move. Messages and their fields: messages.py. Answers name faces like this:

    {"label": "ada", "distance": 31.4, "box": [x, y, width, height]}

where the label is None for a stranger, and the distance None while nobody is known. With a model for them there are
"attributes", too.

Pictures are recognised in batches, beside the messages (agents.serving); all else is answered in its order. Who is
enrolled or forgotten is written before that is acknowledged. Recognising changes nothing that must outlive a crash.
"""

from contextlib import suppress
from functools import cached_property
from time import monotonic
from typing import Any, NamedTuple

from agentplatform.agent import Message
from agentplatform.messages import Arrival, Later
from agents.face_recognition import gallery as galleries
from agents.face_recognition import messages as ask
from agents.face_recognition.engines import Engines, Seen
from agents.face_recognition.gallery import Gallery
from agents.face_recognition.port import Vector
from agents.face_recognition.stream import Stream
from agents.face_recognition.weights import Refused, Weights, read
from agents.serving.histogram import Histogram
from agents.serving.service import BatchService
from ledger.errors import Misuse, PlatformError


class Portrait(NamedTuple):
    """What is needed to enrol a face."""

    vector: Vector
    thumbnail: bytes


class FaceRecognition(BatchService):
    service, version = "face-recognition", "1.1"
    passing = (*BatchService.passing, "_engines", "_gallery", "_refused")

    def on_creation(self, init: Any) -> None:
        """`init` is None, or what messages.Init says. Raises Misuse for a model that cannot be used."""
        super().on_creation(init)
        self.choice = ask.begin(init)
        self.stream = Stream()
        self.seen: dict[str, int] = {}  # label -> frames of the stream
        self.listener = self.choice.tell
        self.latest: Portrait | None = None  # the largest face of the latest frame, to enrol it
        self.enrolled = 0  # faces, ever
        self.digests: dict[str, str] = {}  # of the files with weights, by name
        self.fled = False  # from a host without those
        self._open()

    def on_arrival(self, arrival: Arrival) -> None:
        """On a host without the weights that it needs it cannot work: it goes back to where it came from."""
        try:
            self._open()
        except Misuse as error:
            print(f"it cannot work on {arrival.host}: {error}")
            if arrival.source is not None and not self.fled:
                self.fled = True
                self.dispatch(arrival.source)
        else:
            self.fled = False

    def handle_message(self, message: Message) -> Any:
        begin = monotonic()
        answer = self._answer(message)
        if message.kind != "recognise":  # which is timed to its answer
            self.latencies.setdefault(message.kind, Histogram()).observe(monotonic() - begin)
        return answer

    def _answer(self, message: Message) -> Any:
        match ask.parse(message.kind, message.body):
            case ask.Enrol(label, picture, frame):
                engines, gallery = self._open()
                face = _largest_face(engines, picture) if picture is not None else self._face_of_frame(frame)
                galleries.enrol(self.data, self.enrolled, label, engines.recogniser, *face)
                self.enrolled += 1
                return self._durably(message, {"label": label, "faces": gallery.labels.count(label) + 1})
            case ask.Forget(label):
                faces, snapshots = galleries.forget(self.data, label)
                self.seen.pop(label, None)
                with suppress(Misuse):  # without models nobody is recognised
                    self._open()  # those who wait for an answer are not told of them either
                return self._durably(message, {"label": label, "faces": faces, "snapshots": snapshots})
            case ask.Metrics():
                return self.metrics()
            case ask.People(thumbnails):
                return galleries.thumbnails(self.data) if thumbnails else self._open()[1].people()
            case ask.Packet(data, pts):
                return {**self._watch(data), "pts": pts}
            case ask.Recognise(picture):
                return self._queue(message, picture)
            case ask.Tell(to):
                self.listener = to
                return self._durably(message, {"to": to})
            case ask.Status():
                return {
                    "host": self.host,
                    "epoch": self.epoch,
                    "frames": self.stream.frames,
                    "seen": self.seen,
                    "people": self._open()[1].people(),
                }

    # Recognising

    async def run(self) -> None:
        with suppress(Misuse):  # each of the requests that came along is told
            self._open()
        await super().run()

    def prepare(self) -> None:
        if self._gallery is not None and self._gallery.labels:
            assert self._gallery.vectors.size  # unpacked, before somebody waits for it

    def compute(self, works: list[bytes]) -> list[Any]:
        """In a thread: it reads what is open, each once."""
        engines, gallery = self._engines, self._gallery
        if engines is None or gallery is None:
            raise Misuse(f"{self.name} has no models on {self.host}: ask for its 'status', which says why")
        return [_recognised(engines, gallery, picture) for picture in works]

    def _queue(self, message: Message, picture: bytes) -> Later:
        self._open()
        return self.submit(message, picture, space=len(picture))

    def _watch(self, packet: bytes) -> dict[str, Any]:
        engines, gallery = self._open()
        picture = self.stream.feed(packet, colour=engines.colour)
        seen, more = engines.look(picture)
        self.latest = Portrait(seen[0].vector, galleries.thumbnail(picture, seen[0].face.box)) if seen else None
        faces = [_named(engines, gallery, each) for each in seen]
        for label in sorted({face["label"] for face in faces if face["label"]}):
            self.seen[label] = self.seen.get(label, 0) + 1
            if self.listener:
                self.send(self.listener, "saw", {"label": label, "frame": self.stream.frames})
        return {"frame": self.stream.frames, "host": self.host, **_told(faces, more)}

    # Enrolling

    def _durably(self, message: Message, answer: dict[str, Any]) -> Any:
        """The answer leaves together with the state that it speaks of, when both are written."""
        assert message.later is not None
        self.snapshot()
        self.reply(message.later, answer)
        return message.later

    def _face_of_frame(self, frame: int | None) -> Portrait:
        if frame != self.stream.frames or self.latest is None:
            raise Misuse(
                f"frame {frame} cannot be enrolled: the latest is {self.stream.frames}"
                f"{'' if self.latest is not None else ', and shows no face'}; send a picture, or that number"
            )
        return self.latest

    # What is open here, and does not travel

    _engines: Engines | None = None
    _gallery: Gallery | None = None

    @cached_property
    def _refused(self) -> Refused:
        return {}  # else each request would read anew what may be a gigabyte

    def _open(self) -> tuple[Engines, Gallery]:
        """The models, and the gallery as it is now: its owner may have restored a snapshot meanwhile. Raises Misuse."""
        if self._engines is None:
            self._engines = Engines(self.choice, self._weights)
        self._gallery = galleries.open_gallery(self.data, self._engines.recogniser, self._gallery)
        return self._engines, self._gallery

    def _weights(self, name: str) -> Weights:
        found = read(name, self.shared_file(name), self.digests.get(name), self._refused)
        self.digests[name] = found.digest
        return found


def _largest_face(engines: Engines, raw: bytes) -> Portrait:
    picture = engines.open(raw)
    seen, _ = engines.look(picture)
    if not seen:
        raise Misuse("no face was found in the picture: send somebody who looks at the camera, with some margin")
    return Portrait(seen[0].vector, galleries.thumbnail(picture, seen[0].face.box))


def _recognised(engines: Engines, gallery: Gallery, raw: bytes) -> Any:
    try:
        seen, more = engines.look(engines.open(raw))
        return _told([_named(engines, gallery, each) for each in seen], more)
    except PlatformError as error:
        return error


def _told(faces: list[dict[str, Any]], more: int) -> dict[str, Any]:
    return {"faces": faces, "more": more} if more else {"faces": faces}


def _named(engines: Engines, gallery: Gallery, seen: Seen) -> dict[str, Any]:
    told: dict[str, Any] = {"label": None, "distance": None, "box": list(seen.face.box)}
    if gallery.labels:
        label, distance = gallery.nearest(engines.recogniser, seen.vector)
        told |= {"label": label if distance <= engines.recogniser.stranger else None, "distance": distance}
    return told if seen.attributes is None else told | {"attributes": seen.attributes}
