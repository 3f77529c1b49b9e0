"""A file of the host: by an absolute path, or a name in its shared folders (`Agent.shared_file`)."""

import hashlib
import os
import stat
from io import BufferedReader
from typing import Any

from agents.video_decoding.media import Container, Medium, Reach
from ledger.errors import Misuse

PROOF_BYTES = 1 << 20
"""Of a file's beginning, and of its end, that say with its size which one it is."""


class FileSource:
    def __init__(self, name: str) -> None:
        self.name, self.identity = name, ""

    def open(self, here: Any) -> Medium:
        path = here.find(self.name)
        try:
            # A named pipe would keep the thread waiting until somebody writes to it.
            file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
        except OSError as error:
            raise Misuse(f"{path} cannot be read ({error.strerror}): name a file that this host shares") from None
        try:
            identity = identity_of(file, self.name)
            if self.identity not in ("", identity):
                raise Misuse(
                    f"{path} is another file than the one that was begun elsewhere (size and content, in short: "
                    f"{identity:.20}, not {self.identity:.20}): put that one here, or say 'open' to begin anew"
                )
            return Container(file, self.name, reach=Reach.ALL, identity=identity, accelerator=here.accelerator)
        except BaseException:
            file.close()
            raise


def identity_of(file: BufferedReader, name: str) -> str:
    """Size and digest of both ends. Raises Misuse for what is no plain file, or empty."""
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise Misuse(f"{name} is no file, but a folder, a pipe or a device: push packets ('pipe:') for what flows")
    if status.st_size == 0:
        raise Misuse(f"{name} is empty: name another file")
    proof = hashlib.sha256(file.read(PROOF_BYTES))
    file.seek(max(0, status.st_size - PROOF_BYTES))
    proof.update(file.read(PROOF_BYTES))
    file.seek(0)
    return f"{status.st_size}:{proof.hexdigest()[:32]}"
