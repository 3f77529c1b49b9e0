"""An agent's state as bytes: pickle protocol 5 with out-of-band buffers (PEP 574).

Only workers and the inline runner import this: opening a state runs code of its choice. The frame is

    count: 4 bytes | offset and length of each part: 8 bytes each | the pickle | buffer 1 | buffer 2 | ...

so a large array is copied once on its way into the frame and once out of it. The frame of a large state is a file: it
is written from where the arrays lie, and opened by mapping it, where nothing is copied at all.
"""

import copyreg
import io
import mmap
import os
import pickle
import struct
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import cloudpickle

from agentplatform.agenda import Agenda
from agentplatform.agent import Agent
from agentplatform.data import Data, Large, Page
from agentplatform.parcel.freight import PIECE_BYTES, Freight, piece_digest
from agentplatform.parcel.spool import start_writing_back
from ledger.errors import Misuse
from services.dms.sealing import crypt

Part = bytes | memoryview
PROTOCOL = 5
IN_BAND_BYTES = 4096  # smaller buffers are cheaper inside the pickle
MAX_PARTS = 1 << 16
ALIGNED = 64  # in a file each buffer begins at a multiple of this: an array is used where it is mapped
WRITE_BACK_BYTES = 8 << 20  # written before the disk is told to begin


# Out of band, each a piece of the state by itself; not in their own module, for the daemon imports that.
copyreg.pickle(Large, lambda value: (Large, (pickle.PickleBuffer(value.raw),)))
copyreg.pickle(Page, lambda page: (Page.of, (pickle.PickleBuffer(page.raw), page.large)))


def capture(agent: Agent) -> bytes:
    """The agent with its attributes. Raises Misuse, naming the attribute, for what cannot be pickled."""
    return join(parts(agent))


def parts(agent: Agent) -> list[Part]:
    """The same, before it is joined: the head of the frame, the pickle, and the buffers, which are the agent's own."""
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < IN_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    try:
        own = (_unless_untouched(getattr(agent, name, None)) for name in ("_mae_agenda", "_mae_data"))
        body = _pickle(agent, (agent, *own), keep)
    except Exception as error:
        raise Misuse(_blame(agent, error)) from error
    if len(buffers) >= MAX_PARTS:
        raise Misuse(f"{type(agent).__name__} has more than {MAX_PARTS - 1} large buffers: join some of its arrays")
    return _framed([body, *buffers], 1)


def size(parts: Sequence[Part]) -> int:
    return sum(memoryview(part).nbytes for part in parts)


def join(parts: Sequence[Part]) -> bytes:
    return b"".join(parts)


def for_file(parts: Sequence[Part]) -> list[Part]:
    """The parts of a frame in which each buffer begins where an array may begin."""
    _, *rest = parts
    return _framed(rest, ALIGNED)


def write(parts: Sequence[Part], file: int, key: bytes = b"") -> Freight:
    """Writes a frame, piece by piece, sealed with that key if there is one, and returns the table of its pieces. Raises
    OSError."""
    digests = []
    at = begun = 0
    for piece in _pieces(parts):
        digests.append(piece_digest(piece))
        if os.pwrite(file, crypt(key, at, piece), at) != len(piece):
            raise OSError(0, "a piece was written in part")
        at += len(piece)
        if at - begun >= WRITE_BACK_BYTES:
            start_writing_back(file, begun, at - begun)
            begun = at
    return Freight(at, b"".join(digests))


def table(parts: Sequence[Part]) -> Freight:
    """What `write` would return."""
    return Freight(size(parts), b"".join(map(piece_digest, _pieces(parts))))


def keep(parts: Sequence[Part], file: int) -> Freight:
    """Writes a frame to a file that may have more room, and makes it durable. Raises OSError."""
    freight = write(parts, file)
    os.ftruncate(file, freight.size)
    os.fsync(file)
    return freight


def _pieces(parts: Sequence[Part]) -> Iterator[bytearray]:
    """Copies: what is hashed is what is written, whatever another thread does to the array meanwhile."""
    piece = bytearray()
    for part in parts:
        view = memoryview(part).cast("B")
        while len(view):
            room = PIECE_BYTES - len(piece)
            piece += view[:room]
            view = view[room:]
            if len(piece) == PIECE_BYTES:
                yield piece
                piece = bytearray()
    if piece:
        yield piece


