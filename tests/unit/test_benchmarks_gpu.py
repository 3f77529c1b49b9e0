"""What `python -m benchmarks gpu` says where there is no GPU, and how much it moves."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.parcel.freight import MAX_FREIGHT_BYTES
from benchmarks import gpu, gpu_video
from ledger.errors import Misuse


def skipped(capsys: pytest.CaptureFixture[str]) -> str:
    assert gpu.main(["--json"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    assert set(found) == {"skipped"}
    return str(found["skipped"])


def test_without_a_gpu_it_says_why_nothing_is_measured(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = SimpleNamespace(cuda=SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", closed)
    assert "PyTorch finds no GPU here" in skipped(capsys)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert "pip install '.[torch]'" in skipped(capsys)


def test_the_largest_state_leaves_room_for_its_pickle() -> None:
    assert gpu._size(1) == 1 << 30
    assert gpu._size(16) == MAX_FREIGHT_BYTES - gpu.HEADROOM
    assert all(gpu._size(gib) % 4096 == 0 and gpu._size(gib) < MAX_FREIGHT_BYTES for gib in (0.1, 15.99, 16))


def test_what_fails_is_told_beside_the_other_figures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*given: Any) -> Any:
        raise OSError("no space left")

    monkeypatch.setattr(gpu, "_device", lambda wish: ("cpu", ""))
    monkeypatch.setattr(gpu, "_versions", lambda device: {})
    monkeypatch.setattr(gpu, "_video", lambda folder, device: {"frames": 600})
    monkeypatch.setattr(gpu, "_found", fails)
    assert gpu.main([]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["video"] == {"frames": 600} and found["hosts"] == {"error": "OSError: no space left"}


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WIDTH": 64, "HEIGHT": 48, "FRAMES": 120}.items():
        monkeypatch.setattr(gpu_video, name, value)


def test_video_is_decoded_as_the_agent_does_on_the_processor_and_on_a_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch)
    on_cpu = gpu_video.measure(tmp_path, "cpu")
    assert on_cpu["frames"] == 120 and on_cpu["cpu_fps"] > 0 and on_cpu["nvdec_fps"] is None
    lacking = gpu_video.measure(tmp_path, "cuda:7")
    assert "cuda:7 cannot decode here" in lacking["nvdec"] and lacking["nvdec_fps"] is None
    monkeypatch.setattr(gpu_video, "why_not", lambda device: "")  # it says that it can, and leaves it to the processor
    fallen = gpu_video.measure(tmp_path, "cuda:7")
    assert fallen["nvdec"] == "the processor decoded all the same"
    assert fallen["same_frames"] and fallen["nvdec_frames"] == 120 and fallen["nvdec_fps"] > 0


def test_frames_that_differ_and_videos_that_cannot_be_decoded_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frames = iter(range(100))
    small(monkeypatch)
    monkeypatch.setattr(gpu_video, "why_not", lambda device: "")
    monkeypatch.setattr(gpu_video, "digest", lambda frame: next(frames))
    assert not gpu_video.measure(tmp_path, "cuda:7")["same_frames"]

    def broken(device: str) -> Any:
        if device != "cpu":
            raise Misuse("out of memory")

    monkeypatch.setattr(gpu_video, "accelerator_of", broken)
    failed = gpu_video.measure(tmp_path, "cuda:7")
    assert failed["nvdec"] == "cuda:7 failed: out of memory" and failed["cpu_fps"] > 0
    monkeypatch.undo()
    (tmp_path / "no.mp4").write_bytes(b"no video")
    with pytest.raises(Misuse, match="cannot be opened"):
        gpu_video._decoded(tmp_path / "no.mp4", "cpu")
