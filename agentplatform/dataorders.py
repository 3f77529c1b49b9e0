"""What an agent's owner may do with what it keeps (`self.data`), without asking the agent. Pure."""

from typing import Any, Literal

import msgspec

from agentplatform.data import MAX_KEY_CHARACTERS, Data
from ledger.errors import Misuse

Act = Literal["list", "get", "snapshots", "snapshot", "restore", "forget"]
CHANGES = frozenset({"snapshot", "restore", "forget"})
MAX_ANSWER_BYTES = 1 << 20  # of any act: what is larger is asked of the agent


class DataOrder(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    act: Act
    text: str = ""  # how the keys to list begin; the key to get; the snapshot's note
    number: int = 0  # of the snapshot to restore, or to forget

    def __post_init__(self) -> None:
        if len(self.text) > MAX_KEY_CHARACTERS or (self.text and self.act not in ("list", "get", "snapshot")):
            raise ValueError(f"{self.act} of an agent's data takes a text of {MAX_KEY_CHARACTERS} characters, or none")
        if (self.act in ("restore", "forget")) != (self.number > 0):
            raise ValueError(f"{self.act} of an agent's data takes the number of a snapshot, or none")


def perform(data: Data, order: DataOrder) -> Any:
    """Returns plain data. Raises Misuse with the reason when it cannot be done."""
    match order.act:
        case "list":
            return [{"key": key, "bytes": data.size(key)} for key in data.list(order.text)]
        case "get":
            if order.text not in data:
                raise Misuse(f"it keeps nothing under {order.text!r:.80}; look at the keys: agentplatform data AGENT")
            return data.get(order.text)
        case "snapshots":
            return [msgspec.structs.asdict(each) for each in data.snapshots()]
        case "snapshot":
            return data.snapshot(order.text)
        case "restore":
            data.restore(order.number)
        case "forget":
            data.forget(order.number)
    return None
