import pytest

from agentplatform.lifecycle import TRANSITIONS, Event, State, step
from ledger.errors import Misuse


def walk(*events: Event) -> State:
    state = State.INERT
    for event in events:
        state = step(state, event, "ada")
    return state


def test_a_life_with_a_hop_ends_frozen_and_discarded() -> None:
    assert walk(Event.CREATE, Event.CREATED, Event.FREEZE, Event.CAPTURED, Event.DISCARD) is State.ENDED


def test_a_failed_move_goes_on() -> None:
    assert walk(Event.ACTIVATE, Event.FREEZE, Event.FAILED) is State.RUNNING
    assert walk(Event.ACTIVATE, Event.FREEZE, Event.CAPTURED, Event.THAW, Event.DISPOSE) is State.DISPOSING


def test_what_is_not_possible_names_the_agent_its_state_and_what_is() -> None:
    with pytest.raises(Misuse, match="ada is frozen; that allows discard, thaw, not freeze"):
        step(State.FROZEN, Event.FREEZE, "ada")


def test_an_ended_agent_stays_ended() -> None:
    for event in Event:
        with pytest.raises(Misuse):
            step(State.ENDED, event, "ada")


def test_a_frozen_or_inert_agent_runs_only_when_told_to() -> None:
    """Two running copies would need another way out of these states."""
    ways = {event for (state, event), after in TRANSITIONS.items() if state in (State.INERT, State.FROZEN)}
    assert ways == {Event.CREATE, Event.ACTIVATE, Event.THAW, Event.DISCARD}


def test_every_state_can_be_reached_and_left_but_for_the_last() -> None:
    reached = {State.INERT, *TRANSITIONS.values()}
    left = {state for state, _ in TRANSITIONS}
    assert reached == set(State)
    assert left == set(State) - {State.ENDED}
