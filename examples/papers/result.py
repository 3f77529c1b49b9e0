"""What measuring a figure brings: a table, how it is drawn, and what to say about it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from ledger.errors import PlatformError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Say = Callable[[str], None]  # what is being done now, for who waits
Row = tuple[Any, ...]  # text and numbers, one for each column


class Scale(Enum):
    TINY = "tiny"  # seconds: shows that it works, for tests
    SMALL = "small"  # some minutes for all figures
    FULL = "full"  # all that the paper has


class NotHere(PlatformError):
    """This machine cannot measure it. Says what is missing."""


@dataclass(frozen=True)
class Column:
    name: str
    unit: str = ""  # empty: a count, or words

    def __str__(self) -> str:
        return f"{self.name} ({self.unit})" if self.unit else self.name


@dataclass(frozen=True)
class Result:
    title: str  # of the picture: what is seen
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    paper: str  # one sentence: what the paper shows
    measured: str  # one sentence, computed from the rows
    differs: str  # where the two differ, and why
    draw: "Callable[[Figure, Sequence[Row]], None]"  # the rows, into an empty picture; title and footer are added
    emulated: tuple[str, ...] = ()  # what was not real; also written below the picture
