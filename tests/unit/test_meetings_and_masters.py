"""Agents that meet, and a master with its workers, on hosts that exist by being named and that crash."""

from typing import Any

import pytest

from agentplatform import Later, Message, Ticket, handles
from agentplatform.itineraries import Master, MasterWorkers, Meeting, Traveller, Worker
from agentplatform.runners.inline import Inline, InlineAgent
from ledger.errors import PeerFault
from tests.helpers.crashing_inline import CrashingInline, until

GUESTS = ("ada", "bob", "eve")


class Guest(Traveller):
    def on_creation(self, init: Any) -> None:
        self.met: list[Any] = []
        self.greeted: list[str] = []

    @handles("meet")
    def meet(self, meeting: Meeting) -> None:
        self.follow(meeting)

    @handles("met")
    def say(self) -> Any:
        return [self.host, self.met, sorted(self.greeted)]

    @handles("hello")
    def hello(self, name: str) -> None:
        self.greeted.append(name)

    def on_stop(self) -> None:
        assert isinstance(self.itinerary, Meeting)
        self.met.append(sorted(each.rpartition("-")[0] for each in self.itinerary.present))
        for each in self.itinerary.present:
            if each != self.id:
                self.send(each, "hello", self.name)


def greeted(name: str) -> list[str]:
    return [each for each in GUESTS if each != name]


def meet(crash: int | None, kept: bool, cls: type[Guest] = Guest) -> int:
    """Three agents come to a place one after the other; bob's host crashes once. Returns the number of his events."""
    with CrashingInline("home") as inline:
        guests = [inline.create(cls, name=name) for name in GUESTS]
        inline.arm(guests[1].id, crash, kept)
        for guest in guests:
            guest.call("meet", Meeting("hall", GUESTS, patience=600.0))
        until(inline, lambda: all(each.call("met")[1] for each in guests))
        events = inline.guests.events
        until(inline, lambda: all(len(each.call("met")[2]) >= 2 for each in guests))
        inline.advance(1_000.0)
        assert crash is None or inline.guests.crashes == 1
        for guest, name in zip(guests, GUESTS, strict=True):
            assert guest.call("met") == ["hall", [sorted(GUESTS)], greeted(name)], f"{name}, after {crash}, {kept=}"
        assert inline.guests.guest(guests[0].id).topics == set()
        assert events >= 4
        return events


def test_agents_meet_and_each_knows_who_was_there() -> None:
    meet(None, False)


def test_a_crash_of_a_guest_at_any_point_is_not_noticed_by_the_others() -> None:
    for at in range(meet(None, False)):
        for kept in (False, True):
            meet(at, kept)


class Mute(Guest):
    """Does not answer those who come later."""

    def send(self, receiver: str, kind: str, body: Any = None) -> None:
        if kind == "hello":
            super().send(receiver, kind, body)


def test_the_harness_catches_a_guest_who_does_not_answer() -> None:
    with pytest.raises(AssertionError, match="never came to that"):
        meet(None, False, Mute)


def test_who_has_waited_long_enough_goes_on_with_those_who_came() -> None:
    with Inline("home") as inline:
        ada, bob = (inline.create(Guest, name=name) for name in GUESTS[:2])
        ada.call("meet", Meeting("hall", GUESTS, patience=60.0))
        until(inline, lambda: ada.host == "hall")
        inline.advance(30.0)
        bob.call("meet", Meeting("hall", GUESTS, patience=60.0))
        until(inline, lambda: len(ada.agent.itinerary.present) == 2)  # type: ignore[attr-defined]
        inline.advance(31.0)
        until(inline, lambda: ada.call("met")[1] == [["ada", "bob"]])
        assert bob.call("met")[1] == []
        inline.advance(30.0)
        until(inline, lambda: bob.call("met")[1] == [["ada", "bob"]])


def test_only_guests_are_heard_of_and_one_for_each_name() -> None:
    with Inline("home") as inline:
        ada, *others = (inline.create(Guest, name=name) for name in ("ada", "mallory", "bob", "bob"))
        for each in (ada, *others):
            each.call("meet", Meeting("hall", GUESTS, patience=60.0))
        until(inline, lambda: len(ada.agent.itinerary.present) == 2)  # type: ignore[attr-defined]
        inline.settle()
        assert set(ada.agent.itinerary.present) == {ada.id, others[1].id}  # type: ignore[attr-defined]
        assert ada.id not in others[0].agent.itinerary.present  # type: ignore[attr-defined]
        ada.call("itinerary: present", {"topic": "another on hall", "asks": True})  # nobody is disturbed by it
        inline.settle()
        assert ada.call("met")[1] == []


