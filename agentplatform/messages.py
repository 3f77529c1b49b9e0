"""What passes between an agent and its host: plain values, on both sides of the worker's wire. Pure."""

import msgspec


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """What an agent learns when it starts to run somewhere."""

    host: str
    epoch: int
    source: str | None  # the host that it left; None at creation


class Delivery(msgspec.Struct, frozen=True, array_like=True):
    """A message for an agent. `ticket` is the daemon's number for it; the answer comes back under it."""

    ticket: int
    sender: str  # an agent's id, or "client-..."
    kind: str
    body: bytes  # MessagePack of plain data


class Outgoing(msgspec.Struct, frozen=True, array_like=True):
    """A message that an agent sends. `call` is the agent's own number when it waits for the answer, else None."""

    receiver: str  # an agent's id or name
    kind: str
    body: bytes
    call: int | None


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """What came of a message: `ok` and a body of plain data, or not `ok` and an encoded error text as body."""

    ok: bool
    body: bytes
