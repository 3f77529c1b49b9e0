"""Agents that follow itineraries, on hosts that exist by being named."""

from collections.abc import Iterator
from typing import Any

import pytest

from agentplatform import Later, Message, Ticket, handles
from agentplatform.itineraries import (
    Alternatives,
    Circular,
    Itinerary,
    Meeting,
    Plan,
    Sequence,
    Traveller,
)
from agentplatform.itineraries.circular import REST_SECONDS
from agentplatform.runners.inline import Inline, InlineAgent
from ledger.errors import Misuse, PeerFault
from tests.helpers.crashing_inline import CrashingInline, until


class Walker(Traveller):
    """Follows what it is told, notes where it is, and answers when the way is over."""

    def on_creation(self, init: Any) -> None:
        self.notes: list[Any] = []
        self.caller: Later | None = None

    @handles("follow")
    def go(self, itinerary: Itinerary, message: Message) -> Later | None:
        self.caller = message.later
        self.follow(itinerary)
        return message.later

    @handles("set out")
    def set_out(self, itinerary: Itinerary) -> None:
        self.follow(itinerary)

    @handles("look")
    def look(self) -> Any:
        return [self.host, self.notes, self.following]

    @handles("send me")
    def send_me(self, host: str) -> None:
        self.dispatch(host)

    def on_stop(self) -> Any:
        self.notes.append(self.host)
        self.send("log", "note", self.host)
        return len(self.notes)

    def buy(self) -> str:
        return f"bought on {self.host}"

    async def sell(self) -> str:
        raise RuntimeError("no buyer")

    def turn_back(self) -> None:
        self.follow(Sequence(("home",)))

    def enough(self) -> bool:
        return len(self.notes) >= 4

    def on_end(self) -> None:
        assert self.itinerary is not None
        self.notes.append("end")
        if self.caller is not None:
            self.reply(self.caller, [[each.host, each.value, each.error] for each in self.itinerary.visits])


KNOCKED_ON: dict[str, dict[str, str]] = {}


class Knocker(Walker):
    """The host `shut` opens at the third knock."""

    def on_dispatching(self, destination: str) -> None:
        self.notes.append(f"{destination}?")
        if self.notes.count("shut?") == 3:
            del KNOCKED_ON[self.id]["shut"]
        super().on_dispatching(destination)

    def on_move_failed(self, reason: str) -> None:
        self.notes.append("failed")
        super().on_move_failed(reason)


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline("home", refuse={"shut": "closed"}) as inline:
        yield inline


def itinerary(walker: InlineAgent) -> Any:
    return walker.agent.itinerary  # type: ignore[attr-defined]


SKIPPED = ["shut", None, "closed"]


@pytest.mark.parametrize(
    ("itinerary", "visits", "host"),
    [
        (Sequence(("a", "b")), [["a", 1, ""], ["b", 2, ""]], "b"),
        (Sequence(("home", "home", "a")), [["home", 1, ""], ["home", 2, ""], ["a", 3, ""]], "a"),
        (Sequence(("a", "shut", "b")), [["a", 1, ""], SKIPPED, ["b", 2, ""]], "b"),
        (Sequence(("a", "shut", "b"), unreachable="stop"), [["a", 1, ""], SKIPPED], "a"),
        (Sequence(("shut",)), [SKIPPED], "home"),
        (Plan((("a", "buy"), ("a", "on_stop"))), [["a", "bought on a", ""], ["a", 1, ""]], "a"),
        (Plan((("a", "sell"), ("b", "buy"))), [["a", None, "RuntimeError: no buyer"], ["b", "bought on b", ""]], "b"),
        (Plan((("a", "rob"),)), [["a", None, "Walker has no method 'rob' for its itinerary"]], "a"),
        (Plan((("a", "dispose"),)), [["a", None, "Walker has no method 'dispose' for its itinerary"]], "a"),
        (Plan((("a", "_mae_place"),)), [["a", None, "Walker has no method '_mae_place' for its itinerary"]], "a"),
        (Plan((("a", "turn_back"), ("b", "buy"))), [["home", 1, ""]], "home"),
        (Alternatives(("shut", "b", "c")), [SKIPPED, ["b", 1, ""]], "b"),
        (Alternatives(("shut", "shut")), [SKIPPED, SKIPPED], "home"),
        (Circular(("a", "b"), rounds=2), [["a", 3, ""], ["b", 4, ""]], "b"),
        (Circular(("a", "b", "c"), rounds=None, until="enough"), [["b", 2, ""], ["c", 3, ""], ["a", 4, ""]], "a"),
    ],
)  # fmt: skip
def test_a_walk_to_its_end(inline: Inline, itinerary: Itinerary, visits: list[Any], host: str) -> None:
    walker = inline.create(Walker)
    assert walker.call("follow", itinerary) == visits
    where, notes, following = walker.call("look")
    assert (where, following) == (host, False) and notes.count("end") == 1


