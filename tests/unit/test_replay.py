"""What a handler did before its host crashed is found again when it runs again, and never by anything else."""

from agentplatform.mail import Letter, Loose, Memory
from agentplatform.messages import Answer
from agentplatform.replay import Replay

CAUSE = ("asker", 3)
YES = Answer(True, b"yes")


def letter(sequence: int, body: bytes = b"") -> Letter:
    return Letter("x", 0, sequence, 0, "y", "here", "add", body)


def recalled(*letters: tuple[Letter, Answer | None], cause: tuple[str, int] | None = CAUSE) -> Replay:
    return Replay((Loose(each, cause), answer) for each, answer in letters)


def test_the_same_calls_get_the_same_letters_in_their_order_and_the_answers_that_came():
    replay = recalled((letter(1), YES), (letter(2), None), (letter(3, b"other"), None))
    assert replay.adopt(CAUSE, "y", "add", b"", 1) == (letter(1), YES)
    assert replay.adopt(CAUSE, "y", "add", b"", 2) == (letter(2), None)
    assert replay.adopt(CAUSE, "y", "add", b"", 3) is None  # a third one is new
    assert replay.adopt(CAUSE, "y", "add", b"other", 4) == (letter(3, b"other"), None)


def test_another_handler_another_receiver_and_another_life_do_not_get_them():
    replay = recalled((letter(1), YES))
    assert replay.adopt(("asker", 4), "y", "add", b"", 1) is None
    assert replay.adopt(None, "y", "add", b"", 1) is None
    assert replay.adopt(CAUSE, "z", "add", b"", 1) is None
    replay.add(Loose(letter(2), ("asker", 9)), 5)
    assert replay.adopt(("asker", 9), "y", "add", b"", 6) is None  # it was sent in this life: twice means twice


def test_they_wait_for_the_message_that_caused_them_however_many_others_come_first():
    replay = recalled((letter(1), YES))
    assert replay.checkpointed((), {"asker": Memory(0, 2), "other": Memory(0, 9)}) == []
    assert replay.checkpointed((), {"asker": Memory(0, 3)}) == [("y", 1)]
    assert replay.adopt(CAUSE, "y", "add", b"", 1) is None and not replay


def test_what_run_called_is_found_by_its_first_calls_alone():
    """Else a call of long ago would answer one of today."""
    replay = recalled((letter(1), YES), cause=None)
    assert replay.adopt(None, "y", "add", b"", 1) == (letter(1), YES)
    assert replay.checkpointed((1,), {}) == []  # it has its answer, and the state does not know it yet
    assert replay.checkpointed((), {}) == [("y", 1)]
    late = recalled((letter(1), YES), cause=None)
    assert late.checkpointed((), {}) == [("y", 1)] and late.adopt(None, "y", "add", b"", 1) is None


def test_an_answer_is_kept_while_the_state_does_not_know_it():
    replay = Replay()
    replay.add(Loose(letter(1), CAUSE), 1)
    assert replay.answered("y", 1, YES) and not replay.answered("y", 2, YES)
    assert replay.checkpointed((), {}) == [("y", 1)]
    assert not replay.answered("y", 1, YES)
