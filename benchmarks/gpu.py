"""Agents on a GPU: what lies there moves between two daemons, video is decoded, a face is known before and after.

Each figure stands beside its limit in the same run: the bus (a bare copy between the GPU and page-locked memory), the
wire (the same bytes written and synced, sent over plain TLS, written and synced).
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from agentplatform import connect
from agentplatform.consortium import found
from agentplatform.runners.process.forkserver import ONE_THREAD
from benchmarks.gpu_agents import BARE_BYTES, PEOPLE, Faces, Weights
from benchmarks.hosts import running, set_workers
from benchmarks.large_state import send, write
from ledger.errors import PlatformError

HOSTS = ("north", "east", "desk")  # the desk has no GPU that agents may use
GIB = 1 << 30
HEADROOM = 64 << 20  # at most 16 GiB of state travel, the pickle in them: of the last GiB so much is left out
FLOOR_BYTES = 2 * GIB  # the floor is measured with at most so much
SPARE_BYTES = 4 * GIB  # of the disk, beside what moves
PATIENCE = 120.0  # seconds for each call, and more for what is large: one that hangs leaves time for the others
SLOWEST = 40 << 20  # bytes a second, on the slowest disk
VERSIONS = ("agentplatform", "torch", "numpy", "av", "nvidia-ml-py", "uvloop", "msgspec")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--device", help='"cuda:0" if there is one; "cpu" tries all of it without a GPU')
    parser.add_argument("--gib", type=float, nargs="+", default=[1, 4, 16], help="GiB of state on the device")
    parser.add_argument("--only", choices=("state", "face", "video"), nargs="+", default=["state", "face", "video"])
    parser.add_argument("--folder", type=Path, help="for the hosts: a disk with twice the largest state, and more")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    device, lacking = _device(options.device)
    if device is None:
        print(json.dumps({"skipped": lacking}))
        return 0
    figures: dict[str, Any] = {"device": device, "versions": _versions(device)}
    _note(json.dumps(figures))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if "video" in options.only:
            figures["video"] = _tried("video", lambda: _video(folder, device))
        if {"state", "face"} & set(options.only):
            figures["hosts"] = _tried("hosts", lambda: _on_hosts(folder / "root", device, options, figures))
    print(json.dumps(figures))
    return 0


def _device(wish: str | None) -> tuple[str | None, str]:
    """The device, or why there is none."""
    try:
        import torch
    except ImportError as error:
        return None, f"PyTorch cannot be imported ({error}): pip install '.[torch]'"
    if wish is not None:
        return wish, ""
    if not torch.cuda.is_available():
        return None, "PyTorch finds no GPU here (torch.cuda.is_available()); --device cpu tries all of it without one"
    return "cuda:0", ""


def _versions(device: str) -> dict[str, Any]:
    import torch

    def version(name: str) -> str | None:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return None

    found = {name: version(name) for name in VERSIONS}
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
    if device == "cpu":
        return found | machine
    # Used once here, CUDA's device files are all there before a worker, which cannot make them, is started.
    torch.ones(1, device=device).cpu()
    return found | machine | {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}


def _found(root: Path, device: str) -> None:
    preload = ["numpy", "torch"] if _imports_without_threads() else ["numpy"]
    for home in found(root, HOSTS):
        set_workers(home, warm=1, preload=preload, gpu=device != "cpu" and home.folder.name != "desk")


def _imports_without_threads() -> bool:
    """A fork server has one thread, so it imports only what starts none."""
    count = "import os, torch; print(len(os.listdir('/proc/self/task')))"
    one_thread = {**os.environ, **ONE_THREAD}
    said = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, env=one_thread, check=False)
    return said.stdout.strip() == "1"


def _on_hosts(root: Path, device: str, options: Any, figures: dict[str, Any]) -> dict[str, Any]:
    _found(root, device)
    with running(root, HOSTS):
        if "face" in options.only:
            figures["face"] = _tried("face", lambda: face(root, device))
        if "state" in options.only:
            figures["state"] = []
            for gib in options.gib:
                size = _size(gib)
                line = {"gib": gib, "bytes": size}
                figures["state"].append(line | _tried(f"{gib:g} GiB", lambda size=size: state(root, device, size)))
        return {"jail": connect("north", root=root).call("status")["jail"]}


def _size(gib: float) -> int:
    size = int(gib * GIB) // 4096 * 4096
    return size - HEADROOM if size > 16 * GIB - HEADROOM else size


def state(root: Path, device: str, size: int) -> dict[str, Any]:
    """One agent with so many bytes on the device, from north to east."""
    free = shutil.disk_usage(root).free
    if free < 2 * size + SPARE_BYTES:
        return {"skipped": f"{free} bytes are free on the disk, and twice the state is written there (--folder)"}
    part = min(size, FLOOR_BYTES)
    disk, tls = (each * size / part for each in (write(root / "floor", part), send(part)))
    north, patience = connect("north", root=root), PATIENCE + size / SLOWEST
    agent = north.create(Weights, init={"device": device, "bytes": size}, patience=patience)
    try:
        bare = agent.call("bare", min(size, BARE_BYTES), patience=patience)
        captured = agent.call("capture", patience=patience)
        sums = agent.call("sums", patience=patience)
        agent.dispatch("east", patience=patience)
        last = agent.call("last", patience=patience)
        if last["failure"] is not None:
            return {"error": last["failure"]}
        intact = agent.call("sums", patience=patience) == sums
    finally:
        agent.dispose()
    figures: dict[str, Any] = {"intact": intact, "device_after": last["device"]}
    if device != "cpu":  # else nothing is copied: it is written from where it lies, and used where it is mapped
        out, into = size / captured["again_s"], size / last["to_device_s"]
        figures |= {
            "locked": captured["locked"],
            "out_gb_per_s": _rate(out),
            "out_first_gb_per_s": _rate(size / captured["first_s"]),
            "bus_out_gb_per_s": _rate(bare["out"]),
            "share_of_bus_out": round(out / bare["out"], 2),
            "in_gb_per_s": _rate(into),
            "bus_in_gb_per_s": _rate(bare["in"]),
            "share_of_bus_in": round(into / bare["in"], 2),
        }
    return figures | {
        "hop_s": round(last["hop_s"], 3),
        "hop_gb_per_s": _rate(size / last["hop_s"]),
        "wire_s": round(2 * disk + tls, 3),
        "share_of_wire": round((2 * disk + tls) / last["hop_s"], 2),
        "start_s": round(last["start_s"], 3),
        "downtime_s": round(last["downtime_s"], 3),
    }


def face(root: Path, device: str) -> dict[str, Any]:
    """Who is recognised on north, after a hop to east, and, on the processor, at the desk."""
    agent = connect("north", root=root).create(Faces, init={"device": device}, patience=PATIENCE)
    figures: dict[str, Any] = {"people": PEOPLE}
    try:
        before, near = agent.call("recognise", 0.1, patience=PATIENCE)
        agent.dispatch("east", patience=PATIENCE)
        after, near_after = agent.call("recognise", 0.1, patience=PATIENCE)
        last = agent.call("last")
        figures |= {
            "right": sum(who == number for number, who in enumerate(before)),
            "same_after_hop": before == after,
            "device_after": last["device"],
            "largest_difference": max(abs(a - b) for a, b in zip(near, near_after, strict=True)),
            "downtime_s": round(last["downtime_s"], 3),
        }
        if device != "cpu":
            try:
                agent.dispatch("desk", patience=PATIENCE)
                figures["refused_without_gpu"] = None
            except PlatformError as error:
                figures["refused_without_gpu"] = str(error)
            agent.call("content")
        agent.dispatch("desk", patience=PATIENCE)
        figures["same_on_cpu"] = agent.call("recognise", 0.1, patience=PATIENCE)[0] == before
        figures["desk_device"] = agent.call("last")["device"]
    finally:
        agent.dispose()
    return figures


def _video(folder: Path, device: str) -> dict[str, Any]:
    from benchmarks import gpu_video

    return gpu_video.measure(folder, device)


def _rate(bytes_a_second: float) -> float:
    return round(bytes_a_second / 1e9, 2)


def _tried(what: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What went wrong with one figure is told in its place: the others are worth their time."""
    begin = time.monotonic()
    try:
        found = measure()
    except Exception as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    _note(f"{what}, {time.monotonic() - begin:.1f} s: {json.dumps(found)}")
    return found


def _note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
