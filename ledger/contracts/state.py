"""What a contract sees of the state: keys and values, changed on an overlay that is kept or thrown away. Pure."""

from typing import Any, Protocol, TypeVar

from ledger import codec

T = TypeVar("T")


class View(Protocol):
    """A state that can be read."""

    def get(self, key: bytes) -> bytes | None: ...


class Overlay:
    """Changes on top of a view. Nothing below it changes: `changes` is what to keep."""

    def __init__(self, below: View) -> None:
        self._below = below
        self.changes: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        return self.changes[key] if key in self.changes else self._below.get(key)

    def put(self, key: bytes, value: bytes | None) -> None:
        """Sets `key`; None removes it."""
        self.changes[key] = value


def load(state: View, key: bytes, kind: type[T]) -> T | None:
    """The value of `key` as a `kind`, or None when there is none."""
    raw = state.get(key)
    return None if raw is None else codec.decode(raw, kind, "the state")


def need(state: View, key: bytes, kind: type[T]) -> T:
    """Like `load`, for a key that every state of a chain has."""
    value = load(state, key, kind)
    if value is None:
        raise AssertionError(f"the state has no {key!r}: it is no chain's state")
    return value


def save(state: Overlay, key: bytes, value: Any) -> None:
    state.put(key, codec.encode(value))
