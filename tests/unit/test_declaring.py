"""The machine when the source of a handoff is lost: docs/custody.md, "A source that is lost"."""

from collections.abc import Iterable

import pytest

from agentplatform.custody.declaring import fresh
from agentplatform.custody.events import (
    Activate,
    Created,
    Depart,
    Discard,
    Disposed,
    Durable,
    Effect,
    Examine,
    Examined,
    Lost,
    Message,
    Remind,
    Resume,
    Revoke,
    Send,
    Write,
)
from agentplatform.custody.held import Held
from agentplatform.custody.messages import (
    Abort,
    Accept,
    Acknowledge,
    Canvass,
    Cargo,
    Forswear,
    Inquire,
    Notice,
    Object,
    Offer,
    Refuse,
)
from agentplatform.custody.records import Aborted, Closed, Declared, Discarded, Forsworn, Past, Record, Revoked
from agentplatform.custody.state import Phase

T1, T2 = b"\1" * 16, b"\2" * 16
CARGO = (Cargo("x", 3), Cargo("y", 1))  # a group on its way from S
FRESH = (Cargo("x", 4), Cargo("y", 2))
CANVASS = Canvass(T1, "S", CARGO, ())


def written(effects: Iterable[Effect]) -> list[Record]:
    return [effect.record for effect in effects if isinstance(effect, Write)]


def durable(machine: Held, effects: list[Effect]) -> list[Effect]:
    """All that was written becomes durable. What else there was to do, and what is to be done then."""
    rest = [effect for effect in effects if not isinstance(effect, Write)]
    return rest + [each for record in written(effects) for each in machine.step(Durable(record))]


def taken(host: str = "D", source: str = "S", transfer: bytes = T1, cargo: tuple[Cargo, ...] = CARGO) -> Held:
    """The copies are inert there."""
    machine = Held(host)
    (examine,) = machine.step(Message(source, Offer(transfer, cargo, ())))
    assert isinstance(examine, Examine)
    assert durable(machine, machine.step(Examined(transfer, None))) == [Send(source, Accept(transfer))]
    return machine


def resident(host: str, *agents: str) -> Held:
    machine = Held(host)
    for agent in agents:
        durable(machine, machine.step(Created(agent)))
    return machine


def again(machine: Held) -> Held:
    """Restarted, from the short log."""
    past = [Past(transfer, outcome) for transfer, outcome in machine.past.items()]
    return Held.recover(machine.host, [*past, *machine.summary()])[0]


def test_a_host_that_has_nothing_of_it_swears_when_that_is_durable() -> None:
    machine = Held("M")
    effects = machine.step(Message("D", CANVASS))
    assert effects == [Write(Forsworn(T1, "D", "S", fresh(CARGO)))] and fresh(CARGO) == FRESH
    assert durable(machine, effects) == [Send("D", Forswear(T1))]


def test_an_oath_is_kept_over_a_restart_and_no_longer_than_needed() -> None:
    machine = Held("M")
    durable(machine, machine.step(Message("D", CANVASS)))
    for each in (machine, again(machine)):
        for epoch in (3, 4):
            (answer,) = each.step(Message("S", Offer(T2, (Cargo("x", epoch),), ())))
            assert isinstance(answer, Send) and isinstance(answer.message, Refuse) and "swore" in answer.message.reason
    (examine,) = machine.step(Message("D", Offer(T2, (Cargo("x", 5),), ())))
    assert isinstance(examine, Examine)


def objection(machine: Held) -> str:
    before = machine.key()
    (answer,) = machine.step(Message("D", CANVASS))
    assert machine.key() == before
    assert isinstance(answer, Send) and answer.to == "D" and isinstance(answer.message, Object)
    return answer.message.reason


def sent_on(host: str, *, epoch: int, to: str, commit: bool = True) -> Held:
    """x was there and went to `to`, at `epoch` there."""
    machine = resident(host, "x") if epoch == 1 else taken(host, "P", b"\7" * 16, (Cargo("x", epoch - 1),))
    if epoch > 1:
        durable(machine, machine.step(Message("P", Notice(b"\7" * 16, ()))))
    durable(machine, machine.step(Depart(T2, to, (Cargo("x", epoch),))))
    if commit:
        durable(machine, machine.step(Message(to, Accept(T2))))
    return machine


def test_whoever_runs_holds_or_forwarded_it_objects() -> None:
    ended = resident("M", "x")
    durable(ended, ended.step(Disposed("x")))
    examining = Held("M")
    examining.step(Message("S", Offer(T2, (Cargo("x", 2),), ())))
    for machine, why in (
        (resident("M", "y"), "y is on M"),
        (taken("M", "S", T2, (Cargo("x", 3),)), "has a copy of x too, from S"),
        (taken("M", "S", T2, (Cargo("x", 1),)), "has a copy of x too, from S"),
        (examining, "has a copy of x too"),
        (sent_on("M", epoch=3, to="N", commit=False), "x is on M"),  # on offer
        (sent_on("M", epoch=3, to="D"), "went from M to D at epoch 3"),
        (sent_on("M", epoch=4, to="S"), "went from M to S at epoch 4"),
        (ended, "x ended on M"),
    ):
        assert why in objection(machine)


