"""The handoff machine, step by step and with what can go wrong: docs/custody.md, "The handoff"."""

from collections.abc import Iterable

import pytest

from agentplatform.custody import messages, records
from agentplatform.custody.events import (
    Activate,
    Admitted,
    Created,
    Depart,
    Discard,
    Disposed,
    Durable,
    Effect,
    Examine,
    Examined,
    GiveUp,
    Message,
    Release,
    Remind,
    Reopen,
    Restart,
    Restore,
    Resume,
    Send,
    Write,
)
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.messages import Abort, Accept, Acknowledge, Cargo, Inquire, Life, Notice, Offer, Refuse
from agentplatform.custody.records import (
    BIRTH,
    Aborted,
    Active,
    Born,
    Closed,
    Commit,
    Confirmed,
    Convert,
    Declared,
    Discarded,
    Dismissed,
    Ended,
    Forsworn,
    Kept,
    Known,
    Met,
    Past,
    Prepare,
    Quarantined,
    Received,
    Record,
    Restored,
    Revoked,
    Started,
    Sworn,
    Whole,
    Withdrawn,
)
from ledger.errors import Misuse, PeerFault

T1, T2 = b"\1" * 16, b"\2" * 16
CARGO = (Cargo("x", 1), Cargo("y", 1))  # a group: one transfer, one PREPARE, one COMMIT
MAIL = (b"waited",)


def newborn() -> Handoff:
    source = Handoff("A")
    for agent in ("x", "y"):
        assert source.step(Created(agent)) == [Write(Born(agent, 0))]
    return source


def offered() -> Handoff:
    source = newborn()
    source.step(Depart(T1, "B", CARGO))
    return source


def committing() -> Handoff:
    source = offered()
    source.step(Message("B", Accept(T1)))
    return source


def committed() -> Handoff:
    source = committing()
    source.step(Durable(Commit(T1, CARGO)))
    return source


def closed() -> Handoff:
    source = committed()
    source.step(Message("B", Acknowledge(T1)))
    return source


def examining() -> Handoff:
    destination = Handoff("B")
    destination.step(Message("A", Offer(T1, CARGO, ())))
    return destination


def admitted() -> Handoff:
    destination = examining()
    destination.step(Admitted(T1))
    return destination


def receiving() -> Handoff:
    destination = examining()
    destination.step(Examined(T1, None))
    return destination


def received() -> Handoff:
    destination = receiving()
    destination.step(Durable(Received(T1, "A", CARGO)))
    return destination


def activating() -> Handoff:
    destination = received()
    destination.step(Message("A", Notice(T1, MAIL)))
    return destination


def active() -> Handoff:
    destination = activating()
    destination.step(Durable(Active(T1, MAIL)))
    return destination


def written(effects: Iterable[Effect]) -> list[Record]:
    return [effect.record for effect in effects if isinstance(effect, Write)]


# The five steps


def test_step_1_the_offer_leaves_beside_prepare() -> None:
    source = newborn()
    assert source.step(Depart(T1, "B", source.cargo(["x", "y"]))) == [
        Send("B", Offer(T1, CARGO, ())),
        Write(Prepare(T1, "B", CARGO)),
    ]
    assert source.step(Durable(Prepare(T1, "B", CARGO))) == []
    assert source.offered("B") == (T1,)


def test_step_2_the_copy_is_examined_then_durable_then_accepted() -> None:
    destination = Handoff("B")
    assert destination.step(Message("A", Offer(T1, CARGO, ()))) == [Examine(T1, "A", CARGO)]
    assert destination.step(Examined(T1, None)) == [Write(Received(T1, "A", CARGO))]
    assert destination.step(Durable(Received(T1, "A", CARGO))) == [Send("A", Accept(T1))]
    assert destination.here("x") is None  # inert


