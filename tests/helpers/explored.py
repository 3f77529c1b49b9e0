"""What is asked of all states that an explorer came to, whatever they are of."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

State = TypeVar("State", bound=Hashable)


def never_well_again(
    came: Iterable[State], before: Mapping[State, Iterable[State]], is_well: Callable[[State], bool]
) -> State | None:
    """The nearest state, so the first in `came`, from which no way leads to one that is well. `before`: from where each
    is reached without a crash."""
    well = [state for state in came if is_well(state)]
    reached = set(well)
    while well:
        for state in before.get(well.pop(), ()):
            if state not in reached:
                reached.add(state)
                well.append(state)
    return next((state for state in came if state not in reached), None)
