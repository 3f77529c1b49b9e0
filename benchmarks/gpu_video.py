"""Frames a second of one made-up video, decoded by the processor and by NVIDIA's decoder (NVDEC), as the
video-decoding agent does."""

import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np

from agents.video_decoding.decoder import Decoder
from agents.video_decoding.device import accelerator_of, why_not
from agents.video_decoding.file import FileSource
from agents.video_decoding.limits import THREADS
from agents.video_decoding.pictures import digest
from agents.video_decoding.position import Position
from agents.video_decoding.source import Here
from ledger.errors import PlatformError

WIDTH, HEIGHT, FRAMES, RATE = 1920, 1080, 600, 30
COMPARED = 50  # every so many frames


def measure(folder: Path, device: str) -> dict[str, Any]:
    video = folder / "made-up.mp4"
    _encode(video)
    by_cpu = _decoded(video, "cpu")
    figures = {"frames": by_cpu["frames"], "cpu_fps": by_cpu["fps"], "cpu_threads": THREADS, "nvdec_fps": None}
    if device == "cpu":
        return figures | {"nvdec": "not asked for"}
    if why := why_not(device):
        return figures | {"nvdec": why, "av": av.__version__}
    try:
        by_gpu = _decoded(video, device)
    except PlatformError as error:  # the processor's figures are worth their time
        return figures | {"nvdec": f"{device} failed: {error}", "av": av.__version__}
    return figures | {
        "nvdec": by_gpu["codec"] if by_gpu["by"] == device else "the processor decoded all the same",
        "nvdec_fps": by_gpu["fps"],
        "nvdec_over_cpu": round(by_gpu["fps"] / by_cpu["fps"], 2),
        "same_frames": by_gpu["hashes"] == by_cpu["hashes"],  # H.264 leaves decoders no choice
        "nvdec_frames": by_gpu["frames"],
    }


def _encode(video: Path) -> None:
    """Shapes that move over a grain that stays: some 10 Mbit/s."""
    rows, columns = np.ogrid[0:HEIGHT, 0:WIDTH]
    grain = np.random.default_rng(5).integers(0, 24, (HEIGHT, WIDTH), dtype=np.uint8)
    with av.open(str(video), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "60"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            luma = (((rows + 3 * number) // 40 + (columns + 5 * number) // 56) % 2 * 160).astype(np.uint8) + grain
            planes = np.concatenate([luma, np.full((HEIGHT // 2, WIDTH), 128, np.uint8)])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(stream.encode())


def _decoded(video: Path, device: str) -> dict[str, Any]:
    """All frames, in the host's memory, as the agent gets them; some are hashed while others are decoded."""
    came = threading.Event()
    source, accelerator = FileSource(str(video)), accelerator_of(device)
    decoder = Decoder(lambda reading: source.open(Here(Path, accelerator, reading)), Position(), "", device, came.set)
    hashes, over = [], False
    begin = time.perf_counter()
    decoder.start()
    while not over:
        came.wait()
        came.clear()
        over = decoder.over  # what is ready by now is all, then
        while decoder.ready:
            if decoder.taken % COMPARED == 0:
                hashes.append(digest(decoder.ready[0].frame))
            decoder.drop(1)
    took = time.perf_counter() - begin
    if decoder.failure is not None:
        raise decoder.failure
    assert decoder.opened is not None
    fps, opened = round(decoder.taken / took, 1), decoder.opened
    return {"frames": decoder.taken, "fps": fps, "hashes": hashes, "by": opened.by, "codec": opened.codec}
