"""Removing scratch folders: what lies in one was chosen by an agent."""

import contextlib
import shutil
import subprocess
from pathlib import Path


def remove(folder: Path) -> None:
    """However deep it is: shutil's way is quick, but recursive, with a file open at each depth."""
    with contextlib.suppress(RecursionError):
        shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        subprocess.run(["rm", "-rf", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
