"""What an agent keeps, as its owner sees it from outside: `host.agent(NAME).data`."""

from collections.abc import Callable
from typing import Any

import msgspec

from agentplatform.data import Snapshot
from agentplatform.dataorders import Act, DataOrder
from ledger.errors import Misuse


class OwnedData:
    """The agent itself is not asked: all is done at a message boundary. One that is deactivated is woken for it.

    Every call raises Misuse with the reason when it cannot be, Unavailable when the agent does not come to it."""

    def __init__(self, order: Callable[[DataOrder], Any]) -> None:
        self._order = order

    def list(self, prefix: str = "") -> dict[str, int]:
        """The keys that begin so, and how many bytes each value has."""
        return {row["key"]: row["bytes"] for row in self._do("list", prefix)}

    def get(self, key: str) -> Any:
        """Raises Misuse when there is no such key."""
        return self._do("get", key)

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The oldest first."""
        return tuple(Snapshot(**row) for row in self._do("snapshots"))

    def snapshot(self, note: str = "") -> int:
        """The number of a new one, which is durable."""
        return int(self._do("snapshot", note))

    def restore(self, number: int) -> None:
        """All values are as they were at that snapshot, durably, when this returns."""
        self._do("restore", number=number)

    def forget(self, number: int) -> None:
        self._do("forget", number=number)

    def _do(self, act: Act, text: str = "", number: int = 0) -> Any:
        try:
            return self._order(msgspec.convert((act, text, number), DataOrder))
        except msgspec.ValidationError as error:
            raise Misuse(str(error)) from None
