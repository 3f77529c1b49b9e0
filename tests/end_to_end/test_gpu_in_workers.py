"""Agents with a model on a device, in jailed workers: on the processor everywhere, on a GPU where there is one."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentplatform import Agent, handles
from agentplatform.messages import Arrival
from agentplatform.parcel.freight import Spooled
from agentplatform.runners.process.settings import WorkerSettings
from agents.device import OnDevice, pick
from benchmarks import gpu
from tests.end_to_end.test_large_states import carried
from tests.helpers.two_runners import THERE, Station

torch = pytest.importorskip("torch")

on_a_gpu = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="PyTorch finds no GPU here (torch.cuda.is_available())"
)
NUMBERS = 300_000


class Learner(Agent):
    checkpoint = "hop"

    def on_creation(self, init: Any) -> None:
        import torch

        self.wish, device = init, pick(init)
        numbers = torch.arange(NUMBERS, dtype=torch.float64)
        self.kept = OnDevice({"numbers": numbers, "window": numbers[10:20], "model": torch.nn.Linear(8, 8)}, device)

    def on_arrival(self, arrival: Any) -> None:
        self.kept.to(pick(self.wish))

    @handles("learn")
    def learn(self, by: float) -> list[Any]:
        """The window is a part of the numbers."""
        import torch

        value = self.kept.value
        value["window"] += by
        ones = self.kept.device.put(torch.ones(8))
        return [
            str(value["numbers"].device),
            float(value["numbers"].sum()),
            [round(each, 4) for each in value["model"](ones).tolist()],
        ]


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda:0", marks=on_a_gpu)])
async def test_a_model_goes_on_where_it_arrives_and_where_its_move_fails(device: str) -> None:
    settings = WorkerSettings(warm=1, preload=("numpy", "torch"), gpu=device != "cpu")
    async with Station("here", settings) as here, Station("there", settings) as there:
        birth, code = await here.create(Learner, device)
        total = NUMBERS * (NUMBERS - 1) / 2
        on, learnt, answers = await here.call(birth.agent, "learn", 1.0)
        assert on == device and learnt == total + 10
        await here.runner.capture(birth.agent, THERE)
        here.runner.thaw(birth.agent, "the road is closed")
        assert await here.call(birth.agent, "learn", 1.0) == [device, total + 20, answers]

        state = await here.runner.capture(birth.agent, THERE)
        assert isinstance(state, Spooled)
        await there.runner.open(birth, code, await carried(state, here, there))
        here.runner.discard(birth.agent)
        there.runner.activate(birth.agent, Arrival("there", 2, "here"))
        assert await there.call(birth.agent, "learn", 1.0) == [device, total + 30, answers]


@on_a_gpu
@pytest.mark.slow
async def test_where_gpus_are_closed_to_agents_there_is_none() -> None:
    async with Station("here", WorkerSettings(warm=1)) as here:
        birth, _ = await here.create(Learner, None)
        if "landlock" not in here.runner.jail:
            pytest.skip(f"nothing closes them here: workers have {here.runner.jail}")
        assert (await here.call(birth.agent, "learn", 1.0))[0] == "cpu"


@pytest.mark.slow
def test_the_benchmark_runs_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--device", "cpu", "--gib", "0.01", "--only", "state", "face", "--folder", str(tmp_path)]) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out.splitlines()[-1])
    (state,), face = figures["state"], figures["face"]
    assert state["intact"] and state["device_after"] == "cpu" and state["bytes"] == 10737418 // 4096 * 4096, said.err
    assert face["right"] == face["people"] and face["same_after_hop"] and face["same_on_cpu"], said.err
    assert 0 < state["hop_s"] <= state["downtime_s"]
