import pytest

from agentplatform.agent import Agent
from agentplatform.lifecycle import BEGINNINGS, HOOKS, TRANSITIONS, Event, State, step
from ledger.errors import Misuse


def walk(*events: Event) -> State:
    state = State.INERT
    for event in events:
        state = step(state, event, "ada")
    return state


def test_a_life_with_a_hop_ends_frozen_and_discarded() -> None:
    assert walk(Event.CREATE, Event.CREATED, Event.DISPATCH, Event.CAPTURED, Event.DISCARD) is State.ENDED


def test_a_failed_move_goes_on() -> None:
    assert walk(Event.ARRIVE, Event.RETRACT, Event.FAILED) is State.RUNNING
    assert walk(Event.ARRIVE, Event.DISPATCH, Event.CAPTURED, Event.THAW, Event.DISPOSE) is State.DISPOSING


def test_a_deactivated_agent_leaves_its_worker_and_begins_again_in_another() -> None:
    assert walk(Event.ARRIVE, Event.DEACTIVATE, Event.CAPTURED, Event.DISCARD) is State.ENDED
    assert walk(Event.ACTIVATE, Event.DEACTIVATE, Event.CAPTURED, Event.THAW) is State.RUNNING


def test_an_original_runs_on_whatever_comes_of_its_clone() -> None:
    for outcome in (Event.CAPTURED, Event.FAILED):
        assert walk(Event.CLONED, Event.CLONE, outcome, Event.CLONE) is State.CLONING


def test_what_is_not_possible_names_the_agent_its_state_and_what_is() -> None:
    with pytest.raises(Misuse, match="ada is frozen; that allows discard, thaw, not dispatch"):
        step(State.FROZEN, Event.DISPATCH, "ada")


def test_an_ended_agent_stays_ended() -> None:
    for event in Event:
        with pytest.raises(Misuse):
            step(State.ENDED, event, "ada")


def test_a_frozen_or_inert_agent_runs_only_when_told_to() -> None:
    """Two running copies would need another way out of these states."""
    ways = {event for (state, event), after in TRANSITIONS.items() if state in (State.INERT, State.FROZEN)}
    assert ways == {Event.CREATE, Event.THAW, Event.DISCARD, *BEGINNINGS}


def test_every_state_can_be_reached_and_left_but_for_the_last() -> None:
    reached = {State.INERT, *TRANSITIONS.values()}
    left = {state for state, _ in TRANSITIONS}
    assert reached == set(State)
    assert left == set(State) - {State.ENDED}


def test_every_hook_of_the_table_is_one_that_agents_have_and_every_beginning_has_one() -> None:
    assert all(callable(getattr(Agent, hook)) for hook in HOOKS.values())
    assert set(HOOKS) <= {event for _, event in TRANSITIONS} and set(HOOKS) >= BEGINNINGS
    others = {"on_move_failed", "on_cloned"}  # told to an agent that runs
    assert {name for name in vars(Agent) if name.startswith("on_")} == others | set(HOOKS.values())