def opened(file: int, length: int, key: bytes) -> memoryview:
    """The frame that a sealed file holds, in memory. Raises Misuse."""
    frame = memoryview(mmap.mmap(-1, length))
    for at in range(0, length, PIECE_BYTES):
        sealed = os.pread(file, min(PIECE_BYTES, length - at), at)
        if len(sealed) != min(PIECE_BYTES, length - at):
            raise Misuse("the state cannot be read: its file is too short")
        frame[at : at + len(sealed)] = crypt(key, at, sealed)
    return frame


def mapped(file: int, length: int) -> memoryview:
    """The frame that a file holds, as memory of this process: what it changes there stays its own."""
    try:
        return memoryview(mmap.mmap(file, length, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE))
    except (OSError, ValueError) as error:
        raise Misuse(f"the state cannot be mapped: {error}") from None


def restore(raw: bytes | memoryview, cls: type[Agent]) -> Agent:
    """The agent of class `cls` that was captured; no hook has run. Raises Misuse with what is missing or broken.

    An agent's arrays lie where a mapped frame is. Of one that cannot be written to, they are copies.
    """
    body, *buffers = _parts(memoryview(raw))
    try:
        own = [bytearray(buffer) if buffer.readonly else buffer for buffer in buffers]
        agent, agenda, data = pickle.loads(body, buffers=own)  # noqa: S301 - in a worker
    except Exception as error:
        raise Misuse(f"the state cannot be opened here: {type(error).__name__}: {error}") from error
    # By name: a class that travels by value is another object after each journey.
    found = type(agent)
    if (
        not isinstance(agent, Agent)
        or not isinstance(agenda, Agenda | None)
        or not isinstance(data, Data | None)
        or (found.__module__, found.__qualname__) != (cls.__module__, cls.__qualname__)
    ):
        raise Misuse(f"the state holds a {found.__qualname__}, not the {cls.__qualname__} of the birth certificate")
    agent._mae_agenda = agenda or Agenda()
    agent._mae_data = Data() if data is None else data
    return agent


def _unless_untouched(part: Agenda | Data | None) -> Agenda | Data | None:
    """What is as a new one has does not travel."""
    return None if part is None or part.untouched else part


def _pickle(agent: Agent, value: Any, keep: Any) -> bytes:
    # A class typed at a prompt is in no module on the other side: its state carries it (parcel.code).
    by_value = type(agent).__module__ == "__main__"
    out = io.BytesIO()
    pickler = (cloudpickle.Pickler if by_value else pickle.Pickler)(out, PROTOCOL, buffer_callback=keep)
    pickler.dump(value)
    return out.getvalue()


def _blame(agent: Agent, error: Exception) -> str:
    """Which attribute it was, found by trying each on its own."""
    kind = type(agent).__name__
    try:
        state = agent.__getstate__()
    except Exception as failed:
        return f"{kind}.__getstate__: {type(failed).__name__}: {failed}"
    for name, value in state.items() if isinstance(state, dict) else ():
        try:
            _pickle(agent, value, lambda buffer: True)
        except Exception as failed:
            return f"{kind}.{name}: {failed}"
    return f"{kind}: {error}"


def _framed(parts: Sequence[Part], aligned: int) -> list[Part]:
    """With the head before them, and zeros between them: each but the first begins at a multiple of `aligned`."""
    at = 4 + 16 * len(parts)
    places: list[int] = []
    framed: list[Part] = []
    for number, part in enumerate(parts):
        gap = -at % aligned if number else 0
        length = memoryview(part).nbytes
        places += (at + gap, length)
        framed += (bytes(gap), part) if gap else (part,)
        at += gap + length
    return [struct.pack(f"!I{len(places)}Q", len(parts), *places), *framed]


def _parts(frame: memoryview) -> list[memoryview]:
    try:
        (count,) = struct.unpack_from("!I", frame)
        if not 1 <= count <= MAX_PARTS:
            raise Misuse(f"the state is broken: it claims {count} parts")
        places = struct.unpack_from(f"!{2 * count}Q", frame, 4)
    except struct.error:
        raise Misuse("the state is broken: it is too short") from None
    spans = [(at, at + length) for at, length in zip(places[::2], places[1::2], strict=True)]
    edges = [4 + 16 * count, *(edge for span in spans for edge in span), len(frame)]
    if spans[-1][1] != len(frame) or any(before > after for before, after in pairwise(edges)):
        raise Misuse(f"the state is broken: {len(frame)} bytes came, {spans[-1][1]} are claimed")
    return [frame[begin:end] for begin, end in spans]
