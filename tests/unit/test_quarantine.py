"""Who is believed after a restore, and about what: docs/custody.md, "After a bad restore"."""

import pytest

from agentplatform.custody.events import (
    Admitted,
    Begin,
    Complete,
    Confirm,
    Created,
    Depart,
    Disposed,
    Durable,
    Effect,
    Examine,
    Examined,
    Left,
    Message,
    Outdated,
    Restart,
    Revoke,
    Send,
    Write,
)
from agentplatform.custody.held import Held
from agentplatform.custody.messages import (
    Accept,
    Acknowledge,
    Cargo,
    Inquire,
    Life,
    Notice,
    Offer,
    Recall,
    Recalled,
    Sighting,
)
from agentplatform.custody.quarantine import (
    MAX_INCARNATION,
    Blocked,
    Claim,
    Gone,
    Here,
    Word,
    floor,
    is_other,
    judge,
    unacknowledged,
)
from agentplatform.custody.records import Born, Commit, Confirmed, Met, Prepare, Received, Restored, Revoked, Whole
from agentplatform.mail import MAX_NUMBER
from ledger.errors import Misuse

T = b"t" * 16
CARGO = (Cargo("x", 1),)
ASKED = Recall(Life(1, b"n"), ("x",))


def restored(*records: object) -> tuple[Held, list[Effect]]:
    return Held.recover("A", [*records, Restored()])  # type: ignore[list-item]


def answer(machine: Held) -> Recalled:
    """What it says to A, when it has written that it met it."""
    effects = machine.step(Message("A", ASKED))
    assert effects == [Write(Met("A", ASKED.life))] and machine.step(Message("A", ASKED)) == []
    (sent,) = machine.step(Durable(Met("A", ASKED.life)))
    assert isinstance(sent, Send) and sent.to == "A" and isinstance(sent.message, Recalled)
    return sent.message


# The rule

ACTIVE, INERT = Claim(4), Claim(4, inert=True)
NOBODY = {"B": None, "C": None}
JUDGED = {
    "one has not answered": (ACTIVE, {"B": None}, Blocked),
    "nobody knows of it": (ACTIVE, NOBODY, Here(5)),
    "an earlier stay is no news": (ACTIVE, NOBODY | {"B": Word(4, "A")}, Here(5)),
    "it left, and came back in the lost life": (ACTIVE, {"B": Word(6, "A"), "C": None}, Here(7)),
    "it is elsewhere": (ACTIVE, {"B": Word(5, "C"), "C": Word(5, "C")}, Gone(5, "C")),
    "the last one counts": (ACTIVE, {"B": Word(6, "A"), "C": Word(7, "C")}, Gone(7, "C")),
    "it ended elsewhere": (ACTIVE, {"B": Word(5, ""), "C": None}, Gone(5, "")),
    "not durable yet": (ACTIVE, {"B": Word(5, "B", settled=False), "C": None}, Blocked),
    "no pass of ours": (ACTIVE, {"B": Word(5, "B", proven=False), "C": None}, Blocked),
    "a pass that another shows": (ACTIVE, {"B": Word(5, "C", proven=False), "C": Word(5, "C")}, Gone(5, "C")),
    "the copy was ours": (INERT, {"B": Word(5, "A"), "C": None}, Here(6)),
    "its source has it still": (INERT, {"B": Word(4, "B", proven=False), "C": None}, Gone(4, "B")),
    "nobody remembers the offer": (INERT, NOBODY, Blocked),
}


@pytest.mark.parametrize("case", JUDGED)
def test_the_last_place_that_anybody_knows_of_counts(case: str) -> None:
    claim, said, expected = JUDGED[case]
    verdict = judge("A", claim, said, ("B", "C"))
    assert isinstance(verdict, Blocked) if expected is Blocked else verdict == expected


def test_what_blocks_is_named() -> None:
    assert judge("A", ACTIVE, {"B": None}, ("B", "C")).on == "C"  # type: ignore[union-attr]
    assert judge("A", ACTIVE, {"B": Word(5, "B", settled=False)}, ("B",)).on == "B"  # type: ignore[union-attr]
    assert judge("A", INERT, NOBODY, ("B", "C")).on == ""  # type: ignore[union-attr]


def test_lives_and_their_numbers() -> None:
    own = Life(3, b"own")
    assert not is_other(own, own) and not is_other(own, Life(2, b"before"))
    assert is_other(own, Life(3, b"other")) and is_other(own, Life(4, b"other"))
    assert floor(Life(2)) - floor(Life(1)) == 2**32 and floor(Life(MAX_INCARNATION)) <= MAX_NUMBER // 2


# The host on old data


def test_what_was_restored_runs_nothing_and_takes_no_orders() -> None:
    machine, effects = restored(Born("x", 0), Born("y", 0), Prepare(T, "B", CARGO))
    assert effects == [] and machine.quarantined == {"x": False, "y": False}
    with pytest.raises(Misuse, match="in quarantine"):
        machine.step(Depart(T, "B", CARGO))
    again, effects = Held.recover("A", machine.summary())
    assert effects == [] and again.key() == machine.key()