def test_a_ticket_says_how_often_a_stop_is_tried(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        knocker = inline.create(Knocker)
        KNOCKED_ON[knocker.id] = doors
        visits = knocker.call("follow", Sequence((Ticket("full", retries=1), Ticket("shut", retries=3))))
        assert [visit[0] for visit in visits if visit[2]] == ["full"] and knocker.host == "shut"
        assert knocker.call("look")[1] == ["full?", "full?", "failed", "shut?", "shut?", "shut?", "shut", "end"]


def test_a_ticket_may_need_what_a_host_does_not_have() -> None:
    with Inline("home", offers={"b": ("cv2",)}) as inline:
        walker = inline.create(Walker)
        visits = walker.call("follow", Alternatives((Ticket("a", needs=("cv2",)), Ticket("b", needs=("cv2",)))))
        assert visits == [["a", None, "a does not have cv2"], ["b", 1, ""]]


def shut_out(inline: Inline, rounds: int | None = None) -> InlineAgent:
    """A traveller that rests, for nobody takes it."""
    walker = inline.create(Walker)
    walker.call("set out", Circular(("shut", "full"), rounds, until="enough"))
    until(inline, lambda: itinerary(walker).at == 2)
    return walker


@pytest.fixture
def doors() -> dict[str, str]:
    return {"shut": "closed", "full": "no room"}


def test_an_agent_that_is_shut_out_everywhere_rests_between_its_rounds(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline)
        inline.advance(REST_SECONDS - 0.5)
        assert itinerary(walker).at == 2
        inline.advance(0.6)
        until(inline, lambda: itinerary(walker).at == 4)
        doors.clear()
        inline.advance(REST_SECONDS)
        until(inline, lambda: walker.call("look") == ["full", ["shut", "full", "shut", "full", "end"], False])


def test_an_agent_that_is_sent_elsewhere_goes_on_to_where_it_wanted_to_be(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline)
        doors.clear()
        walker.hop("far")  # it sets out from there, without a rest
        until(inline, lambda: walker.call("look")[1] == ["shut", "full", "shut", "full", "end"])


def test_a_move_that_others_asked_for_and_that_failed_is_no_failure_of_the_itinerary(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline, rounds=2)
        del doors["shut"]
        walker.call("send me", "full")
        until(inline, lambda: walker.call("look") == ["shut", ["shut", "end"], False])


def test_an_agent_that_was_deactivated_on_its_way_goes_on(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline)
        doors.clear()
        walker.deactivate()
        inline.advance(100.0)
        until(inline, lambda: walker.call("look")[1] == ["shut", "full", "shut", "full", "end"])


def test_a_clone_does_not_follow_the_way_of_its_original(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline)
        doors.clear()
        clone = walker.clone()
        clone.hop("far")
        inline.advance(REST_SECONDS)
        until(inline, lambda: walker.call("look")[1] == ["shut", "full", "shut", "full", "end"])
        assert clone.call("look") == ["far", [], False]


def test_a_new_itinerary_takes_the_place_of_the_old(doors: dict[str, str]) -> None:
    with Inline("home", doors) as inline:
        walker = shut_out(inline)
        walker.call("set out", Sequence(("b",)))
        until(inline, lambda: walker.call("look") == ["b", ["b", "end"], False])
        doors.clear()
        inline.advance(100.0)
        assert walker.call("look") == ["b", ["b", "end"], False]


def test_only_the_agent_itself_takes_its_steps(inline: Inline) -> None:
    walker = inline.create(Walker)
    with pytest.raises(PeerFault, match="only walker itself"):
        walker.call("itinerary: step", "")


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sequence(()),
        lambda: Sequence("east"),  # type: ignore[arg-type]
        lambda: Sequence(("east", "")),
        lambda: Sequence(("east",), at=1),
        lambda: Plan(()),
        lambda: Plan((("east", "buy", "sell"),)),  # type: ignore[arg-type]
        lambda: Plan(("east",)),  # type: ignore[arg-type]
        lambda: Alternatives(("east",), unreachable="stop"),
        lambda: Circular(("east",), rounds=0),
        lambda: Sequence(("east",), unreachable="cry"),  # type: ignore[arg-type]
        lambda: Meeting("east", ()),
        lambda: Meeting("", ("ada",)),
        lambda: Meeting("east", ("ada",), patience=0.0),
    ],
)
def test_what_is_no_itinerary_is_refused(make: Any) -> None:
    with pytest.raises(ValueError):
        make()


