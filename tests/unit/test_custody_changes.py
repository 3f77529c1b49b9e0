"""A change of an agent's custody, step by step: what waits for the ledger, and what a crash leaves. docs/custody.md."""

import pytest
from msgspec.structs import replace

from agentplatform.custody.events import (
    Ask,
    ChangeCustody,
    Changed,
    Created,
    Decided,
    Depart,
    Dismiss,
    Disposed,
    Durable,
    GiveUp,
    Remind,
    Resume,
    Return,
    Revoke,
    Withdraw,
    Write,
)
from agentplatform.custody.handoff import Handoff
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import Born, Convert, Ended, Kept, Known, Revoked, Withdrawn
from agentplatform.custody.waits import LEDGER, waits
from ledger.errors import Misuse

HERE = b"its residence"
ENTRY = b"the entry, with its owner's signature"
T1, T2 = b"\1" * 16, b"\2" * 16
LOAD = Cargo("x", 1, HERE)
LOCAL = replace(LOAD, subject=b"")
BEGUN = Decided("x", 1, "A", b"")
ENDED = Decided("x", 1, "", b"")


def asked(held: bool) -> Held:
    """A change to the other kind of custody is on its way to the ledger."""
    host = Held("A")
    host.step(Created("x", HERE if held else b""))
    entry = b"" if held else ENTRY
    record = Convert(T1, (LOAD,), entry)
    assert host.step(ChangeCustody(T1, LOAD, entry)) == [Write(record)]  # nothing is asked before it is durable [H2]
    assert host.step(Durable(record)) == [Ask(T1, "A", (LOAD,), entry)]
    return host


def test_the_ledgers_entry_is_the_custody_in_which_it_goes_on() -> None:
    for held, entry, load in ((False, BEGUN, LOAD), (True, ENDED, LOCAL)):
        host = asked(held)
        assert host.step(entry) == [Write(Kept(T1, (load,))), Changed(T1, load)]
        assert host.cargo(["x"]) == (replace(load, epoch=2),) and not host.leaving
        before = host.key()
        assert host.step(entry) == [] and host.key() == before


def test_a_change_that_is_given_up_takes_the_epoch_too() -> None:
    """[H4] Of the two entries for the epoch one passes."""
    for held, entry, load in ((False, ENDED, LOCAL), (True, BEGUN, LOAD)):
        host = asked(held)
        withdraw = Withdraw(T1, (LOAD,), b"" if held else ENTRY)
        assert host.step(GiveUp(T1, "late")) == [withdraw] == host.step(Remind())
        assert host.step(GiveUp(T1, "late")) == []
        kept, stays = host.step(entry)
        assert kept == Write(Kept(T1, (load,))) and isinstance(stays, Return) and stays.cargo == (load,)
        assert host.cargo(["x"]) == (replace(load, epoch=2),)


def test_what_was_decided_wins_over_giving_up() -> None:
    host = asked(False)
    host.step(GiveUp(T1, "late"))
    assert host.step(BEGUN) == [Write(Kept(T1, (LOAD,))), Changed(T1, LOAD)]


def test_before_it_is_written_the_host_gives_up_by_itself() -> None:
    host = Held("A")
    host.step(Created("x"))
    host.step(ChangeCustody(T1, LOAD, ENTRY))
    assert host.step(GiveUp(T1, "late")) == [Write(Withdrawn(T1, (LOAD,))), Resume(T1, "A", (LOAD,), "late")]
    assert host.step(Durable(Convert(T1, (LOAD,), ENTRY))) == []  # nothing is asked any more
    assert host.cargo(["x"]) == (LOCAL,)