def test_one_goes_on_at_a_fresh_epoch_and_its_last_source_hears_of_it() -> None:
    machine, _ = restored(Born("x", 0))
    confirmed = Confirmed("x", 3, 9, (T,))
    assert machine.step(Complete()) == []
    assert machine.step(Confirm("x", 3, 9, (T,))) == [Write(confirmed), Restart("x", 3, b"", ())]
    assert machine.step(Message("B", Notice(T, ()))) == [Send("B", Acknowledge(T))]
    assert machine.step(Complete()) == [Write(Whole())] and machine.step(Complete()) == []
    again, effects = Held.recover("A", [Born("x", 0), Restored(), confirmed, Whole()])
    assert effects == [Restart("x", 3, b"", ())] and not again.restored
    assert unacknowledged("A", [None, Word(2, "A", transfer=T), Word(2, "C", transfer=b"other"), Word(1, "A")]) == (T,)


def test_one_that_left_ends_and_may_come_again() -> None:
    machine, _ = restored(Born("x", 0))
    assert machine.step(Left("x", 1, "B")) == [Write(Revoked("x", 1, "B")), Revoke("x", 1, "B", restored=True)]
    assert machine.went("x") == ("B", 1) and not machine.quarantined
    assert machine.step(Left("x", 1, "B")) == [] == machine.step(Confirm("x", 3, 9))
    back = (Cargo("x", 2),)
    assert machine.step(Message("B", Offer(T, back, ()))) == [Examine(T, "B", back)]


def test_an_inert_copy_waits_like_the_others_and_its_source_need_not() -> None:
    """It was let go on in the lost life, perhaps, and left: its source's notice must not begin it again."""
    machine, effects = restored(Received(T, "B", CARGO))
    assert effects == [] and machine.quarantined == {"x": True} and machine.here("x") == 0
    assert machine.step(Message("B", Notice(T, ()))) == [Send("B", Acknowledge(T))]
    machine.step(Confirm("x", 2, 9))
    assert machine.here("x") == 2


def test_a_committed_departure_stays_one() -> None:
    machine, effects = restored(Born("x", 0), Prepare(T, "B", CARGO), Commit(T, CARGO))
    assert effects == [Send("B", Notice(T, ()))] and not machine.quarantined


def test_its_owner_may_end_what_nobody_can_decide() -> None:
    machine, _ = restored(Born("x", 0))
    machine.step(Disposed("x"))
    assert not machine.quarantined and machine.here("x") is None


def test_data_that_nobody_marked_is_marked_once() -> None:
    machine, _ = Held.recover("A", [Born("x", 0)])
    machine.step(Begin(Life(7, b"n")))
    assert machine.step(Outdated()) == [Write(Restored())] and machine.step(Outdated()) == []
    assert machine.quarantined == {"x": False} and machine.life.incarnation == 7


# A host that is asked


def test_it_says_what_it_has_had_and_gave_on() -> None:
    machine = Held("B")
    assert answer(machine) == Recalled(b"n", Life(), ())
    machine, _ = Held.recover("B", [Born("x", 5)])
    assert answer(machine).sightings == (Sighting("x", 5, "B"),)
    gone = [Born("x", 5), Prepare(T, "C", (Cargo("x", 6),)), Commit(T, (Cargo("x", 6),))]
    machine, _ = Held.recover("B", gone)
    assert answer(machine).sightings == (Sighting("x", 6, "C", transfer=T),)
    machine, _ = Held.recover("B", [Born("x", 5)])
    machine.step(Disposed("x"))
    assert answer(machine).sightings == (Sighting("x", 5, ""),)


def test_what_a_crash_can_take_back_is_not_settled() -> None:
    """Else A ends its copy, and B, started again, has none."""
    machine = Held("B")
    machine.step(Message("A", Offer(T, CARGO, ())))
    machine.step(Admitted(T))
    machine.step(Examined(T, None))
    machine.step(Durable(Received(T, "A", CARGO)))
    assert answer(machine).sightings == ()  # an inert copy is none: A has the word on it
    machine.step(Message("A", Notice(T, ())))
    (seen,) = machine.step(Message("A", ASKED))[0].message.sightings  # type: ignore[union-attr]
    assert (seen.epoch, seen.settled) == (1, False)
    source = Held("B")
    source.step(Created("x"))
    source.step(Depart(T, "C", CARGO))
    source.step(Message("C", Accept(T)))
    assert not answer(source).sightings[0].settled


def test_it_tells_a_life_of_the_others_that_it_met() -> None:
    machine = Held("B")
    answer(machine)
    (sent,) = machine.step(Message("A", Recall(Life(1, b"another copy"), ())))
    assert sent == Send("A", Recalled(b"another copy", ASKED.life, ()))
    again, _ = Held.recover("B", machine.summary())
    assert again.met == {"A": ASKED.life}


def test_an_inert_copy_of_the_lost_life_is_given_up_at_the_word_of_the_restored_host() -> None:
    machine, _ = restored(Born("x", 0))
    (sent,) = machine.step(Message("B", Inquire(T)))
    assert isinstance(sent, Send) and type(sent.message).__name__ == "Abort"
