"""Models through an agent beside the bare models: latency of one request, throughput at batch 8, and what a hop costs.

The caller is an agent on the same host. The bare model does the same work in this process, in turns with the agent and
on one thread as the agent's worker: for a picture it is opened and judged, for windows and for pixels judged alone. It
is asked without a pause ("busy"), and with one, as the agent's has while its answer is on the way. The weights are
random: they take as long as others. ONNX Runtime runs a small model that is made here.
"""

import argparse
import asyncio
import importlib.util
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from agentplatform import Agent, connect
from agentplatform.consortium import found
from agentplatform.frontdoor.client import AgentProxy
from agents.device import pick
from agents.image_recognition.agent import ImageRecognition
from agents.image_recognition.preprocess import PIXEL_BYTES, pixels_of
from agents.serving.memory import keep_freed
from agents.serving.model_service import ModelService
from benchmarks.hosts import running, set_workers

HOSTS = ("north", "east")
ROUNDS = 5  # each figure is the median of so many, taken in turns with what it is compared with
BATCH = 8
CALLERS = 16  # that send one item each, all at once
TOGETHER = 2  # that send a batch each: while one is answered the other is computed
REST = 0.001  # seconds between two calls of the bare model that is asked as seldom as the agent's; see docs
HOPS = 10
PATIENCE = 120.0


class Caller(Agent):
    """Message "measure" {"to", "kind", "body", "count", "at_once"}: the seconds of each call, of all, and of what
    was not computing of each."""

    checkpoint = "none"

    async def handle_message(self, message: Any) -> Any:
        ask = message.body
        left, each, ways = iter(range(ask["count"])), [], []

        async def call_on() -> None:
            for _ in left:
                begin = time.perf_counter()
                answer = await self.call(ask["to"], ask["kind"], ask["body"])
                each.append(time.perf_counter() - begin)
                ways.append(each[-1] - answer["execution_ms"] / 1000)

        begin = time.perf_counter()
        await asyncio.gather(*(call_on() for _ in range(ask["at_once"])))
        return {"each": each, "all": time.perf_counter() - begin, "ways": ways}


class Timed(ModelService):
    """Knows how long it was away. Both hosts are on one machine, so their monotonic clock is one."""

    left = 0.0
    away: float | None = None

    def on_dispatching(self, destination: str) -> None:
        self.left = time.monotonic()

    def on_arrival(self, arrival: Any) -> None:
        self.away = time.monotonic() - self.left

    def metrics(self) -> dict[str, Any]:
        return {**super().metrics(), "away": self.away}


class TimedImages(Timed, ImageRecognition):
    pass


class Case:
    """One model: what an agent of it is asked, and the same work without the agent."""

    def __init__(
        self, agent: AgentProxy, kind: str, one: Any, several: Any, bare_one: Callable[[], Any], bare: Callable[[], Any]
    ) -> None:
        """`several` asks for BATCH items at once, as `bare` judges them."""
        self.agent, self.kind, self.one, self.several = agent, kind, one, several
        self.bare_one, self.bare = bare_one, bare


