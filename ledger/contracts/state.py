"""What a contract sees of the state: keys and values, changed on an overlay that is kept or thrown away. Pure."""

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar

from ledger import codec

T = TypeVar("T")
MAX_RECENT = 16_384  # keys: some 4 MB; what the transactions of five full blocks read


class View(Protocol):
    """A state that can be read."""

    def get(self, key: bytes) -> bytes | None: ...


class Recent:
    """A view that remembers what was read of it lately: to look into a packed state takes microseconds each time."""

    def __init__(self, below: View) -> None:
        self._below = below
        self._known: dict[bytes, bytes | None] = {}

    def get(self, key: bytes) -> bytes | None:
        if key in self._known:
            return self._known[key]
        if len(self._known) >= MAX_RECENT:
            self._known.clear()
        value = self._known[key] = self._below.get(key)
        return value

    def changed(self, changes: Mapping[bytes, bytes | None]) -> None:
        """The view below has these values now (None: removed)."""
        self._known.update((key, value) for key, value in changes.items() if key in self._known)


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