def test_step_2_received_is_written_while_the_copies_are_opened() -> None:
    record = Received(T1, "A", CARGO)
    for opened_first in (True, False):
        destination = examining()
        assert destination.step(Admitted(T1)) == [Write(record)]
        first, second = (Examined(T1, None), Durable(record))[:: 1 if opened_first else -1]
        assert destination.step(first) == []
        assert destination.step(second) == [Send("A", Accept(T1))]
        assert destination.key() == received().key()


def test_a_copy_that_cannot_be_opened_is_refused_though_it_was_written() -> None:
    record = Received(T1, "A", CARGO)
    for durable in (False, True):
        destination = admitted()
        if durable:
            assert destination.step(Durable(record)) == []
        assert destination.step(Examined(T1, "a broken state")) == [
            Write(Discarded(T1)),
            Send("A", Refuse(T1, "a broken state")),
        ]
        assert destination.step(Durable(record)) == destination.step(Durable(Discarded(T1))) == []
        assert destination.arriving == {} and destination.here("x") is None


def test_nothing_is_promised_and_nobody_asked_while_written_copies_are_opened() -> None:
    destination = admitted()
    for _ in range(2):
        assert destination.step(Message("A", Offer(T1, CARGO, ()))) == destination.step(Remind()) == []
        with pytest.raises(PeerFault, match="did not accept"):
            destination.step(Message("A", Notice(T1, ())))
        assert destination.step(Admitted(T1)) == destination.step(Durable(Received(T1, "A", CARGO))) == []
    assert written(destination.step(Message("A", Abort(T1, "")))) == [Discarded(T1)]
    assert destination.step(Examined(T1, None)) == []


def test_a_short_log_has_what_is_written_and_not_yet_open() -> None:
    destination = admitted()
    for _ in range(2):
        again, effects = Handoff.recover("B", destination.summary())
        assert again.key() == received().key()  # whether ACCEPT had left nobody knows any more
        assert effects == [Reopen(T1, "A", CARGO), Send("A", Inquire(T1))]
        destination.step(Durable(Received(T1, "A", CARGO)))


def test_step_3_commit_is_written_and_nothing_else_happens_yet() -> None:
    source = offered()
    assert source.step(Message("B", Accept(T1))) == [Write(Commit(T1, CARGO))]
    assert source.offered("B") == ()


def test_step_4_the_notice_leaves_when_commit_is_durable_and_the_copy_runs_at_once() -> None:
    source, destination = committing(), received()
    assert source.step(Durable(Commit(T1, CARGO))) == [Send("B", Notice(T1, ())), Release(T1, "B", CARGO)]
    assert destination.step(Message("A", Notice(T1, MAIL))) == [
        Write(Active(T1, MAIL)),
        Activate(T1, "A", CARGO, MAIL),
    ]
    assert (source.here("x"), source.went("x")) == (None, ("B", 1))
    assert destination.here("x") == 1


def test_step_5_the_acknowledgement_leaves_when_active_is_durable() -> None:
    source, destination = committed(), activating()
    assert destination.step(Durable(Active(T1, MAIL))) == [Send("A", Acknowledge(T1))]
    assert source.step(Message("B", Acknowledge(T1))) == [Write(Closed(T1, CARGO))]
    assert source.step(Message("B", Acknowledge(T1))) == []
    assert source.went("x") == ("B", 1)  # the forwarding address stays


# What repeats


def test_a_repeated_offer_gets_the_same_answer() -> None:
    again = Message("A", Offer(T1, CARGO, ()))
    assert examining().step(again) == receiving().step(again) == []
    assert received().step(again) == [Send("A", Accept(T1))]
    assert activating().step(again) == []
    (answer,) = active().step(again)
    assert isinstance(answer, Send) and isinstance(answer.message, Refuse)
    assert "was here before" in answer.message.reason


def test_a_repeated_notice_gets_the_same_answer() -> None:
    assert activating().step(Message("A", Notice(T1, MAIL))) == []  # the answer waits for ACTIVE
    assert active().step(Message("A", Notice(T1, MAIL))) == [Send("A", Acknowledge(T1))]


