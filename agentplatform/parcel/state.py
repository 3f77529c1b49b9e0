"""An agent's state as bytes: pickle protocol 5 with out-of-band buffers (PEP 574).

Only workers and the inline runner import this: opening a state runs code of its choice. The frame is

    count: 4 bytes | length of each part: 8 bytes each | the pickle | buffer 1 | buffer 2 | ...

so a large array is copied once on its way into the frame and once out of it.
"""

import io
import pickle
import struct
from typing import Any

import cloudpickle

from agentplatform.agent import Agent
from ledger.errors import Misuse

PROTOCOL = 5
IN_BAND_BYTES = 4096  # smaller buffers are cheaper inside the pickle
MAX_PARTS = 1 << 16


def capture(agent: Agent) -> bytes:
    """The agent with its attributes. Raises Misuse, naming the attribute, for what cannot be pickled."""
    return b"".join(parts(agent))


def parts(agent: Agent) -> list[bytes | memoryview]:
    """The same, before it is joined: the head of the frame, the pickle, and the buffers, which are the agent's own."""
    buffers: list[memoryview] = []

    def keep(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes < IN_BAND_BYTES:
            return True
        buffers.append(raw)
        return False

    try:
        body = _pickle(agent, agent, keep)
    except Exception as error:
        raise Misuse(_blame(agent, error)) from error
    if len(buffers) >= MAX_PARTS:
        raise Misuse(f"{type(agent).__name__} has more than {MAX_PARTS - 1} large buffers: join some of its arrays")
    sizes = [len(body), *(buffer.nbytes for buffer in buffers)]
    return [struct.pack(f"!I{len(sizes)}Q", len(sizes), *sizes), body, *buffers]


def restore(raw: bytes | memoryview, cls: type[Agent]) -> Agent:
    """The agent of class `cls` that was captured; no hook has run. Raises Misuse with what is missing or broken."""
    body, *buffers = _parts(memoryview(raw))
    try:
        # Copies: an array over the frame itself would be read-only.
        agent = pickle.loads(body, buffers=[bytearray(buffer) for buffer in buffers])  # noqa: S301 - in a worker
    except Exception as error:
        raise Misuse(f"the state cannot be opened here: {type(error).__name__}: {error}") from error
    # By name: a class that travels by value is another object after each journey.
    found = type(agent)
    if not isinstance(agent, Agent) or (found.__module__, found.__qualname__) != (cls.__module__, cls.__qualname__):
        raise Misuse(f"the state holds a {found.__qualname__}, not the {cls.__qualname__} of the birth certificate")
    return agent


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


def _parts(frame: memoryview) -> list[memoryview]:
    try:
        (count,) = struct.unpack_from("!I", frame)
        if not 1 <= count <= MAX_PARTS:
            raise Misuse(f"the state is broken: it claims {count} parts")
        lengths = struct.unpack_from(f"!{count}Q", frame, 4)
    except struct.error:
        raise Misuse("the state is broken: it is too short") from None
    at = 4 + 8 * count
    if at + sum(lengths) != len(frame):
        raise Misuse(f"the state is broken: {len(frame)} bytes came, {at + sum(lengths)} are claimed")
    parts = []
    for length in lengths:
        parts.append(frame[at : at + length])
        at += length
    return parts
