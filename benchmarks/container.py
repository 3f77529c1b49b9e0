"""What a container would carry to where it goes on: the layers of its image. Their sizes are inputs."""

import importlib.metadata
import sysconfig
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MB = 10**6
DEBIAN_SLIM = 75 * MB  # bytes, unpacked, of debian:bookworm-slim
PACKAGES = ("numpy", "opencv-contrib-python-headless", "av", "msgspec", "cloudpickle")  # that the face service imports
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "__pycache__"}  # of the library, as slim images do


@dataclass(frozen=True)
class Image:
    """Sizes are in bytes, unpacked, as `docker images` tells them; registries send layers compressed, to about half."""

    name: str
    size: int  # of all layers that the destination lacks
    source: str


def published() -> tuple[Image, ...]:
    """Falcon's paper tells no size."""
    return (
        Image("264 MB image", 264 * MB, "WordPress, BloSM's table of related work"),
        Image("2.17 GB image", 2170 * MB, "OpenFace, Ma et al. 2017 as BloSM cites it; BloSM's own: 2.13 and 4.4 GB"),
    )


def slim() -> Image:
    """The smallest that runs the face service: Debian, this interpreter's library, and the packages, as installed
    here. Raises importlib.metadata.PackageNotFoundError."""
    library = Path(sysconfig.get_path("stdlib"))
    python = (file for file in library.rglob("*") if LEFT_OUT.isdisjoint(file.parts))
    size = DEBIAN_SLIM + bytes_of(python) + sum(map(_installed, PACKAGES))
    return Image(f"slim image ({round(size / MB)} MB)", size, "Debian slim, Python, and the packages as installed here")


def top_layer(package: Path) -> Image:
    """All but the service's own sources is at the destination already."""
    return Image("top layer alone", bytes_of(package.rglob("*.py")), "the service's sources")


def bytes_of(files: Iterable[Path]) -> int:
    return sum(file.stat().st_size for file in files if file.is_file() and not file.is_symlink())


def _installed(package: str) -> int:
    listed = importlib.metadata.files(package) or ()
    return bytes_of(Path(str(file.locate())) for file in listed)
