"""Frames a second of one made-up video, decoded by the processor and by NVIDIA's decoder (NVDEC), both by PyAV."""

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEIGHT, FRAMES, RATE = 1920, 1080, 600, 30


def measure(folder: Path, device: str) -> dict[str, Any]:
    import av

    video = folder / "made-up.mp4"
    _encode(video)
    by_cpu = _decoded(video, None)
    figures: dict[str, Any] = {
        "frames": by_cpu["frames"],
        "cpu_fps": by_cpu["fps"],
        "cpu_threads": by_cpu["threads"],
        "nvdec_fps": None,
    }
    if device == "cpu":
        return figures | {"nvdec": "not asked for"}
    try:
        from av.codec.hwaccel import HWAccel, hwdevices_available

        figures["hwdevices"] = list(hwdevices_available())
        accelerator = HWAccel("cuda", device=device.partition(":")[2], allow_software_fallback=False)
        by_gpu = _decoded(video, accelerator)
    except Exception as error:  # each version of PyAV, and each lack of a driver, has one of its own
        return figures | {"nvdec": f"the processor decodes here: {type(error).__name__}: {error}", "av": av.__version__}
    return figures | {
        "nvdec": "h264" if by_gpu["by_device"] else "the processor decoded all the same",
        "nvdec_fps": by_gpu["fps"],
        "nvdec_over_cpu": round(by_gpu["fps"] / by_cpu["fps"], 2),
        "same_frames": by_gpu["luma"] == by_cpu["luma"],  # H.264 leaves decoders no choice
        "nvdec_frames": by_gpu["frames"],
    }


def _encode(video: Path) -> None:
    """Shapes that move over a grain that stays: some 10 Mbit/s."""
    import av

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


def _decoded(video: Path, accelerator: Any) -> dict[str, Any]:
    """All frames, in the host's memory; the luma of every fiftieth is kept, for comparison."""
    import av

    frames, luma, spent = 0, [], 0.0
    begin = time.perf_counter()
    with av.open(str(video), **({} if accelerator is None else {"hwaccel": accelerator})) as container:
        stream = container.streams.video[0]
        if accelerator is None:
            stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            frames += 1
            if frames % 50 == 1:
                pause = time.perf_counter()
                plane = frame.planes[0]
                rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: frame.height, : frame.width]
                luma.append(hashlib.sha256(rows.tobytes()).hexdigest())
                spent += time.perf_counter() - pause
        codec = stream.codec_context
        threads, by_device = codec.thread_count, bool(getattr(codec, "is_hwaccel", False))
    took = time.perf_counter() - begin - spent
    return {"frames": frames, "fps": round(frames / took, 1), "luma": luma, "threads": threads, "by_device": by_device}
