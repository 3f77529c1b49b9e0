"""Sets that ties make of things: union-find. Pure."""

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

Thing = TypeVar("Thing", bound=Hashable)


def joined(things: Iterable[Thing], ties: Iterable[Sequence[Thing]]) -> dict[Thing, Thing]:
    """Each thing -> the one that stands for all that it is tied to, directly or through others."""
    over = {thing: thing for thing in things}

    def leader(thing: Thing) -> Thing:
        while over[thing] != thing:
            over[thing] = thing = over[over[thing]]
        return thing

    for tied in ties:
        for other in tied:
            over[leader(other)] = leader(tied[0])
    return {thing: leader(thing) for thing in over}
