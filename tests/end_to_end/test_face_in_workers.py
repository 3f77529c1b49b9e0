"""The face-recognition agent in real workers: fork servers with OpenCV warm in them, jails, its code as a bundle."""

import asyncio
import itertools
from itertools import islice
from typing import Any

from agentplatform.messages import Answer, Arrival, Checkpoint, Delivery, Move, Outgoing
from agentplatform.parcel.code import bundle_of
from agentplatform.parcel.manifest import code_digest, give_birth, open_birth
from agentplatform.parcel.spool import MemorySpool
from agentplatform.runners.process.runner import ProcessRunner
from agentplatform.runners.process.settings import WorkerSettings
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.camera import Camera
from ledger import codec
from ledger.identity import Identity


class Desk:
    """What a daemon is to its runner, as far as this test needs it."""

    def __init__(self) -> None:
        self.answers: dict[int, asyncio.Future[Answer]] = {}
        self.said: list[str] = []

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.answers[ticket].set_result(answer)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        for ticket, answer in checkpoint.answers:
            if answer is not None:
                self.answered(agent, ticket, answer)
        for later, answer in checkpoint.late:
            self.answered(agent, later.sequence, answer)

    def sent(self, agent: str, outgoing: Outgoing) -> None: ...

    def printed(self, agent: str, stream: str, text: str) -> None:
        self.said.append(text)

    def wants_to_go(self, agent: str, destination: str, state: bytes) -> None: ...

    def wants_to_end(self, agent: str) -> None: ...

    def died(self, agent: str, reason: str) -> None:
        for future in self.answers.values():
            if not future.done():
                future.set_exception(AssertionError(f"{agent} died: {reason}; it said: {''.join(self.said)}"))


async def test_the_same_person_is_recognised_in_another_process() -> None:
    desk, tickets = Desk(), itertools.count(1)
    settings = WorkerSettings(warm=1, preload=("numpy", "cv2", "av"))
    hosts = {name: ProcessRunner(desk, MemorySpool(), settings) for name in ("north", "east")}
    bundle = bundle_of(FaceRecognition)
    raw = give_birth("face", Identity(bytes(32)), bytes(16), code_digest(bundle.raw), bundle.class_name, light=False)
    birth = open_birth(raw, "the test")

    async def ask(host: str, kind: str, body: Any) -> Any:
        ticket = next(tickets)
        desk.answers[ticket] = asyncio.get_running_loop().create_future()
        hosts[host].deliver(birth.agent, Delivery(ticket, "client-1", kind, codec.encode(body), sequence=ticket))
        answer = await desk.answers[ticket]
        body = codec.decode(answer.body, object)
        assert answer.ok, body
        return body

    camera = Camera()
    await asyncio.gather(*(runner.start() for runner in hosts.values()))
    try:
        await hosts["north"].create(birth, bundle.raw, codec.encode(None), Arrival("north", 1, None))
        for portrait in camera.enrolment():
            await ask("north", "enrol", {"label": "astronaut", "picture": portrait})
        at = "north"
        for number, packet in enumerate(islice(camera.packets(), 6), start=1):
            answer = await ask(at, "packet", {"data": packet.data, "pts": packet.pts})
            assert (answer["frame"], answer["host"], answer["faces"][0]["label"]) == (number, at, "astronaut")
            if number in (2, 4):
                there = "east" if at == "north" else "north"
                state = await hosts[at].capture(birth.agent, Move(there, "owner", "a test"))
                await hosts[there].open(birth, bundle.raw, state)
                hosts[at].discard(birth.agent)
                hosts[there].activate(birth.agent, Arrival(there, number, at))
                at = there
        assert desk.said == []
    finally:
        await asyncio.gather(*(runner.stop() for runner in hosts.values()))