def test_who_had_it_before_the_source_may_swear() -> None:
    """Also when the source's acknowledgement never came: the later epoch shows that it had it."""
    machine = sent_on("M", epoch=2, to="S")
    assert machine.leaving[T2].phase is Phase.COMMITTED
    assert written(machine.step(Message("D", CANVASS))) == [Forsworn(T1, "D", "S", FRESH)]
    assert written(machine.step(Lost("x", 4, "D", T1))) == [Closed(T2, (Cargo("x", 2),))]
    assert machine.step(Remind()) == []


def test_the_declared_copies_run_at_the_fresh_epochs_and_only_once() -> None:
    machine = taken()
    effects = machine.step(Lost("x", 4, "D", T1))
    assert effects == [Write(Declared(T1, FRESH)), Activate(T1, "S", FRESH, ())]
    assert machine.step(Lost("y", 2, "D", T1)) == []  # the other of the group
    assert durable(machine, [effects[0]]) == []
    for each in (machine, again(machine)):
        assert (each.here("x"), each.here("y")) == (4, 2) and not each.arriving
        for late in (Lost("x", 4, "D", T1), Message("S", Abort(T1, "")), Remind()):
            assert each.step(late) == []
        (answer,) = each.step(Message("S", Offer(T1, CARGO, ())))
        assert isinstance(answer, Send) and isinstance(answer.message, Refuse)
        (answer,) = each.step(Message("S", Offer(T2, (Cargo("x", 4),), ())))
        assert isinstance(answer, Send) and isinstance(answer.message, Refuse)


def test_a_crash_before_it_was_durable_leaves_the_inert_copy_which_hears_it_again() -> None:
    machine = again(taken())
    assert machine.here("x") is None
    assert written(machine.step(Lost("x", 4, "D", T1))) == [Declared(T1, FRESH)]


def test_nothing_runs_by_a_declaration_for_another_host_or_handoff() -> None:
    for entry in (Lost("x", 4, "E", T1), Lost("x", 4, "D", T2), Lost("x", 9, "E", T2)):
        machine = taken()
        effects = machine.step(entry)
        assert written(effects) == [Discarded(T1)]
        assert [type(each) for each in effects] == [type(Write(Discarded(T1))), Discard]
        assert machine.here("x") is None
    machine = taken()
    assert machine.step(Lost("x", 2, "E", T2)) == []  # an old one: the agent went on since, and came from S


def test_a_copy_in_held_custody_is_the_ledgers() -> None:
    cargo = (Cargo("x", 3, b"its residence"),)
    machine = Held("D")
    machine.step(Message("S", Offer(T1, cargo, ())))
    durable(machine, machine.step(Examined(T1, None)))
    assert machine.step(Lost("x", 4, "D", T1)) == []


def test_a_source_that_comes_back_gives_up_its_claim_before_it_commits_or_resumes() -> None:
    for machine in (sent_on("S", epoch=3, to="D", commit=False), again(sent_on("S", epoch=3, to="D", commit=False))):
        effects = machine.step(Lost("x", 4, "D", T2))
        assert written(effects)[-1] == Revoked("x", 4, "D") and Revoke("x", 4, "D") in effects
        assert machine.here("x") is None and machine.went("x") == ("D", 4) and not machine.leaving
        late = machine.step(Message("D", Accept(T2)))
        assert written(late) == [] and all(isinstance(each.message, Abort) for each in late if isinstance(each, Send))
        with pytest.raises(Exception, match="went to D"):
            machine.cargo(["x"])


def test_others_of_its_handoff_go_on_at_the_source() -> None:
    machine = resident("S", "x", "y")
    cargo = machine.cargo(["x", "y"])
    durable(machine, machine.step(Depart(T2, "D", cargo)))
    effects = machine.step(Lost("x", 4, "E", T1))
    assert [type(record) for record in written(effects)] == [Aborted, Revoked]
    (resume,) = (each for each in effects if isinstance(each, Resume))
    assert [load.agent for load in resume.cargo] == ["y"] and machine.here("y") == 0


def test_a_commit_on_its_way_to_the_disk_is_closed_by_the_next_reminder() -> None:
    machine = sent_on("S", epoch=3, to="D", commit=False)
    (commit,) = machine.step(Message("D", Accept(T2)))
    assert isinstance(commit, Write)
    assert machine.step(Lost("x", 4, "D", T2)) == []
    machine.step(Durable(commit.record))
    assert written(machine.step(Lost("x", 4, "D", T2))) == [Closed(T2, (Cargo("x", 3),))]


def test_the_declared_host_closes_its_own_earlier_hop() -> None:
    machine = sent_on("D", epoch=1, to="S")
    machine.step(Message("S", Offer(T1, (Cargo("x", 2),), ())))
    durable(machine, machine.step(Examined(T1, None)))
    records = written(machine.step(Lost("x", 3, "D", T1)))
    assert records == [Closed(T2, (Cargo("x", 1),)), Declared(T1, (Cargo("x", 3),))]


def test_answers_and_inquiries_stay_as_they_are() -> None:
    machine = taken()
    assert machine.step(Remind()) == [Send("S", Inquire(T1))]
    for word in (Forswear(T1, bytes(64)), Object(T1, "no")):
        assert machine.step(Message("M", word)) == []
    assert durable(machine, machine.step(Message("S", Notice(T1, ()))))[-1] == Send("S", Acknowledge(T1))