def test_who_expects_nobody_else_does_not_wait() -> None:
    with Inline("home") as inline:
        ada = inline.create(Guest, name="ada")
        ada.call("meet", Meeting("hall", ("ada",)))
        until(inline, lambda: ada.call("met") == ["hall", [["ada"]], []])


def test_a_meeting_place_that_is_shut_ends_the_meeting() -> None:
    with Inline("home", {"hall": "closed"}) as inline:
        ada = inline.create(Guest, name="ada")
        ada.call("meet", Meeting(Ticket("hall", retries=2), GUESTS))
        until(inline, lambda: ada.agent.itinerary.over)  # type: ignore[attr-defined]
        assert ada.agent.itinerary.visits[0].error == f"hall did not take {ada.id}: closed"  # type: ignore[attr-defined]


# Master and workers


class Squarer(Worker):
    def on_creation(self, init: Any) -> None:
        self.done: list[Any] = []

    @handles("done")
    def say(self) -> list[Any]:
        return self.done

    def work(self, part: Any) -> Any:
        if part == "stuck":
            self.dispose()
        if part == "bad":
            raise ValueError("bad part")
        self.done.append(part)
        self.send("log", "note", part)
        return [part * part, self.host]


class Boss(Master):
    def on_creation(self, init: Any) -> None:
        self.caller: Later | None = None
        self.notes: list[Any] = []
        self.answers: list[Any] = []

    @handles("compute")
    def compute(self, crew: MasterWorkers, message: Message) -> Later | None:
        self.caller = message.later
        self.employ(crew)
        return message.later

    @handles("dismiss")
    def end(self) -> None:
        self.dismiss()

    @handles("note")
    def note(self, part: Any) -> None:
        self.notes.append(part)

    @handles("read")
    def read(self) -> list[Any]:
        return self.notes

    async def on_results(self) -> None:
        assert self.crew is not None and self.caller is not None
        self.answers = [each.value or each.error for each in self.crew.results()]
        self.reply(self.caller, self.answers)


def crew_of(inline: Inline, parts: list[Any], hosts: tuple[str, ...], **terms: Any) -> MasterWorkers:
    workers = tuple((inline.create(Squarer).id, host) for host in hosts)
    return MasterWorkers(workers, tuple(parts), **terms)


def test_workers_share_the_parts() -> None:
    with Inline("home") as inline:
        boss = inline.create(Boss)
        crew = crew_of(inline, [1, 2, 3, 4, 5], ("a", "b"))
        answers = boss.call("compute", crew)
        assert [value for value, _ in answers] == [1, 4, 9, 16, 25] and {host for _, host in answers} == {"a", "b"}
        with pytest.raises(PeerFault, match="works for boss"):
            InlineAgent(inline, crew.workers[0][0]).call("itinerary: work", {"where": "home", "part": 1})
        with pytest.raises(PeerFault, match="works for boss"):
            InlineAgent(inline, crew.workers[0][0]).call("itinerary: dismiss")
        boss.call("dismiss")
        inline.settle()
        with pytest.raises(Exception, match="has ended"):
            InlineAgent(inline, crew.workers[0][0]).call("done")


def test_a_worker_that_does_not_reach_its_host_leaves_its_part_to_the_others() -> None:
    with Inline("home", {"shut": "closed"}) as inline:
        boss = inline.create(Boss)
        crew = crew_of(inline, [1, 2, 3], ("shut", "b"))
        assert boss.call("compute", crew) == [[1, "b"], [4, "b"], [9, "b"]]
        assert list(boss.agent.crew.lost) == [crew.workers[0][0]]  # type: ignore[attr-defined]


def test_a_part_that_nobody_can_do_is_given_up_and_the_workers_go_on() -> None:
    with Inline("home") as inline:
        boss = inline.create(Boss)
        answers = boss.call("compute", crew_of(inline, [1, "bad", 3], ("a", "b"), tries=2))
        assert [answers[0][0], answers[2][0]] == [1, 9] and answers[1] == "ValueError: bad part"
        assert boss.agent.crew.lost == {}  # type: ignore[attr-defined]


def test_when_no_worker_is_left_each_part_says_so() -> None:
    with Inline("home", {"shut": "closed"}) as inline:
        boss = inline.create(Boss)
        answers = boss.call("compute", crew_of(inline, [1, 2], ("shut",)))
        assert all("no worker is left" in answer and "closed" in answer for answer in answers)


