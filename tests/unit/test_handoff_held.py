"""Held custody, step by step: what waits for the ledger, and what only its word ends. docs/custody.md."""

import pytest

from agentplatform.custody.events import (
    Activate,
    Ask,
    Created,
    Decided,
    Depart,
    Discard,
    Dismiss,
    Disposed,
    Durable,
    Effect,
    Examine,
    Examined,
    GiveUp,
    Message,
    Release,
    Remind,
    Resume,
    Return,
    Revoke,
    Send,
    Withdraw,
    Write,
)
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Abort, Accept, Acknowledge, Cargo, Inquire, Notice, Offer
from agentplatform.custody.records import (
    BIRTH,
    Active,
    Born,
    Closed,
    Commit,
    Discarded,
    Dismissed,
    Ended,
    Kept,
    Known,
    Prepare,
    Received,
    Revoked,
    Withdrawn,
)
from ledger.errors import Misuse, PeerFault

HERE, THERE = b"its residence", b"another's"
T1, T2 = b"\1" * 16, b"\2" * 16
CARGO = (Cargo("x", 1, HERE),)
OFFER = Offer(T1, CARGO, ())
MOVED = Decided("x", 1, "B", T1)  # the ledger's word that the handoff took place
STAYED = Decided("x", 1, "A", b"")


def newborn() -> Held:
    source = Held("A")
    assert source.step(Created("x", HERE)) == [Write(Born("x", 0, HERE))]
    return source


def prepared() -> Held:
    source = newborn()
    assert source.step(Depart(T1, "B", source.cargo(["x"]))) == [Write(Prepare(T1, "B", CARGO))]
    return source


def offered() -> Held:
    source = prepared()
    assert source.step(Durable(Prepare(T1, "B", CARGO))) == [Send("B", OFFER)]  # H2: nothing before
    return source


def asked() -> Held:
    source = offered()
    assert source.step(Message("B", Accept(T1, True))) == [Ask(T1, "B", CARGO)]
    return source


def received() -> Held:
    destination = Held("B")
    assert destination.step(Message("A", OFFER)) == [Examine(T1, "A", CARGO)]
    record = Received(T1, "A", CARGO)
    assert destination.step(Examined(T1, None)) == [Write(record)]
    assert destination.step(Durable(record)) == [Send("A", Accept(T1, True))]  # H3: nothing before
    return destination


def sent(effects: list[Effect]) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send)]


def test_the_ledgers_word_takes_the_place_of_commit() -> None:
    source, destination = asked(), received()
    assert source.step(MOVED) == [Write(Commit(T1, CARGO))]
    assert source.step(Durable(Commit(T1, CARGO))) == [Send("B", Notice(T1, ())), Release(T1, "B", CARGO)]
    assert destination.step(Message("A", Notice(T1, ()))) == []  # a notice alone starts nothing
    assert destination.step(MOVED) == [Write(Active(T1, ())), Activate(T1, "A", CARGO, ())]
    assert destination.step(Durable(Active(T1, ()))) == [Send("A", Acknowledge(T1))]
    assert destination.step(Message("A", Notice(T1, ()))) == [Send("A", Acknowledge(T1))]
    assert source.step(Message("B", Acknowledge(T1))) == [Write(Closed(T1, CARGO))]
    assert source.went("x") == ("B", 1) and destination.here("x") == 1
    assert destination.cargo(["x"]) == (Cargo("x", 2, HERE),)


def test_an_acknowledgement_before_our_chain_knows_is_no_fault() -> None:
    source = asked()
    assert source.step(Message("B", Acknowledge(T1))) == []
    assert source.step(MOVED) == [Write(Commit(T1, CARGO))]


@pytest.mark.parametrize("make", [asked, received])
def test_late_and_repeated_words_of_the_ledger_do_no_harm(make: object) -> None:
    machine = make()  # type: ignore[operator]
    before = machine.key()
    assert machine.step(Decided("x", 0, "A", b"")) == [] and machine.step(Decided("y", 5, "A", b"")) == []
    assert machine.key() == before
    machine.step(MOVED)
    after = machine.key()
    assert machine.step(MOVED) == [] and machine.key() == after


def test_before_it_asked_the_source_gives_up_by_itself_and_remembers() -> None:
    for source in (prepared(), offered()):
        effects = source.step(GiveUp(T1, "late"))
        assert effects[:2] == [Write(Withdrawn(T1, CARGO)), Resume(T1, "B", CARGO, "late")]
        assert sent(effects) == [Abort(T1, "late")] and source.here("x") == 0
        assert source.step(Durable(Prepare(T1, "B", CARGO))) == []  # no offer any more
        for late in (Accept(T1, True), Inquire(T1, True)):
            assert [type(each) for each in sent(source.step(Message("B", late)))] == [Abort]


