"""The face-recognition service between two daemons: how long nobody answers while it moves, and what a picture costs.

It knows 100 people, of Labeled Faces in the Wild as scikit-image has them (25 x 25 pixels, enlarged; mirrored ones fill
up). A client of the host that it leaves goes on asking, one at a time: the gap is the longest time between two answers.
On loopback, and over a slow link beside what the bytes that had to move take on it.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage.data import lfw_subset

from agentplatform.consortium import found
from agentplatform.data import Data
from agentplatform.frontdoor.client import AgentProxy, connect
from agents.face_recognition import gallery as galleries
from agents.face_recognition.agent import FaceRecognition
from agents.face_recognition.choice import Choice
from agents.face_recognition.engines import Engines
from benchmarks.hosts import running
from benchmarks.migration import spread
from benchmarks.shaped import PAIR, hosts, measured, shaped

PEOPLE = 100
HOPS, SLOW_HOPS, WARM_UP = 30, 10, 4
REST = 0.3  # seconds before a hop, in which the next worker is made ready
ANSWERS = 3  # that must have come before a hop, and after it
SLOW_PACE = 0.005  # seconds between two questions, where they would fill the link
AIM_MS, AIM_SHARE = 30.0, 1.2
PATIENCE = 60.0  # seconds


class Diligent(FaceRecognition):
    """Writes what it is with each message: what a recognition would cost then."""

    checkpoint = "message"


def people() -> list[bytes]:
    """Pictures (PNG) of so many people, in each of which the detector finds a face."""
    engines, shots = Engines(Choice(), _no_weights), []
    for face in (*lfw_subset()[:100], *lfw_subset()[:100, :, ::-1]):
        near = cv2.resize((face * 255).astype(np.uint8), (160, 160), interpolation=cv2.INTER_CUBIC)
        shot = cv2.imencode(".png", cv2.copyMakeBorder(near, 60, 60, 60, 60, cv2.BORDER_REPLICATE))[1].tobytes()
        if engines.look(engines.open(shot))[0]:
            shots.append(shot)
    return shots[:PEOPLE]


def _no_weights(name: str) -> Any:
    raise SystemExit(f"{name} is read, and no weights were named")


class Asker:
    """Asks again and again, one at a time, and remembers when answers came."""

    def __init__(self, agent: AgentProxy, kind: str, body: Any, pace: float) -> None:
        self.came: list[float] = []  # by the monotonic clock
        self._agent, self._asked, self._pace = agent, (kind, body), pace
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)
        self._thread.start()

    def _ask(self) -> None:
        while not self._over.is_set():
            self._agent.call(*self._asked, patience=PATIENCE)
            self.came.append(time.monotonic())
            self._over.wait(self._pace)

    def wait(self, more: int) -> None:
        wanted = len(self.came) + more
        while len(self.came) < wanted and self._thread.is_alive():
            time.sleep(0.001)

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


class Hops:
    """Of one agent, to and fro between the two hosts."""

    def __init__(self, root: Path, agent: str) -> None:
        self._proxies = {name: AgentProxy(connect(name, root=root), agent) for name in PAIR}
        self._ways = itertools.cycle((PAIR, PAIR[::-1]))

    def go(self, count: int, kind: str = "status", body: Any = None, pace: float = 0.0) -> list[dict[str, float]]:
        return [self._once(kind, body, pace) for _ in range(count)]

    def _once(self, kind: str, body: Any, pace: float) -> dict[str, float]:
        source, destination = next(self._ways)
        agent = self._proxies[source]
        time.sleep(REST)
        asker = Asker(agent, kind, body, pace)
        try:
            asker.wait(ANSWERS)
            before = len(asker.came) - 1
            hop = agent.dispatch(destination, patience=PATIENCE)
            asker.wait(ANSWERS)
        finally:
            asker.stop()
        gap = max(after - this for this, after in itertools.pairwise(asker.came[before:]))
        return {"gap_ms": gap * 1000, "downtime_ms": hop["downtime_ms"], "bytes": hop["bytes"]}


def taught(root: Path, shots: list[bytes], kind: type[FaceRecognition] = FaceRecognition) -> tuple[AgentProxy, float]:
    """One that knows them all, and the milliseconds that an enrolment took at the median."""
    agent = connect(PAIR[0], root=root).create(kind, "faces")
    label = itertools.count()
    return agent, median_ms(
        [lambda shot=shot: agent.call("enrol", {"label": f"p{next(label)}", "picture": shot}) for shot in shots]
    )


def median_ms(calls: list[Callable[[], Any]]) -> float:
    times = []
    for call in calls:
        begin = time.perf_counter()
        call()
        times.append((time.perf_counter() - begin) * 1000)
    return statistics.median(times)


def bare(shots: list[bytes]) -> tuple[float, float]:
    """Milliseconds to enrol and to recognise in this process, at the median."""
    engines, data, number = Engines(Choice(), _no_weights), Data(), itertools.count()
    recogniser = engines.recogniser

    def enrol(shot: bytes) -> None:
        picture = engines.open(shot)
        seen = engines.look(picture)[0][0]
        small = galleries.thumbnail(picture, seen.face.box)
        galleries.enrol(data, each := next(number), f"p{each}", recogniser, seen.vector, small)

    def recognise(shot: bytes) -> tuple[str, float]:
        return gallery.nearest(recogniser, engines.look(engines.open(shot))[0][0].vector)

    enrolled = median_ms([lambda shot=shot: enrol(shot) for shot in shots])
    gallery = galleries.open_gallery(data, recogniser)
    return enrolled, median_ms([lambda shot=shot: recognise(shot) for shot in shots])


def on_loopback(root: Path, shots: list[bytes]) -> dict[str, Any]:
    found(root, PAIR)
    figures: dict[str, Any] = {}
    with running(root, PAIR):
        agent, enrolled = taught(root, shots)
        calls = [lambda shot=shot: agent.call("recognise", {"picture": shot}) for shot in shots]
        figures |= {"enrol_ms_p50": round(enrolled, 2), "recognise_ms_p50": round(median_ms(calls), 2)}
        for name, took in zip(("bare_enrol", "bare_recognise"), bare(shots), strict=True):
            figures[f"{name}_ms_p50"] = round(took, 2)
        hops = Hops(root, agent.id)
        hops.go(WARM_UP)
        silent = hops.go(HOPS)
        figures |= spread("downtime", [hop["downtime_ms"] for hop in silent])
        figures |= spread("gap", [hop["gap_ms"] for hop in silent])
        seeing = hops.go(HOPS, "recognise", {"picture": shots[0]})
        figures |= spread("gap_recognised", [hop["gap_ms"] for hop in seeing])
        figures |= {"state_bytes": int(statistics.median(hop["bytes"] for hop in silent))}
        agent.dispose()
        diligent, enrolled = taught(root, shots, Diligent)
        calls = [lambda shot=shot: diligent.call("recognise", {"picture": shot}) for shot in shots]
        figures["each_kept_enrol_ms_p50"] = round(enrolled, 2)
        figures["each_kept_recognise_ms_p50"] = round(median_ms(calls), 2)
    return figures


def on_a_slow_link(root: Path, shots: list[bytes], mbit: float, relay: bool) -> dict[str, Any]:
    with shaped(mbit, relay=relay) as link:
        gets = measured(link, mbit)
        with hosts(link, root):
            agent, _ = taught(root, shots)
            hops = Hops(root, agent.id)
            hops.go(WARM_UP, pace=SLOW_PACE)
            slow = hops.go(SLOW_HOPS, pace=SLOW_PACE)
    size = statistics.median(hop["bytes"] for hop in slow)
    wire = size * 8 / mbit / 1000
    gaps = [hop["gap_ms"] for hop in slow]
    return {
        "slow_link": link.name,
        "slow_mbit": mbit,
        "slow_mbit_measured": round(gets, 2),
        "slow_bytes": int(size),
        "slow_wire_ms": round(wire, 1),
        **spread("slow_downtime", [hop["downtime_ms"] for hop in slow]),
        **spread("slow_gap", gaps),
        "slow_share_of_aim": round(statistics.median(gaps) / (AIM_SHARE * wire + AIM_MS), 3),
    }


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks face", description=__doc__)
    parser.add_argument("--only", choices=("loopback", "slow"), help="one half")
    parser.add_argument("--mbit", type=float, default=5.0, help="of the slow link")
    parser.add_argument("--relay", action="store_true", help="shape in a relay, even with root")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    shots = people()
    figures: dict[str, Any] = {"people": len(shots)}
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "slow":
            figures |= on_loopback(Path(folder) / "loopback", shots)
        if options.only != "loopback":
            figures |= on_a_slow_link(Path(folder) / "slow", shots, options.mbit, options.relay)
    figures["load_average"] = round(os.getloadavg()[0], 1)
    if not options.json:
        _explain(figures)
    print(json.dumps(figures))
    return 0


def _explain(figures: dict[str, Any]) -> None:
    if "gap_ms_p50" in figures:
        print(f"on loopback nobody answers for {figures['gap_ms_p50']:.1f} ms at the median; the aim is {AIM_MS:g} ms")
    if "slow_gap_ms_p50" in figures:
        print(
            f"at {figures['slow_mbit']:g} Mbit/s ({figures['slow_link']}) for {figures['slow_gap_ms_p50']:.0f} ms; "
            f"its bytes take {figures['slow_wire_ms']:.0f} ms, and the aim is {AIM_SHARE:g} x that + {AIM_MS:g} ms"
        )