@pytest.mark.parametrize("held", [False, True])
def test_after_a_restart_it_waits_for_the_ledger(held: bool) -> None:
    """It may have been asked; the agent is not started before it has said which."""
    log = [Born("x", 0, HERE if held else b""), Convert(T1, (LOAD,), b"" if held else ENTRY)]
    withdraw = Withdraw(T1, (LOAD,), b"" if held else ENTRY)
    for records in (log, asked(held).summary()):
        host, effects = Held.recover("A", records)
        assert effects == [withdraw]
        for word, load in ((BEGUN, LOAD), (ENDED, LOCAL)):
            again, _ = Held.recover("A", records)
            kept, _ = again.step(word)
            assert kept == Write(Kept(T1, (load,))) and again.here("x") == 1
    host, effects = Held.recover("A", [*log, Kept(T1, (LOCAL,))])
    assert host.cargo(["x"]) == (Cargo("x", 2),)


def test_a_quorum_that_gave_it_to_another_host_wins() -> None:
    for entry in (Decided("x", 1, "C", b""), Decided("x", 3, "C", T2)):
        host = asked(True)
        assert host.step(entry) == [Write(Revoked("x", entry.epoch, "C")), Revoke("x", entry.epoch, "C")]
        assert host.went("x") == ("C", entry.epoch) and not host.leaving


def test_an_owner_that_signed_for_two_hosts_has_it_where_it_is() -> None:
    """The other host has no agent to go with its entry. Ours can never pass any more: it stays in local custody."""
    for entry in (Decided("x", 1, "C", b""), Decided("x", 5, "C", b""), Decided("x", 5, "", b"")):
        host = asked(False)
        kept, stays = host.step(entry)
        assert kept == Write(Kept(T1, (LOCAL,))) and isinstance(stays, Return) and host.here("x") == 1


def test_late_words_of_the_ledger_change_nothing() -> None:
    host = asked(False)
    before = host.key()
    assert host.step(Decided("x", 0, "", b"")) == [] and host.key() == before  # it was in held custody once


def test_meanwhile_it_neither_leaves_nor_ends_nor_changes_again() -> None:
    for held in (False, True):
        host = asked(held)
        for event in (Disposed("x"), Depart(T2, "B", (LOAD,)), ChangeCustody(T2, LOAD, ENTRY)):
            with pytest.raises(Misuse, match="change its custody"):
                host.step(event)
        (wait,) = waits(host, False)
        assert (wait.agents, wait.waits_for) == (("x",), LEDGER) and "it is asked to" in wait.why
        host.step(GiveUp(T1, "late"))
        assert "did not come about in time" in next(waits(host, False)).why


@pytest.mark.parametrize(
    ("held", "event", "why"),
    [
        (False, ChangeCustody(T1, LOAD, b""), "in local custody already"),
        (True, ChangeCustody(T1, LOAD, ENTRY), "in held custody already"),
        (False, ChangeCustody(T1, replace(LOAD, epoch=2), ENTRY), "at epoch 0"),
        (False, ChangeCustody(T1, LOCAL, ENTRY), "under its own subject"),
        (True, ChangeCustody(T1, replace(LOAD, subject=b"another's"), b""), "under its own subject"),
        (True, ChangeCustody(T1, replace(LOAD, agent="y"), b""), "not on A"),
    ],
)
def test_what_cannot_be_asked(held: bool, event: ChangeCustody, why: str) -> None:
    host = Held("A")
    host.step(Created("x", HERE if held else b""))
    with pytest.raises(Misuse, match=why):
        host.step(event)
    assert not host.leaving
    asked_before = asked(held)
    asked_before.step(BEGUN if not held else ENDED)
    with pytest.raises(Misuse, match="used before"):
        asked_before.step(ChangeCustody(T1, replace(LOAD, epoch=2), b"" if not held else ENTRY))


def test_a_host_without_held_custody_changes_nothing() -> None:
    host = Handoff("A")
    host.step(Created("x"))
    with pytest.raises(Misuse, match="held custody"):
        host.step(ChangeCustody(T1, LOAD, ENTRY))


def test_what_is_in_local_custody_again_ends_without_the_ledger() -> None:
    host = asked(True)
    host.step(ENDED)
    assert host.step(Disposed("x")) == [Write(Ended("x"))]
    assert not any(isinstance(each, Dismiss) for each in host.step(Durable(Ended("x"))))
    assert [known.held for known in host.summary() if isinstance(known, Known)] == [False]