def compute(victim: int, crash: int | None, kept: bool, cls: type[Boss] = Boss) -> int:
    """With a crash of the boss (0) or of a worker; returns the number of the victim's events."""
    with CrashingInline("home") as inline:
        boss, log = inline.create(cls), inline.create(Boss, name="log")
        crew = crew_of(inline, [1, 2, 3], ("a", "home"))
        inline.arm([boss.id, *(worker for worker, _ in crew.workers)][victim], crash, kept)
        boss.send("compute", crew)
        until(inline, lambda: bool(boss.agent.answers))  # type: ignore[attr-defined]
        answers = boss.agent.answers  # type: ignore[attr-defined]
        events = inline.guests.events
        inline.settle()
        where = f"after {victim} crashed at {crash}, {kept=}"
        assert crash is None or inline.guests.crashes == 1, where
        assert [value for value, _ in answers] == [1, 4, 9], where
        assert sorted(log.call("read")) == [1, 2, 3], where  # each part was done once
        assert boss.agent.crew.lost == boss.agent.crew.failures == {}, where  # type: ignore[attr-defined]
        assert events >= 4
        return events


@pytest.mark.parametrize("victim", [0, 1, 2])
def test_a_crash_of_the_master_or_a_worker_at_any_point_costs_no_part_and_doubles_none(victim: int) -> None:
    for at in range(compute(victim, None, False)):
        for kept in (False, True):
            compute(victim, at, kept)


class Ledgerless(Boss):
    """Writes down what a worker said, and when it is asked for its state, what it knew before."""

    before = None

    def worker_answered(self, reply: Any) -> Any:
        self.before = self.crew
        return super().worker_answered(reply)

    def __getstate__(self) -> Any:
        return super().__getstate__() | {"crew": self.before or self.crew}


def test_the_harness_catches_a_master_who_forgets_an_answer() -> None:
    events = compute(0, None, False, Ledgerless)
    with pytest.raises(AssertionError, match="never came to that"):
        compute(0, events - 2, True, Ledgerless)


def test_a_worker_that_is_gone_is_not_waited_for_longer_than_patience() -> None:
    with Inline("home") as inline:
        boss = inline.create(Boss)
        crew = MasterWorkers((("nobody", "a"), (inline.create(Squarer).id, "b")), (1, 2), patience=60.0)
        assert boss.call("compute", crew) == [[1, "b"], [4, "b"]]
        late = inline.create(Late)
        second = MasterWorkers(((late.id, "a"), (inline.create(Squarer).id, "b")), (1, 2, 3), patience=60.0)
        boss.send("compute", second)
        until(inline, lambda: len(boss.agent.crew.outcomes) == 2)  # type: ignore[attr-defined]
        inline.advance(61.0)
        until(inline, lambda: boss.agent.crew.over)  # type: ignore[attr-defined]
        assert [each.value for each in boss.agent.crew.results()] == [[1, "b"], [4, "b"], [9, "b"]]  # type: ignore[attr-defined]


class Late(Squarer):
    """Takes orders, and is never heard of again."""

    def on_end(self) -> None:
        pass


class Primes(Master, Worker):
    """Its clones do the work."""

    @handles("count")
    def count(self, parts: list[Any], message: Message) -> Later | None:
        self.caller, self.parts, self.clones = message.later, parts, list[str]()
        for _ in range(3):
            self.clone()
        return message.later

    def on_cloned(self, clone: str) -> None:
        self.clones.append(clone)
        if len(self.clones) == 3:
            self.employ(MasterWorkers(tuple((each, "ab"[at % 2]) for at, each in enumerate(self.clones)), self.parts))

    def work(self, part: int) -> Any:
        return [part * part, self.host, self.id]

    def on_results(self) -> None:
        assert self.crew is not None and self.caller is not None
        self.reply(self.caller, [each.value or each.error for each in self.crew.results()])
        self.dismiss()


def test_a_master_may_clone_itself_for_workers() -> None:
    with Inline("home") as inline:
        primes = inline.create(Primes)
        answers = primes.call("count", [1, 2, 3, 4])
        assert [each[0] for each in answers] == [1, 4, 9, 16]
        assert len({each[2] for each in answers} - {primes.id}) == 3 and primes.host == "home"
        inline.settle()
        for _, _, clone in answers:
            with pytest.raises(Exception, match="has ended"):
                InlineAgent(inline, clone).call("count", [1])