def test_who_forgot_the_transfer_does_not_speak_for_the_ledger() -> None:
    """Its disk may be lost, and its signature on the way."""
    for word in (Accept(T1, True), Inquire(T1, True)):
        assert Held("A").step(Message("B", word)) == []
    assert sent(Held("A").step(Message("B", Inquire(T1)))) != []  # in local custody, nobody but it can have committed


def test_from_asking_on_only_the_ledger_ends_it() -> None:
    """[H4]"""
    source = asked()
    assert source.step(Message("B", Inquire(T1, True))) == []
    assert source.step(GiveUp(T1, "late")) == [Withdraw(T1, CARGO)]
    assert source.step(Remind()) == [Withdraw(T1, CARGO)] and source.step(GiveUp(T1, "late")) == []
    with pytest.raises(Misuse, match="on its way"):
        source.cargo(["x"])
    effects = source.step(STAYED)
    assert effects[0] == Write(Kept(T1, CARGO)) and isinstance(effects[1], Return)
    assert source.cargo(["x"]) == (Cargo("x", 2, HERE),)  # the abort took the epoch


def test_what_was_decided_wins_over_a_withdrawal() -> None:
    source = asked()
    source.step(GiveUp(T1, "late"))
    assert source.step(MOVED) == [Write(Commit(T1, CARGO))]


def test_after_a_restart_the_ledger_may_have_been_asked() -> None:
    source, effects = Held.recover("A", [Born("x", 0, HERE), Prepare(T1, "B", CARGO)])
    assert effects == [Withdraw(T1, CARGO)]  # and the agent is not restarted
    assert isinstance(source.step(STAYED)[1], Return)
    again, effects = Held.recover("A", [Born("x", 0, HERE), Prepare(T1, "B", CARGO), Kept(T1, CARGO)])
    assert again.here("x") == 1


def test_the_destination_drops_its_copy_at_the_ledgers_word_for_another() -> None:
    for entry in (STAYED, Decided("x", 1, "B", b""), Decided("x", 1, "B", T2), Decided("x", 2, "C", T2)):
        destination = received()
        effects = destination.step(entry)  # a re-homing to B is for its checkpoint, which may be newer
        assert effects[0] == Write(Discarded(T1)) and isinstance(effects[1], Discard)
        assert destination.step(MOVED) == []


def test_it_waits_and_asks_again() -> None:
    assert asked().step(Remind()) == [Ask(T1, "B", CARGO)]
    assert received().step(Remind()) == [Send("A", Inquire(T1, True))]


def test_an_agent_that_was_re_homed_does_not_run_here_any_more() -> None:
    entry = Decided("x", 4, "C", b"")
    for source in (newborn(), offered(), asked()):
        assert source.step(entry) == [Write(Revoked("x", 4, "C")), Revoke("x", 4, "C")]
        assert source.here("x") is None and source.went("x") == ("C", 4)
        assert source.step(entry) == [] and not source.leaving


def test_the_end_is_told_to_the_ledger_until_it_knows() -> None:
    source = newborn()
    assert source.step(Disposed("x")) == [Write(Ended("x"))]
    assert source.step(Durable(Ended("x"))) == [Dismiss("x", HERE, 1)]
    again, effects = Held.recover("A", [Born("x", 0, HERE), Ended("x")])
    assert effects == [Dismiss("x", HERE, 1)]
    _, effects = Held.recover("A", source.summary())
    assert effects == [Dismiss("x", HERE, 1)]
    assert again.step(Decided("x", 1, "", b"")) == [Write(Dismissed("x"))]
    assert again.step(Remind()) == []


def test_a_later_epoch_acknowledges() -> None:
    source = asked()
    source.step(MOVED)
    source.step(Durable(Commit(T1, CARGO)))
    assert source.step(Decided("x", 2, "C", T2)) == [Write(Closed(T1, CARGO))]


# Several at once

PAIR = (Cargo("x", 1, HERE), Cargo("y", 1, THERE))


def pair() -> Held:
    """Two on offer from A."""
    source = newborn()
    source.step(Created("y", THERE))
    assert source.step(Depart(T1, "B", source.cargo(["x", "y"]))) == [Write(Prepare(T1, "B", PAIR))]
    assert source.step(Durable(Prepare(T1, "B", PAIR))) == [Send("B", Offer(T1, PAIR, ()))]
    return source


def pair_asked() -> Held:
    source = pair()
    assert source.step(Message("B", Accept(T1, True))) == [Ask(T1, "B", PAIR)]
    return source


