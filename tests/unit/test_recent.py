"""A view that remembers what was read: it never says anything else than the state below it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger.contracts import state
from ledger.contracts.state import Recent

KEYS = st.sampled_from([b"a", b"b", b"c", b"d", b"e"])
STEPS = st.lists(KEYS | st.dictionaries(KEYS, st.none() | st.binary(max_size=1), max_size=3), max_size=30)


def tell(steps: list[bytes | dict[bytes, bytes | None]], recent: type[Recent] = Recent) -> None:
    below = dict[bytes, bytes]()
    view = recent(below)
    for step in steps:
        if isinstance(step, bytes):
            assert view.get(step) == below.get(step)
            continue
        for key, value in step.items():
            below.pop(key, None)
            if value is not None:
                below[key] = value
        view.changed(step)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.integers(1, 4))
def test_it_says_what_is_below(steps: list[bytes | dict[bytes, bytes | None]], room: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(state, "MAX_RECENT", room)
        tell(steps)


def test_it_remembers_absence_and_no_more_than_it_may() -> None:
    view = Recent({b"%d" % number: b"" for number in range(state.MAX_RECENT)})
    for number in range(3 * state.MAX_RECENT):
        view.get(b"%d" % number)
        assert len(view._known) <= state.MAX_RECENT
    view.changed({b"new": b"1"})
    assert len(view._known) <= state.MAX_RECENT and view.get(b"2") == b"" and view.get(b"x") is None
    tell([b"a", {b"a": b"1"}, b"a", {b"a": None}, b"a"])


class Forgetful(Recent):
    """The broken twin: does not hear of removals."""

    def changed(self, changes: object) -> None:
        assert isinstance(changes, dict)
        super().changed({key: value for key, value in changes.items() if value is not None})


def test_a_view_that_misses_a_removal_is_found() -> None:
    with pytest.raises(AssertionError):
        tell([{b"a": b"1"}, b"a", {b"a": None}, b"a"], Forgetful)
