"""The life of an agent in one worker, as a transition table. Pure."""

from enum import StrEnum

from ledger.errors import Misuse


class State(StrEnum):
    INERT = "inert"  # opened, or not yet created: nothing of it has run
    CREATING = "creating"
    RUNNING = "running"
    FREEZING = "freezing"  # at a message boundary, `on_dispatching` runs
    FROZEN = "frozen"  # captured; its owner in the daemon decides what follows
    DISPOSING = "disposing"
    ENDED = "ended"


class Event(StrEnum):
    CREATE = "create"
    CREATED = "created"
    ACTIVATE = "activate"
    FREEZE = "freeze"
    CAPTURED = "captured"
    FAILED = "failed"
    THAW = "thaw"
    DISPOSE = "dispose"
    DISPOSED = "disposed"
    DISCARD = "discard"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.INERT, Event.CREATE): State.CREATING,
    (State.INERT, Event.ACTIVATE): State.RUNNING,
    (State.INERT, Event.THAW): State.RUNNING,  # restored after a restart: its departure was aborted
    (State.INERT, Event.DISCARD): State.ENDED,
    (State.CREATING, Event.CREATED): State.RUNNING,
    (State.CREATING, Event.FAILED): State.ENDED,
    (State.CREATING, Event.DISCARD): State.ENDED,
    (State.RUNNING, Event.FREEZE): State.FREEZING,
    (State.RUNNING, Event.DISPOSE): State.DISPOSING,
    (State.FREEZING, Event.CAPTURED): State.FROZEN,
    (State.FREEZING, Event.FAILED): State.RUNNING,
    (State.FROZEN, Event.THAW): State.RUNNING,
    (State.FROZEN, Event.DISCARD): State.ENDED,
    (State.DISPOSING, Event.DISPOSED): State.ENDED,
}


def step(state: State, event: Event, agent: str) -> State:
    """The state after `event`. Raises Misuse, naming `agent`, when the event is not possible now."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        possible = ", ".join(sorted(e for s, e in TRANSITIONS if s is state)) or "nothing"
        raise Misuse(f"{agent} is {state}; that allows {possible}, not {event}")
    return after
