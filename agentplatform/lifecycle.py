"""The life of an agent in one worker, as a transition table, and which hook of the agent each step calls. Pure.

A deactivated agent has no worker and is in no state of this table: its host keeps it on the disk, and opens it anew.
"""

from enum import StrEnum

from ledger.errors import Misuse


class State(StrEnum):
    INERT = "inert"  # opened, or not yet created: nothing of it has run
    CREATING = "creating"
    RUNNING = "running"
    FREEZING = "freezing"  # at a message boundary, the hook before a move or a deactivation runs
    FROZEN = "frozen"  # captured; its owner in the daemon decides what follows
    CLONING = "cloning"  # at a message boundary, `on_cloning` runs
    DISPOSING = "disposing"
    ENDED = "ended"


class Event(StrEnum):
    CREATE = "create"
    CREATED = "created"
    ARRIVE = "arrive"  # it came by a move, or its host or its worker was started again
    CLONED = "cloned"  # it came into being as the clone of another
    ACTIVATE = "activate"  # it was deactivated
    DISPATCH = "dispatch"  # it goes to another host
    RETRACT = "retract"  # it is called back to another host
    DEACTIVATE = "deactivate"
    CLONE = "clone"
    CAPTURED = "captured"
    FAILED = "failed"
    THAW = "thaw"
    DISPOSE = "dispose"
    DISPOSED = "disposed"
    DISCARD = "discard"


TRANSITIONS: dict[tuple[State, Event], State] = {
    (State.INERT, Event.CREATE): State.CREATING,
    (State.INERT, Event.ARRIVE): State.RUNNING,
    (State.INERT, Event.CLONED): State.RUNNING,
    (State.INERT, Event.ACTIVATE): State.RUNNING,
    (State.INERT, Event.THAW): State.RUNNING,  # restored after a restart: its departure was aborted
    (State.INERT, Event.DISCARD): State.ENDED,
    (State.CREATING, Event.CREATED): State.RUNNING,
    (State.CREATING, Event.FAILED): State.ENDED,
    (State.CREATING, Event.DISCARD): State.ENDED,
    (State.RUNNING, Event.DISPATCH): State.FREEZING,
    (State.RUNNING, Event.RETRACT): State.FREEZING,
    (State.RUNNING, Event.DEACTIVATE): State.FREEZING,
    (State.RUNNING, Event.CLONE): State.CLONING,
    (State.RUNNING, Event.DISPOSE): State.DISPOSING,
    (State.FREEZING, Event.CAPTURED): State.FROZEN,
    (State.FREEZING, Event.FAILED): State.RUNNING,
    (State.FROZEN, Event.THAW): State.RUNNING,
    (State.FROZEN, Event.DISCARD): State.ENDED,
    (State.RUNNING, Event.DISCARD): State.ENDED,  # the ledger gave it to another host
    (State.FREEZING, Event.DISCARD): State.ENDED,
    (State.CLONING, Event.DISCARD): State.ENDED,
    (State.DISPOSING, Event.DISCARD): State.ENDED,
    (State.CLONING, Event.CAPTURED): State.RUNNING,  # the original goes on; what was captured is the clone's
    (State.CLONING, Event.FAILED): State.RUNNING,
    (State.DISPOSING, Event.DISPOSED): State.ENDED,
}

# The hook of the agent that is called when a step begins. A step without one is the platform's alone.
HOOKS: dict[Event, str] = {
    Event.CREATE: "on_creation",
    Event.ARRIVE: "on_arrival",
    Event.CLONED: "on_clone",
    Event.ACTIVATE: "on_activation",
    Event.DISPATCH: "on_dispatching",
    Event.RETRACT: "on_reverting",
    Event.DEACTIVATE: "on_deactivating",
    Event.CLONE: "on_cloning",
    Event.DISPOSE: "on_disposing",
}

BEGINNINGS = frozenset({Event.ARRIVE, Event.CLONED, Event.ACTIVATE})
"""How an opened agent may begin to live."""


def step(state: State, event: Event, agent: str) -> State:
    """The state after `event`. Raises Misuse, naming `agent`, when the event is not possible now."""
    after = TRANSITIONS.get((state, event))
    if after is None:
        possible = ", ".join(sorted(e for s, e in TRANSITIONS if s is state)) or "nothing"
        raise Misuse(f"{agent} is {state}; that allows {possible}, not {event}")
    return after