def test_a_repeated_or_late_answer_to_an_offer_changes_nothing() -> None:
    for source in (committing(), committed(), closed()):
        assert source.step(Message("B", Accept(T1))) == []
        assert source.step(Message("B", Refuse(T1, "no room"))) == []


def test_whoever_waits_asks_again() -> None:
    assert committed().step(Remind()) == [Send("B", Notice(T1, ()))]
    assert received().step(Remind()) == [Send("A", Inquire(T1))]
    for machine in (newborn(), offered(), committing(), closed(), examining(), receiving(), activating(), active()):
        assert machine.step(Remind()) == []


# Aborts


def test_a_refusal_lets_the_agents_go_on() -> None:
    destination = examining()
    assert destination.step(Examined(T1, "no module named cv2")) == [Send("A", Refuse(T1, "no module named cv2"))]
    source = offered()
    assert source.step(Message("B", Refuse(T1, "no module named cv2"))) == [
        Write(Aborted(T1, CARGO)),
        Resume(T1, "B", CARGO, "B refused: no module named cv2"),
    ]
    assert source.cargo(["x"]) == (Cargo("x", 1),)  # it may try again, by another transfer


def test_a_deadline_aborts_before_commit_only() -> None:
    assert offered().step(GiveUp(T1, "the link to B is lost")) == [
        Write(Aborted(T1, CARGO)),
        Resume(T1, "B", CARGO, "the link to B is lost"),
        Send("B", Abort(T1, "the link to B is lost")),
    ]
    for source in (committing(), committed(), closed()):
        assert source.step(GiveUp(T1, "the link to B is lost")) == []


def test_an_answer_to_an_offer_that_was_given_up_is_told_so() -> None:
    source = offered()
    source.step(GiveUp(T1, "deadline"))
    (answer,) = source.step(Message("B", Accept(T1)))
    assert isinstance(answer, Send) and isinstance(answer.message, Abort)


@pytest.mark.parametrize("word", [Abort(T1, "why"), messages.Closed(T1)])
def test_only_an_inert_copy_is_discarded(word: messages.HandoffMessage) -> None:
    reason = "why" if isinstance(word, Abort) else "A finished this handoff long ago"
    assert examining().step(Message("A", word)) == [Discard(T1, CARGO, reason)]
    for destination in (receiving(), received()):
        assert destination.step(Message("A", word)) == [Write(Discarded(T1)), Discard(T1, CARGO, reason)]
    for destination in (activating(), active(), Handoff("B")):
        before = destination.key()
        assert destination.step(Message("A", word)) == []
        assert destination.key() == before


def test_what_was_aborted_while_it_was_examined_or_written_stays_so() -> None:
    destination = examining()
    destination.step(Message("A", Abort(T1, "")))
    assert destination.step(Examined(T1, None)) == []
    destination = receiving()
    destination.step(Message("A", Abort(T1, "")))
    assert destination.step(Durable(Received(T1, "A", CARGO))) == []


def test_an_inquiry_is_answered_by_what_is_durable() -> None:
    ask = Message("B", Inquire(T1))
    (unknown,) = newborn().step(ask)
    assert isinstance(unknown, Send) and isinstance(unknown.message, Abort)
    source = offered()
    assert written(source.step(ask)) == [Aborted(T1, CARGO)]
    assert written(source.step(Message("B", Accept(T1)))) == []  # having answered "abort", it never commits
    assert committing().step(ask) == []
    assert committed().step(ask) == [Send("B", Notice(T1, ()))]
    assert closed().step(ask) == [Send("B", messages.Closed(T1))]


# Replays, and the way back


def test_a_late_offer_of_a_first_hop_is_refused_after_the_hop_back() -> None:
    a, b = closed(), active()
    back = (Cargo("x", 2),)
    b.step(Depart(T2, "A", b.cargo(["x"])))
    assert a.step(Message("B", Offer(T2, back, ()))) == [Examine(T2, "B", back)]
    a.step(Examined(T2, None))
    a.step(Durable(Received(T2, "B", back)))
    b.step(Message("A", Accept(T2)))
    b.step(Durable(Commit(T2, back)))
    a.step(Message("B", Notice(T2, ())))
    assert (a.here("x"), b.here("x"), b.went("x"), a.went("x")) == (2, None, ("A", 2), None)
    for replay in (Offer(T1, CARGO, ()), Offer(b"\3" * 16, (Cargo("x", 1),), ())):
        (answer,) = b.step(Message("A", replay))
        assert isinstance(answer, Send) and isinstance(answer.message, Refuse)


