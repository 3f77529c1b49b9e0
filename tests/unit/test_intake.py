"""Transactions that wait for their verification: in slices, in turns, bounded."""

from collections import deque
from collections.abc import Callable

from ledger.intake import MAX_QUEUED, SLICE, Intake


class Desk:
    """What an intake gives out, and the loop's later turns."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, list[bytes]]] = []
        self.turns: deque[Callable[[], None]] = deque()
        self.intake = Intake(lambda sender, raws: self.taken.append((sender, raws)), self.turns.append)

    def run(self) -> None:
        while self.turns:
            self.turns.popleft()()


def some(count: int, name: str = "") -> list[bytes]:
    return [f"{name}{number}".encode() for number in range(count)]


def test_a_few_are_taken_at_once() -> None:
    desk = Desk()
    desk.intake.put("a", some(2))
    desk.intake.put("b", some(1))
    assert desk.taken == [("a", some(2)), ("b", some(1))]
    assert not desk.turns


def test_many_are_taken_in_slices_that_leave_the_loop_its_turn() -> None:
    desk = Desk()
    desk.intake.put("a", some(3 * SLICE - 1))
    assert [len(raws) for _, raws in desk.taken] == [SLICE]
    desk.run()
    assert [len(raws) for _, raws in desk.taken] == [SLICE, SLICE, SLICE - 1]
    assert [raw for _, raws in desk.taken for raw in raws] == some(3 * SLICE - 1)


def test_who_sends_much_does_not_hold_up_the_others() -> None:
    desk = Desk()
    desk.intake.put("a", some(10 * SLICE, "a"))
    desk.intake.put("b", some(1, "b"))
    desk.run()
    assert [sender for sender, _ in desk.taken][:4] == ["a", "a", "b", "a"]


def test_what_one_peer_can_make_us_keep_is_bounded() -> None:
    desk = Desk()
    desk.intake.put("a", some(2 * MAX_QUEUED))
    desk.intake.put("a", some(2 * MAX_QUEUED))
    desk.run()
    assert MAX_QUEUED <= sum(len(raws) for _, raws in desk.taken) <= MAX_QUEUED + SLICE


def test_what_comes_while_one_is_taken_waits_for_its_turn() -> None:
    turns: deque[Callable[[], None]] = deque()
    taken: list[list[bytes]] = []

    def take(sender: str, raws: list[bytes]) -> None:
        taken.append(raws)
        if len(taken) == 1:
            intake.put("b", [b"more"])  # as an engine's effects may
            assert len(taken) == 1

    intake = Intake(take, turns.append)
    intake.put("a", [b"first"])
    while turns:
        turns.popleft()()
    assert taken == [[b"first"], [b"more"]]
