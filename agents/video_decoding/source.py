"""The port to where a video comes from, and the table of the kinds there are."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from agents.video_decoding.file import FileSource
from agents.video_decoding.http import HttpSource
from agents.video_decoding.media import Medium
from agents.video_decoding.pipe import PipeSource
from agents.video_decoding.rtsp import RtspSource
from ledger.errors import Misuse


@dataclass(frozen=True)
class Here:
    """What a source needs of the host where it is opened."""

    find: Callable[[str], Path]  # a file that agents may read, by its name
    accelerator: Any  # PyAV's HWAccel, or None
    reading: Callable[[Any], None]  # is told what may wait for long, and has `give_up`, before it does


class Source(Protocol):
    """Where a video comes from. A plain value, which travels; what it opens does not."""

    name: str
    identity: str
    """Of what was opened first, so that another host does not go on in another video; "" until then."""

    def open(self, here: Here) -> Medium:
        """Raises Misuse when it is not there, no video, or another one than before; Unavailable when nothing comes."""


KINDS: dict[str, Callable[[str], Source]] = {
    "http://": HttpSource,
    "https://": HttpSource,
    "rtsp://": RtspSource,
    "pipe:": PipeSource,
}
"""How the names of sources begin; all others are files."""


def source_of(name: str) -> Source:
    """The source that has that name. Raises Misuse."""
    if not name:
        raise Misuse("a source has a name: give a file's, an address, or 'pipe:'")
    for beginning, kind in KINDS.items():
        if name.startswith(beginning):
            if not (name.isascii() and name.isprintable()) or " " in name:
                raise Misuse(f"{name!r:.200} has characters that no address has: write each as %20 and the like")
            try:
                return kind(name)
            except ValueError as error:
                raise Misuse(f"{name:.200} is no address ({error}): write {beginning}..") from None
    if "://" in name:
        raise Misuse(f"{name:.200} is of no known kind: name a file, or begin with one of {', '.join(KINDS)}")
    return FileSource(name)