def test_a_notice_of_a_later_epoch_acknowledges_the_earlier_one() -> None:
    a = committed()  # the acknowledgement of B was lost
    back = (Cargo("x", 2),)
    a.step(Message("B", Offer(T2, back, ())))
    a.step(Examined(T2, None))
    a.step(Durable(Received(T2, "B", back)))
    assert written(a.step(Message("B", Notice(T2, ())))) == [Closed(T1, CARGO), Active(T2, ())]


def test_an_agent_that_is_here_or_half_here_is_not_taken_again() -> None:
    for machine, why in ((newborn(), "is here"), (received(), "waits here for A")):
        (answer,) = machine.step(Message("C", Offer(T2, (Cargo("x", 5),), ())))
        assert isinstance(answer, Send) and isinstance(answer.message, Refuse)
        assert why in answer.message.reason


# Recovery


def test_restart_with_prepare_and_no_commit_aborts() -> None:
    log = [Born("x", 0), Born("y", 0), Prepare(T1, "B", CARGO)]
    _, effects = Handoff.recover("A", log)
    reason = "A was restarted before the handoff to B was committed"
    assert effects == [Write(Aborted(T1, CARGO)), Restore(T1, "B", CARGO, reason), Send("B", Abort(T1, reason))]
    _, effects = Handoff.recover("A", [*log, Aborted(T1, CARGO)])  # restarted once more: from the captured state
    assert effects == [Restart("x", 0, T1, ()), Restart("y", 0, T1, ())]


def test_restart_with_commit_repeats_the_notice() -> None:
    log = [Born("x", 0), Born("y", 0), Prepare(T1, "B", CARGO), Commit(T1, CARGO)]
    source, effects = Handoff.recover("A", log)
    assert effects == [Send("B", Notice(T1, ()))]
    assert source.went("y") == ("B", 1)
    source, effects = Handoff.recover("A", [*log, Closed(T1, CARGO)])
    assert effects == []
    assert source.key() == closed().key()


def test_restart_with_received_stays_inert_and_asks() -> None:
    destination, effects = Handoff.recover("B", [Received(T1, "A", CARGO)])
    assert effects == [Reopen(T1, "A", CARGO), Send("A", Inquire(T1))]
    assert destination.here("x") is None
    _, effects = Handoff.recover("B", [Received(T1, "A", CARGO), Discarded(T1)])
    assert effects == []


def test_restart_with_active_is_resident_with_its_mail() -> None:
    log = [Received(T1, "A", CARGO), Active(T1, MAIL)]
    destination, effects = Handoff.recover("B", log)
    assert effects == [Restart("x", 1, T1, MAIL), Restart("y", 1, T1, MAIL)]
    assert destination.step(Message("A", Notice(T1, MAIL))) == [Send("A", Acknowledge(T1))]
    _, effects = Handoff.recover("B", [*log, Ended("y")])
    assert effects == [Restart("x", 1, T1, MAIL)]


def test_a_summary_folds_to_the_same_state() -> None:
    for machine in (newborn(), offered(), committed(), closed(), received(), active()):
        again = Handoff(machine.host)
        for transfer, outcome in machine.past.items():
            again.apply(Past(transfer, outcome))
        for record in machine.summary():
            again.apply(record)
            again.sink(record)
        assert again.key() == machine.key()


def test_a_copy_is_another_machine() -> None:
    first = offered()
    second = first.copy()
    assert second.key() == first.key()
    second.step(GiveUp(T1, ""))
    assert second.key() != first.key() and first.offered("B") == (T1,)


