"""How the state of an agent leaves the process that it runs in."""

from collections.abc import Sequence
from typing import Protocol

from agentplatform.parcel import state as states
from agentplatform.parcel.freight import Stowed
from agentplatform.runners.place import MAX_STATE_BYTES
from ledger.errors import Misuse


class Stowage(Protocol):
    async def pack(self, agent: str, parts: Sequence[states.Part]) -> Stowed:
        """Makes a captured state ready to travel. Raises Misuse or Unavailable when it cannot."""

    async def borrow(self, agent: str, size: int) -> int:
        """A file with room for a state of `size` bytes; whoever asks closes it. Raises Misuse or Unavailable."""


class Inline:
    """Of a process that has no spool."""

    async def pack(self, agent: str, parts: Sequence[states.Part]) -> bytes:
        if states.size(parts) > MAX_STATE_BYTES:
            raise _too_large(states.size(parts))
        return states.join(parts)

    async def borrow(self, agent: str, size: int) -> int:
        raise _too_large(size)


def _too_large(size: int) -> Misuse:
    return Misuse(f"its state has {size} bytes; at most {MAX_STATE_BYTES} leave a process without a spool")


INLINE = Inline()
