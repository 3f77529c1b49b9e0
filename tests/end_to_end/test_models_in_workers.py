"""Services with models in real workers: PyTorch is imported once, ahead of all forks, and weights move with them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("cv2")
pytest.importorskip("onnxruntime")

from agents.device import pick  # noqa: E402
from agents.driver_profiling import generate, model  # noqa: E402
from agents.driver_profiling.agent import DriverProfiling  # noqa: E402
from agents.driver_profiling.can import cut  # noqa: E402
from agents.image_recognition.agent import ImageRecognition  # noqa: E402
from tests.helpers.local import Local, consortium, until  # noqa: E402
from tests.helpers.tiny_models import tiny_onnx  # noqa: E402

RANDOM = {"weights": "random", "seed": 1, "device": "cpu"}
PIXELS = np.random.default_rng(1).integers(0, 256, (224, 224, 3), np.uint8)


def preloading(local: Local, models: Path, *names: str) -> None:
    for name in names:
        file = local.home(name).settings_file
        settings, _, _ = file.read_text().partition("[workers]")
        preload = '["numpy", "cv2", "onnxruntime", "torch"]'
        file.write_text(f'{settings}[workers]\nwarm = 1\npreload = {preload}\nreadable = ["{models}"]\n')


@pytest.mark.slow
def test_models_answer_in_forks_of_a_process_that_has_their_libraries_and_move(tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    tiny_onnx(models / "tiny.onnx", np.eye(3, 4))
    windows = cut(generate.drives(1, "A", 1, 200)[0].samples)[:2]
    sure = model.Network(model.drawn(1, 10), pick("cpu"))(windows)
    with consortium(tmp_path / "root", "north", "east", start=()) as local:
        preloading(local, models, "north", "east")
        local.start("north", "east")
        north = local.host("north")
        drivers = north.create(DriverProfiling, "drivers", init=RANDOM)
        pictures = north.create(ImageRecognition, "pictures", init=RANDOM)
        small = north.create(ImageRecognition, "small", init={"weights": "tiny.onnx"})
        (models / "tiny.onnx").unlink()  # from here on nobody has the file
        asked = {"pixels": [PIXELS.tobytes()] * 2}
        before: list[Any] = []
        for stay in range(2):
            found = drivers.call("profile", {"windows": windows.tobytes()})["profiles"]
            assert [each["driver"] for each in found] == ["ABCDEFGHIJ"[best] for best in sure.argmax(1)]
            assert np.allclose([each["confidence"] for each in found], sure.max(1), atol=1e-5)
            answers = [agent.call("classify", asked, patience=60.0)["pictures"] for agent in (pictures, small)]
            assert not stay or answers == before
            before = answers
            if not stay:
                for agent in (drivers, pictures, small):
                    until("east takes it", lambda agent=agent: agent.dispatch("east", patience=60.0))
        assert {agent.host for agent in (drivers, pictures, small)} == {"east"}
