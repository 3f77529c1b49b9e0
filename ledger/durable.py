"""What is on the disk for good."""

import os
from pathlib import Path


def sync(path: Path) -> None:
    """The bytes of a file, or which files a folder has under which names, outlive a loss of power from here on."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
