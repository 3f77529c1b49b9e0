"""What hosts did wrong: counted where they did it themselves, bounded, durable, and suspicious above a rate."""

import logging

import pytest

from agentplatform.blaming import COLLECTION, Blaming
from ledger import codec
from ledger.errors import PeerFault, Unavailable
from ledger.inbox import TRANSACTIONS, Inbox
from ledger.rates import Rates
from services.dms.memory import MemoryStore
from services.eds.events import HostSuspected
from services.tms.blame import (
    MAX_KINDS,
    MAX_NEWEST,
    MAX_REASON,
    QUIET,
    SUSPECT_AFTER,
    WINDOW,
    Book,
    Fault,
    Record,
)

NOON = 1_700_000_000.0


class FullStore(MemoryStore):
    """A store whose disk is full as long as it is told so."""

    full = False

    async def write(self, *args: object) -> None:
        if self.full:
            raise Unavailable("the disk is full")
        await super().write(*args)  # type: ignore[arg-type]


class Host:
    """One host's book, at a time that the test sets."""

    def __init__(self, store: MemoryStore | None = None) -> None:
        self.store = store or MemoryStore()
        self.now = NOON
        self.suspected: list[HostSuspected] = []
        self.blaming = Blaming(
            self.store, lambda host: host in ("east", "west"), self.suspected.append, lambda: self.now
        )

    def fault(self, sender: str, named: str = "", what: str = "sent nonsense", kind: str = "mail") -> None:
        self.blaming.heard(sender, kind, PeerFault(named or sender, what))

    def of(self, host: str) -> Record | None:
        return next((record for record in self.blaming.records() if record.host == host), None)


def test_faults_are_counted_by_kind_and_the_newest_kept_with_time_and_reason() -> None:
    host = Host()
    host.fault("east")
    host.now += 5
    host.fault("east")
    host.fault("east", what="sent too much", kind="handoff")
    record = host.of("east")
    assert record is not None and record.kinds == {"mail": 2, "handoff": 1} and record.total == 3
    assert record.newest == (
        Fault("handoff", "sent too much", NOON + 5, NOON + 5, 1),
        Fault("mail", "sent nonsense", NOON, NOON + 5, 2),
    )


def test_nobody_can_have_another_blamed() -> None:
    host = Host()
    host.fault("east", named="west")  # east passed on what names west
    host.fault("nobody")  # whoever that is, the ledger never had it
    host.fault("certificate of height 7", named="certificate of height 7")
    assert host.blaming.records() == [] and host.suspected == []


def test_a_book_that_believed_the_name_in_the_fault_would_be_seen() -> None:
    """The twin of the test above: who books by the fault's own name has west blamed by east."""
    book, fault = Book(), PeerFault("west", "sent nonsense")
    book.add(fault.peer, "mail", str(fault), NOON)
    assert [record.host for record in book.records()] == ["west"]


def test_whatever_a_host_sends_its_record_stays_small() -> None:
    host = Host()
    for number in range(2_000):
        host.now += 0.001
        host.fault("east", what=f"{number} " + "x" * 10_000, kind=f"kind {number % 40}")
    record = host.of("east")
    assert record is not None and len(record.newest) == MAX_NEWEST and len(record.kinds) == MAX_KINDS
    assert all(len(fault.reason) <= MAX_REASON for fault in record.newest)
    assert len(codec.encode(record)) < MAX_NEWEST * (MAX_REASON + 64)
    assert len(host.suspected) == 1


async def test_it_outlives_a_start() -> None:
    host = Host()
    host.fault("east")
    await host.blaming.write()
    again = Host(host.store)
    await again.blaming.load()
    assert again.blaming.records() == host.blaming.records() != []
    again.fault("east")
    record = again.of("east")
    assert record is not None and record.total == 2


async def test_a_host_is_written_once_a_round_and_what_could_not_be_written_later() -> None:
    store = FullStore()
    host = Host(store)
    for _ in range(1_000):
        host.fault("east")
    store.full = True
    await host.blaming.write()
    assert await store.keys(COLLECTION) == []
    store.full = False
    await host.blaming.write()
    raw = await store.get(COLLECTION, "east")
    assert raw is not None and codec.decode(raw, Record, "test").total == 1_000
    await store.delete(COLLECTION, "east")
    await host.blaming.write()
    assert await store.keys(COLLECTION) == []  # nothing is fresh


def test_too_many_at_once_are_suspicious_and_told_once() -> None:
    host = Host()
    for _ in range(SUSPECT_AFTER - 1):
        host.fault("east")
    assert host.suspected == []
    host.now += 2
    host.fault("east", what="sent \x1b[2J")
    (event,) = host.suspected
    assert event.host == "east" and event.reason == f"{SUSPECT_AFTER} faults within 2 s, the last by mail: sent \x1b[2J"
    for _ in range(5 * SUSPECT_AFTER):
        host.fault("east")
    assert len(host.suspected) == 1
    host.now += QUIET
    for _ in range(SUSPECT_AFTER):
        host.fault("east")
    assert len(host.suspected) == 2


def test_few_in_a_long_time_are_not_suspicious() -> None:
    host = Host()
    for _ in range(20 * SUSPECT_AFTER):
        host.now += WINDOW / (SUSPECT_AFTER - 1) + 0.01
        host.fault("east")
    assert host.suspected == []


def test_faults_of_two_hosts_are_not_added_up() -> None:
    host = Host()
    for _ in range(SUSPECT_AFTER - 1):
        host.fault("east")
        host.fault("west")
    assert host.suspected == []


def test_the_replicas_inbox_says_whose_message_it_was(caplog: pytest.LogCaptureFixture) -> None:
    def room(sender: str, body: bytes) -> None:
        raise PeerFault(body.decode(), "false")

    seen: list[tuple[str, str]] = []
    inbox = Inbox("north", Rates(lambda: 0.0), {TRANSACTIONS: room}, failed=lambda why: None, check=lambda: None)
    inbox.on_fault(lambda sender, fault: seen.append((sender, fault.peer)))
    with caplog.at_level(logging.ERROR):
        inbox.receive("east", TRANSACTIONS + b"west")
        inbox.receive("east", TRANSACTIONS + b"east")
        inbox.receive("east", b"\xff")
        inbox.blame(PeerFault("west", "gave a false piece"))
    assert seen == [("east", "west"), ("east", "east"), ("east", "east"), ("west", "west")]
