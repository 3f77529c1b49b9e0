"""Timers and questions as data, with the clock as an argument."""

import copy

import pytest

from agentplatform.agenda import MAX_TIMERS, Agenda, Question
from ledger.errors import Misuse


def opened(agenda: Agenda, host: str, now: float) -> Agenda:
    """The agenda as it is captured, on `host`."""
    there = copy.deepcopy(agenda)
    there.arrive(host, now)
    return there


def begun(now: float = 1000.0) -> Agenda:
    agenda = Agenda()
    agenda.arrive("here", now)
    return agenda


def rings(agenda: Agenda, now: float) -> list[str]:
    return [timer.kind for number in agenda.due(now) if (timer := agenda.fire(number, now)) is not None]


def test_timers_ring_in_their_order_and_once() -> None:
    agenda = begun()
    agenda.after(1000.0, 3, "late", b"")
    agenda.after(1000.0, 0, "now", b"")
    agenda.after(1000.0, 2, "soon", b"")
    assert agenda.next() == 1000.0 and rings(agenda, 1000.0) == ["now"]
    assert agenda.next() == 1002.0 and agenda.next({agenda.due(1002.0)[0]}) == 1003.0
    assert rings(agenda, 1001.9) == [] and rings(agenda, 1010.0) == ["soon", "late"] and rings(agenda, 1020.0) == []
    assert agenda.next() is None and agenda.fire(1, 1020.0) is None


def test_on_the_same_host_time_counts_on_while_it_is_down() -> None:
    agenda = begun()
    agenda.after(1000.0, 60, "tea", b"")
    assert rings(opened(agenda, "here", 1059.0), 1059.0) == []
    assert rings(opened(agenda, "here", 5000.0), 5000.0) == ["tea"]
    agenda.left = 1010.0  # a departure that was aborted
    assert rings(opened(agenda, "here", 1059.0), 1060.0) == ["tea"]


@pytest.mark.parametrize("clock", [5.0, 1010.0, 9e9])
def test_on_another_host_a_timer_has_as_long_to_go_as_when_the_agent_left_whatever_its_clock_says(clock: float) -> None:
    agenda = begun()
    agenda.after(1000.0, 60, "tea", b"")
    agenda.questions[1 << 61] = Question("b", "ask", 1070.0, 70.0, "then", None)
    agenda.left = 1010.0
    there = opened(agenda, "there", clock)
    assert rings(there, clock + 49.9) == [] and rings(there, clock + 50.1) == ["tea"]
    assert there.due(clock + 59.9) == [] and there.due(clock + 60.1) == [1 << 61]
    back = opened(
        there, "here", 1.0
    )  # its checkpoint was brought to another host: by the clocks, there is nothing else
    assert back.left is None and back.host == "here"


def test_every_goes_on_in_its_beat_and_skips_what_it_missed() -> None:
    agenda = begun()
    number = agenda.after(1000.0, 10.0, "again", b"", every=True)
    assert rings(agenda, 1009.9) == [] and rings(agenda, 1010.0) == ["again"]
    assert rings(agenda, 1057.0) == ["again"] and agenda.next() == 1060.0
    assert rings(agenda, 1060.0) == ["again"] and agenda.next() == 1070.0
    assert list(agenda.timers) == [number]


def test_numbers_are_not_used_twice() -> None:
    agenda = begun()
    first = agenda.after(1000.0, 1, "a", b"")
    agenda.fire(first, 1001.0)
    assert agenda.after(1001.0, 1, "b", b"") == first + 1


@pytest.mark.parametrize(("seconds", "every"), [(-0.1, False), (0.0, True), (True, False), ("5", False), (1e10, False)])
def test_what_is_no_time_is_refused(seconds: float, every: bool) -> None:
    with pytest.raises(Misuse, match="a timer takes"):
        begun().after(0.0, seconds, "a", b"", every)


def test_there_is_an_end_to_timers() -> None:
    agenda = begun()
    for _ in range(MAX_TIMERS):
        agenda.after(0.0, 1, "a", b"")
    with pytest.raises(Misuse, match=f"at most {MAX_TIMERS} timers; cancel some"):
        agenda.after(0.0, 1, "a", b"")


class Forgetful(Agenda):
    """Does not move what is due with the agent."""

    def arrive(self, host: str, now: float) -> None:
        self.host, self.left = host, None


def test_these_tests_see_an_agenda_that_takes_another_hosts_clock_for_its_own() -> None:
    agenda = Forgetful("here")
    agenda.after(1000.0, 60, "tea", b"")
    agenda.left = 1010.0
    assert rings(opened(agenda, "there", 5.0), 55.1) == [] and rings(opened(agenda, "there", 9e9), 9e9) == ["tea"]