def test_what_comes_as_a_message_and_is_no_itinerary_is_refused(inline: Inline) -> None:
    walker = inline.create(Walker)
    for bad in ({"type": "sequence", "hosts": []}, {"type": "sequence"}, {"type": "trip", "hosts": ["a"]}, ["a"]):
        with pytest.raises(PeerFault, match="does not fit Walker"):
            walker.call("follow", bad)
    with pytest.raises(Misuse, match="a traveller follows an itinerary"):
        walker.agent.follow("a")  # type: ignore[attr-defined]


# Crashes


class Forgetful(Walker):
    """How far its itinerary is is kept when it moves, and not at every step."""

    itinerary_at_home = None

    def follow(self, itinerary: Any) -> None:
        super().follow(itinerary)
        self.itinerary_at_home = itinerary

    def on_dispatching(self, destination: str) -> None:
        super().on_dispatching(destination)
        self.itinerary_at_home = self.itinerary

    def __getstate__(self) -> Any:
        return super().__getstate__() | {"itinerary": self.itinerary_at_home}


WAYS: dict[str, tuple[Itinerary, list[str]]] = {
    "sequence": (Sequence(("a", "home", "shut", "b")), ["a", "home", "b"]),
    "tickets": (Sequence((Ticket("shut", retries=2), Ticket("b", retries=2))), ["b"]),
    "plan": (Plan((("a", "on_stop"), ("a", "buy"), ("b", "on_stop"))), ["a", "b"]),
    "alternatives": (Alternatives(("shut", "b", "c")), ["b"]),
    "circular": (Circular(("a", "b"), rounds=2), ["a", "b", "a", "b"]),
}


class Log(Traveller):
    def on_creation(self, init: Any) -> None:
        self.notes: list[str] = []

    @handles("note")
    def note(self, host: str) -> None:
        self.notes.append(host)

    @handles("read")
    def read(self) -> list[str]:
        return self.notes


def walk(itinerary: Itinerary, at: int | None, kept: bool, cls: type[Walker] = Walker) -> tuple[list[Any], int]:
    """What the log heard, and the traveller itself noted, and the number of events; with one crash."""
    with CrashingInline("home", {"shut": "closed"}) as inline:
        log, walker = inline.create(Log), inline.create(cls)
        inline.arm(walker.id, at, kept)
        visits = walker.call("follow", itinerary)
        events = inline.guests.events
        inline.settle()
        inline.advance(1.0)  # whatever is left of its steps
        assert at is None or inline.guests.crashes == 1
        assert [visit[0] for visit in visits if not visit[2]][-1] == walker.host
        return [log.call("read"), walker.call("look")[1]], events


@pytest.mark.parametrize("way", WAYS)
def test_a_crash_at_any_point_of_the_way_leaves_no_trace_of_it(way: str) -> None:
    itinerary, stops = WAYS[way]
    expected = [stops, [*stops, "end"]]
    without, events = walk(itinerary, None, False)
    assert without == expected
    for at in range(events):
        for kept in (False, True):
            assert walk(itinerary, at, kept)[0] == expected, f"after a crash at event {at}, {kept=}"


def test_the_harness_catches_a_traveller_whose_steps_are_not_kept() -> None:
    """It does again what it has done since its last hop, and says so again."""
    itinerary, stops = WAYS["plan"]
    events = walk(itinerary, None, False, Forgetful)[1]
    heard = [walk(itinerary, at, True, Forgetful)[0][0] for at in range(events)]
    assert any(each != stops for each in heard)