def pair_received() -> Held:
    destination = Held("B")
    destination.step(Message("A", Offer(T1, PAIR, ())))
    destination.step(Examined(T1, None))
    destination.step(Durable(Received(T1, "A", PAIR)))
    return destination


def test_two_arrive_by_one_entry() -> None:
    """The ledger's word on either is its word on both."""
    source, destination = pair_asked(), pair_received()
    assert source.step(Decided("y", 1, "B", T1)) == [Write(Commit(T1, PAIR))]
    assert source.step(MOVED) == []
    assert destination.step(MOVED) == [Write(Active(T1, ())), Activate(T1, "A", PAIR, ())]
    assert destination.step(Decided("y", 1, "B", T1)) == []
    assert destination.here("x") == destination.here("y") == 1


def test_when_one_is_given_away_before_the_move_the_others_wait_for_the_ledger_and_stay() -> None:
    source = pair_asked()
    left = (PAIR[1],)
    effects = source.step(Decided("x", 1, "C", b""))
    assert effects == [Write(Revoked("x", 1, "C")), Revoke("x", 1, "C"), Withdraw(T1, left)]
    assert source.step(Remind()) == [Withdraw(T1, left)] and source.went("x") == ("C", 1)
    again, effects = Held.recover("A", source.summary())
    assert effects == [Withdraw(T1, left)]
    for machine in (source, again):
        effects = machine.step(Decided("y", 1, "A", b""))
        assert effects[0] == Write(Kept(T1, left)) and isinstance(effects[1], Return)
        assert machine.cargo(["y"]) == (Cargo("y", 2, THERE),) and not machine.leaving and not machine.leaving_by


def test_before_the_source_has_signed_the_others_go_on_at_once() -> None:
    effects = pair().step(Decided("x", 1, "C", b""))
    left = (PAIR[1],)
    assert effects[:2] == [Write(Revoked("x", 1, "C")), Revoke("x", 1, "C")]
    assert effects[2] == Write(Withdrawn(T1, left)) and isinstance(effects[3], Resume)
    assert [type(each) for each in sent(effects)] == [Abort]


def test_each_that_is_withdrawn_goes_on_when_the_ledger_says_so_of_it() -> None:
    source = pair_asked()
    assert source.step(GiveUp(T1, "late")) == [Withdraw(T1, PAIR)]
    for load, left in zip(PAIR, (PAIR[1:], ()), strict=True):
        kept, back = source.step(Decided(load.agent, 1, "A", b""))
        assert kept == Write(Kept(T1, (load,))) and isinstance(back, Return) and back.cargo == (load,)
        assert source.step(Remind()) == ([Withdraw(T1, left)] if left else [])


def test_the_destination_drops_all_when_one_is_given_elsewhere() -> None:
    for entry in (Decided("y", 1, "C", b""), Decided("y", 1, "A", b""), Decided("x", 2, "C", T2)):
        destination = pair_received()
        effects = destination.step(entry)
        assert effects[0] == Write(Discarded(T1)) and isinstance(effects[1], Discard)
        assert effects[1].cargo == PAIR


def test_one_that_has_gone_on_already_ends_where_it_came_to() -> None:
    destination = pair_received()
    destination.step(Decided("x", 1, "B", T1))
    effects = destination.step(Decided("y", 2, "C", T2))
    assert effects == [Write(Revoked("y", 2, "C")), Revoke("y", 2, "C")]
    assert destination.here("x") == 1 and destination.here("y") is None


def test_held_and_local_custody_do_not_move_as_one() -> None:
    both = (Cargo("x", 1, HERE), Cargo("y", 1))
    machine = newborn()
    machine.step(Created("y"))
    with pytest.raises(Misuse, match="x in held custody and y in local custody cannot move as one"):
        machine.cargo(["x", "y"])
    with pytest.raises(Misuse, match="cannot move as one"):
        machine.step(Depart(T1, "B", both))
    with pytest.raises(PeerFault, match="in held and in local custody"):
        Held("B").step(Message("A", Offer(T1, both, ())))


def test_custody_comes_with_the_cargo_and_with_a_short_log() -> None:
    log = [Received(T1, "A", CARGO), Active(T1, ()), Known("y", 3, True, None, BIRTH, ())]
    machine, _ = Held.recover("B", log)
    assert machine.cargo(["x"]) == (Cargo("x", 2, HERE),) and machine.cargo(["y"]) == (Cargo("y", 4),)
    assert {known.agent: known.held for known in machine.summary() if isinstance(known, Known)} == {
        "x": True,
        "y": False,
    }
