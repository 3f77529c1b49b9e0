"""Files with the weights of a model: looked for on the host where the agent is, and known by their SHA-256.

They do not travel. They are large, the same for everybody, and it is the operator of a host who says which files agents
may read there. What travels is the name and the digest, so that a model is never another one after a move.
"""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ledger.errors import Misuse

MAX_WEIGHTS_BYTES = 1 << 30
# How an ONNX file begins to tell where else its numbers are: a key of 8 bytes in a field of number 1.
_ELSEWHERE = b"\x0a\x08location"


class Weights(NamedTuple):
    name: str  # as the user gave it
    raw: bytes
    digest: str  # SHA-256, in hexadecimal


Refused = dict[str, tuple[tuple[Any, ...], str]]
"""By name: what tells a file on this host from what may stand in its place later, and why it is not taken."""
Read = Callable[[str], Weights]  # raises Misuse with what is missing, and where it was looked for


def read(name: str, path: Path, known: str | None, refused: Refused) -> Weights:
    """Raises Misuse for what cannot be read, is too large, or is not the file of the digest `known`. A file that is
    among those `refused`, or comes to them, is not read again before it changes."""
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            size, mark = status.st_size, (path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
            if name in refused and refused[name][0] == mark:
                raise Misuse(refused[name][1])
            if not 0 < size <= MAX_WEIGHTS_BYTES:
                raise Misuse(f"the weights {path} have {size} bytes; 1 to {MAX_WEIGHTS_BYTES} are read")
            raw = file.read(MAX_WEIGHTS_BYTES)
    except OSError as error:
        raise Misuse(f"the weights {path} cannot be read: {error.strerror or error}") from None
    digest = hashlib.sha256(raw).hexdigest()
    if _ELSEWHERE in raw:
        why = f"{path} has its numbers in further files, which are not opened: save the model as one file"
    elif known not in (None, digest):
        why = (
            f"{path} is another file than the {name!r} that the agent began with: its SHA-256 is {digest[:16]}.., "
            f"and {str(known)[:16]}.. is wanted; put the same file there"
        )
    else:
        return Weights(name, raw, digest)
    refused[name] = mark, why
    raise Misuse(why)