def figures_of(name: str, case: Case, caller: AgentProxy, count: int) -> dict[str, Any]:
    def through(body: Any, count: int, at_once: int) -> dict[str, Any]:
        ask = {"to": case.agent.id, "kind": case.kind, "body": body, "count": count, "at_once": at_once}
        return dict(caller.call("measure", ask, patience=PATIENCE))

    ways: list[float] = []

    def one() -> float:
        each = through(case.one, count, 1)
        ways.append(statistics.median(each["ways"]))
        return statistics.median(each["each"])

    trials: dict[str, Callable[[], float]] = {
        "busy": lambda: statistics.median(seconds(case.bare_one, count)),
        "rested": lambda: statistics.median(seconds(case.bare_one, count, REST)),
        "one": one,
        "bare": lambda: count / sum(seconds(case.bare, count // BATCH)),
        "several": lambda: count / through(case.several, count // BATCH, TOGETHER)["all"],
        "many": lambda: 2 * count / through(case.one, 2 * count, CALLERS)["all"],
    }
    taken: dict[str, list[float]] = {trial: [] for trial in trials}
    for turn in range(ROUNDS + 1):
        for trial, take in trials.items():
            value = take()
            if turn:  # the first one warms up
                taken[trial].append(value)
    median = {trial: statistics.median(values) for trial, values in taken.items()}
    return {
        f"{name}_bare_ms": round(median["rested"] * 1000, 2),
        f"{name}_added_ms_p50": round((median["one"] - median["rested"]) * 1000, 2),
        f"{name}_added_to_busy_ms_p50": round((median["one"] - median["busy"]) * 1000, 2),
        f"{name}_way_ms_p50": round(statistics.median(ways[1:]) * 1000, 2),
        f"{name}_bare_per_s": round(median["bare"], 1),
        f"{name}_ratio_batch_8": round(median["several"] / median["bare"], 3),
        f"{name}_ratio_16_callers": round(median["many"] / median["bare"], 3),
    }


def seconds(work: Callable[[], Any], count: int, rest: float = 0.0) -> list[float]:
    """Of each time; before it the processor has nothing to do for `rest` seconds. In a thread, as services compute: the
    memory of large batches is given back and taken again all the time in a process's first one."""

    def repeat() -> list[float]:
        taken = []
        for _ in range(count):
            if rest:
                time.sleep(rest)
            begin = time.perf_counter()
            work()
            taken.append(time.perf_counter() - begin)
        return taken

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(repeat).result()


def hops(agent: AgentProxy, kind: str, body: Any) -> dict[str, Any]:
    """To and fro; each time the first answer is waited for."""
    away, answered, size = [], [], 0
    for number in range(HOPS):
        hop = agent.dispatch(HOSTS[(number + 1) % 2], patience=PATIENCE)
        begin = time.perf_counter()
        agent.call(kind, body, patience=PATIENCE)
        first = time.perf_counter() - begin
        gone = agent.call("metrics")["away"]
        size = hop["bytes"]
        away.append(gone)
        answered.append(gone + first)
    return {
        "hop_bytes": size,
        "hop_ms_p50": round(statistics.median(away) * 1000, 1),
        "hop_to_first_answer_ms_p50": round(statistics.median(answered) * 1000, 1),
    }


def picture() -> bytes:
    """A JPEG of 640 x 480, made here: shapes and a little noise."""
    canvas = np.full((480, 640, 3), 90, np.uint8)
    for at in range(40):
        centre = (37 * at % 640, 53 * at % 480)
        cv2.circle(canvas, centre, 10 + at, (6 * at, 255 - 5 * at, 120), cv2.FILLED, cv2.LINE_AA)
    noise = np.random.default_rng(1).integers(0, 24, canvas.shape, np.uint8)
    return cv2.imencode(".jpg", cv2.add(canvas, noise))[1].tobytes()


def small_onnx(file: Path) -> None:
    """A convolution over patches, their mean, and 1,000 classes."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(1)
    weights = {
        "kernel": random.normal(0, 0.05, (64, 3, 16, 16)).astype(np.float32),
        "classes": random.normal(0, 0.1, (64, 1000)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["pictures", "kernel"], ["patches"], strides=[8, 8]),
        helper.make_node("Relu", ["patches"], ["bright"]),
        helper.make_node("GlobalAveragePool", ["bright"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "classes"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("pictures", TensorProto.FLOAT, ["batch", 3, 224, 224])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 1000])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))


def measure(folder: Path, only: list[str], count: int) -> dict[str, Any]:
    models = folder / "models"
    models.mkdir()
    for home in found(folder / "root", HOSTS):
        set_workers(home, preload=["numpy", "cv2", "onnxruntime", "torch"], readable=[str(models)])
    jpeg, ready = picture(), os.urandom(PIXEL_BYTES)
    several = np.stack([np.frombuffer(ready, np.uint8).reshape(224, 224, 3)] * BATCH)
    figures: dict[str, Any] = {}
    with running(folder / "root", HOSTS):
        north = connect(HOSTS[0], root=folder / "root")
        caller = north.create(Caller)
        if "driver" in only:
            from agents.driver_profiling import generate, model
            from agents.driver_profiling.agent import DriverProfiling
            from agents.driver_profiling.can import cut

            windows = cut(generate.drives(1, "A", 1)[0].samples)[:BATCH]
            judge = model.Network(model.drawn(1, len(generate.DRIVERS)), pick("cpu"))
            drivers = north.create(DriverProfiling, "drivers", init={"weights": "random", "seed": 1, "device": "cpu"})
            asked = {"window": windows[0].tobytes()}, {"windows": windows.tobytes()}
            case = Case(drivers, "profile", *asked, lambda: judge(windows[:1]), lambda: judge(windows))
            figures |= figures_of("driver", case, caller, 8 * count)
            drivers.dispose()
        if "image" in only:
            from agents.image_recognition import mobilenet

            look = mobilenet.Network(mobilenet.drawn(1), pick("cpu"))
            images = north.create(TimedImages, "images", init={"weights": "random", "seed": 1, "device": "cpu"})
            figures |= figures_of("picture", pictures(images, look, jpeg), caller, count)
            case = Case(
                images,
                "classify",
                {"pixels": [ready]},
                {"pixels": [ready] * BATCH},
                lambda: look(several[:1]),
                lambda: look(several),
            )
            figures |= figures_of("pixels", case, caller, count) | hops(images, "classify", {"picture": jpeg})
            images.dispose()
        if "onnx" in only:
            from agents.image_recognition import onnx_engine

            small_onnx(models / "small.onnx")
            small = onnx_engine.Network((models / "small.onnx").read_bytes())
            onnx = north.create(ImageRecognition, "onnx", init={"weights": "small.onnx"})
            figures |= figures_of("onnx", pictures(onnx, small, jpeg), caller, 2 * count)
    return figures


def pictures(agent: AgentProxy, look: Any, jpeg: bytes) -> Case:
    return Case(
        agent,
        "classify",
        {"picture": jpeg},
        {"pictures": [jpeg] * BATCH},
        lambda: look(pixels_of(jpeg)[np.newaxis]),
        lambda: look(np.stack([pixels_of(jpeg) for _ in range(BATCH)])),
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks inference", description=__doc__)
    parser.add_argument("--only", choices=("driver", "image", "onnx"), nargs="+", help="default: what is installed")
    parser.add_argument("--count", type=int, default=24, help="pictures of each trial; of windows 8 times as many")
    parser.add_argument("--freed", action="store_true", help="the bare model gives its memory back; agents keep theirs")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    if not options.freed:
        keep_freed()
    torch = importlib.util.find_spec("torch") is not None
    only = options.only or [*(("driver", "image") if torch else ()), "onnx"]
    if torch:
        import torch as library

        library.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(Path(folder), only, options.count)
    if not options.json:
        print(f"median of {ROUNDS} rounds, in turns; batches of {BATCH}; an agent calls another one on its host")
    print(json.dumps(figures))
    return 0