# What must not be asked, and what must not be sent


def test_misuse_changes_nothing_and_says_why() -> None:
    source = committed()
    before = source.key()
    for event, why in (
        (Depart(T2, "A", CARGO), "on A already"),
        (Depart(T1, "B", CARGO), "used before"),
        (Depart(T2, "B", CARGO), "it went to B"),
        (Depart(T2, "B", ()), "wrong epochs"),
        (Disposed("x"), "it went to B"),
        (Disposed("z"), "not on A"),
        (Created("x"), "never used again"),
    ):
        with pytest.raises(Misuse, match=why):
            source.step(event)
    assert source.key() == before
    with pytest.raises(Misuse, match="on its way from A to B"):
        offered().step(Disposed("x"))
    with pytest.raises(Misuse, match="twice"):
        newborn().step(Depart(T1, "B", (Cargo("x", 1), Cargo("x", 1))))


def test_a_disposed_agent_is_gone_and_its_id_too() -> None:
    machine = newborn()
    assert machine.step(Disposed("x")) == [Write(Ended("x"))]
    assert machine.here("x") is None and machine.agents["x"] == Known("x", 0, False, None, BIRTH, ())
    with pytest.raises(Misuse):
        machine.step(Created("x"))


def test_a_third_host_has_no_say() -> None:
    for machine, words in (
        (offered(), [Accept(T1), Refuse(T1, ""), Acknowledge(T1), Inquire(T1)]),
        (received(), [Offer(T1, CARGO, ()), Notice(T1, ()), Abort(T1, ""), messages.Closed(T1)]),
    ):
        before = machine.key()
        for word in words:
            with pytest.raises(PeerFault, match="C: spoke of handoff"):
                machine.step(Message("C", word))
        assert machine.key() == before


def test_words_out_of_turn_are_the_peers_fault() -> None:
    for machine, word in (
        (offered(), Acknowledge(T1)),
        (committing(), Acknowledge(T1)),
        (Handoff("A"), Notice(T1, ())),
        (Handoff("A"), Offer(T1, (), ())),
        (Handoff("A"), Offer(T1, (Cargo("x", 1), Cargo("x", 2)), ())),
    ):
        with pytest.raises(PeerFault):
            machine.step(Message("B", word))
    for destination in (examining(), receiving()):
        with pytest.raises(PeerFault, match="did not accept"):
            destination.step(Message("A", Notice(T1, ())))


def test_every_record_has_a_meaning() -> None:
    """A kind of record that `apply` does not know would be forgotten silently."""
    kinds = set(records.Record.__args__)
    log = [
        Past(T2, "Active"), Known("z", 3, False, "C", BIRTH, ()), Born("x", 0), Born("y", 0), Prepare(T1, "B", CARGO)
    ]  # fmt: skip
    paths: list[list[Record]] = [
        [*log, Aborted(T1, CARGO), Ended("x")],
        [*log, Commit(T1, CARGO), Closed(T1, CARGO)],
        [Received(T1, "A", CARGO), Active(T1, ())],
        [Received(T1, "A", CARGO), Discarded(T1)],
        [*log, Withdrawn(T1, CARGO)],
        [*log, Kept(T1, CARGO), Revoked("x", 2, "C")],
        [Born("w", 0), Convert(T2, (Cargo("w", 1, b"its residence"),), b"an entry")],
        [Born("w", 0, b"its residence"), Ended("w"), Dismissed("w")],
        [Received(T1, "A", CARGO), Declared(T1, CARGO)],
        [Forsworn(T1, "A", "C", CARGO), Sworn("x", 2)],
        [Born("w", 0), Started(Life(1)), Met("A", Life(3)), Restored(), Confirmed("w", 1, 9), Whole()],
        [Born("w", 0), Quarantined("w", True)],
    ]
    for path in paths:
        machine = Handoff("B")
        for record in path:
            before = machine.key()
            machine.apply(record)
            assert machine.key() != before, record
            kinds.discard(type(record))
    assert not kinds
