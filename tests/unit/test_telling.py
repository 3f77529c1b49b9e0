"""What hosts tell agents of events, what agents report, and that nobody else can say so."""

import asyncio
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from agentplatform import Agent
from agentplatform.handlers import handles
from agentplatform.mail import Letter
from agentplatform.messages import MAX_EVENTS, Answer, Checkpoint, Outgoing
from agentplatform.runners.inline import Inline
from agentplatform.sensing import MAX_REPORTS, Sensing, measurements
from agentplatform.telling import MAX_WAITING, PAUSE, Telling, topic_of
from agentplatform.upcalls import HostUpcalls
from ledger import codec
from ledger.errors import Misuse, PeerFault
from services.eds.events import AgentTold, Event, HostJoined, LinkChanged, Overload, UserMoved, Whom
from services.eds.triggers import Triggers, read
from services.rms.catalogue import Advert
from services.rms.link_probe import LinkMeasure
from tests.helpers.edge_scenes import resources
from tests.helpers.mail_desk import AGENT, OTHER, Desk


class Ear:
    def __init__(self, here: set[str] | None = None) -> None:
        self.heard: list[tuple[str, str, str]] = []
        self.here = {"a", "b"} if here is None else here
        self.topics = {"eds/overload": ["a", "b", "far"], "eds/user-moved": ["a", "b"], "eds/host-joined": ["a"]}
        self.five = asyncio.Event()
        self.telling = Telling(self._told, lambda topic: self.topics.get(topic, []), self.here)

    def _told(self, *told: str) -> None:
        self.heard.append(told)  # type: ignore[arg-type]
        if len(self.heard) == 5:
            self.five.set()

    def publish(self, event: Event) -> None:
        self.telling.publish(event, lambda user: {"a"} if user == "ada" else set())


async def test_those_that_have_subscribed_and_run_here_are_told() -> None:
    ear = Ear()
    ear.publish(Overload("north", "cpu", 3.0))
    word = '["eds/overload",{"host":"north","resource":"cpu","seconds":3.0}]'
    assert ear.heard == [("a", "event", word), ("b", "event", word)]
    ear.publish(HostJoined("south"))
    ear.publish(LinkChanged("north", "south", "loss", 0.5))  # nobody wants it
    assert len(ear.heard) == 3


async def test_where_a_user_is_is_told_to_who_follows_that_user_and_reports_to_nobody() -> None:
    ear = Ear()
    ear.topics["eds/agent-told"] = ["a", "b"]
    for event in (UserMoved("ada", ()), UserMoved("bob", ()), AgentTold("a", "secret", 1.0)):
        ear.publish(event)
    assert [agent for agent, _, _ in ear.heard] == ["a"]


async def test_of_a_storm_an_agent_is_told_the_first_and_then_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.telling.PAUSE", 0.01)
    ear = Ear({"a"})
    for number in range(1000):
        ear.publish(Overload("north", "cpu", float(number)))
        ear.telling.tell("a", "on_user_moved", f"host {number}")
    ear.publish(Overload("south", "cpu", 7.0))  # another thing
    assert [number for number in range(1000) if f'"seconds":{number}.0' in str(ear.heard)] == [0, 7]
    async with asyncio.timeout(10):
        await ear.five.wait()
    assert [word for _, _, word in ear.heard[3:]] == [
        '["eds/overload",{"host":"north","resource":"cpu","seconds":999.0}]',
        "host 999",
    ]
    assert set(ear.telling._waiting.values()) == {None}  # nothing more is to be told


async def test_what_waits_to_be_told_is_bounded_and_not_told_to_who_left() -> None:
    ear = Ear()
    for number in range(MAX_WAITING + 100):
        ear.telling.tell("a", "event", "word", f"host-{number}")
    assert len(ear.heard) == len(ear.telling._waiting) == MAX_WAITING
    ear.telling.tell("a", "event", "later", "host-0")
    ear.here.clear()
    ear.telling._due(("a", "event", "host-0"))
    assert len(ear.heard) == MAX_WAITING and PAUSE > 0


class Listener(Agent):
    def on_creation(self, init: Any) -> None:
        self.heard: list[Any] = []
        self.subscribe("eds/overload")

    @handles("eds/overload")
    def overloaded(self, event: Overload, message: Any) -> None:
        self.heard.append([event.host, event.seconds, message.sender])
        self.report("overloads heard", len(self.heard))

    @handles("look")
    def look(self) -> list[Any]:
        return self.heard

    @handles("lie")
    def lie(self, how: str) -> None:
        match how:
            case "send":
                self.send("other", "eds/overload", {})
            case "multicast":
                self.multicast("eds/overload", "news")
            case "report":
                self.report("frames", float("nan"))


def test_an_agent_hears_of_events_and_reports_in_inline_mode_too() -> None:
    with Inline() as inline:
        listener = inline.create(Listener)
        inline.event("overload", host="here", resource="cpu", seconds=2.0)
        inline.event("host-joined", host="there")
        assert listener.call("look") == [["here", 2.0, "eds@here"]]
        assert inline.reports == [(listener.id, "overloads heard", 1.0)]
        listener.hop("elsewhere")
        inline.event("overload", host="here", resource="cpu", seconds=3.0)
        assert listener.call("look")[1:] == [["here", 3.0, "eds@elsewhere"]]


@pytest.mark.parametrize("how", ["send", "multicast", "report"])
def test_what_an_agent_may_not_say_it_hears_at_once(how: str) -> None:
    with Inline() as inline:
        listener = inline.create(Listener)
        with pytest.raises(PeerFault, match=r"hosts tell agents|is a number"):
            listener.call("lie", how)
        assert inline.reports == []


def test_events_that_wait_in_a_worker_are_bounded() -> None:
    with Inline() as inline:
        resident = inline.guests.guest(inline.create(Listener).id).resident
        resident._wake_up = lambda: None  # type: ignore[method-assign]  # it comes to nothing
        for number in range(MAX_EVENTS + 100):
            resident.tell("event", f"[{number}]")
        resident.tell("on_move_failed", "this is always told")
        news = resident._news
        assert len(news) == MAX_EVENTS + 1 and news[-1][0] == "on_move_failed"
        news.clear()


def test_no_letter_can_say_what_hosts_alone_say() -> None:
    """Also not one of a hostile host, nor among an agent's luggage."""
    good = Letter("x-0000000000000001", 0, 1, 0, AGENT, "east", "overload", b"\xc0")
    raw = codec.encode(good).replace(b"\xa8overload", b"\xaceds/overload")
    with pytest.raises(PeerFault, match="hosts tell their own agents alone"):
        codec.decode(raw, Letter, "east")


async def test_a_worker_that_skips_its_own_checks_is_refused_by_its_host() -> None:
    desk = Desk()
    addressing = desk.room._addressing
    outgoing = Outgoing("eds/overload", "news", b"\xc0", None, topic=True)
    with pytest.raises(Misuse, match="hosts alone"):
        addressing.receivers(AGENT, SimpleNamespace(), outgoing)  # type: ignore[arg-type]
    with pytest.raises(Misuse, match="hosts alone"):
        await desk.room.clients.ask("client-1", OTHER, "eds/overload", b"\xc0", 1.0)


class Reports:
    def __init__(self) -> None:
        self.upcalls = HostUpcalls("north", None, lambda query: [])  # type: ignore[arg-type]
        self.checkpoints: list[Checkpoint] = []
        self.heard: list[Any] = []
        self.durable: list[Any] = []
        self.upcalls.mailroom = SimpleNamespace(  # type: ignore[assignment]
            boxes={}, checkpointed=lambda agent, checkpoint: self.checkpoints.append(checkpoint)
        )
        self.upcalls.lives = SimpleNamespace(when_durable=lambda agent, act: self.durable.append(act))  # type: ignore[assignment]
        self.upcalls.reported = lambda *report: self.heard.append(report)


def test_reports_leave_with_the_checkpoint_that_they_were_made_in_and_are_no_letters() -> None:
    reports = Reports()
    letter = Outgoing(OTHER, "hello", b"\xc0", None)
    report, nonsense = (Outgoing("eds:", "frames", codec.encode(value), None) for value in (12.0, "many"))
    answer = Answer(True, b"\xc0")
    reports.upcalls.checkpointed(AGENT, Checkpoint(None, ((1, answer),), (report, letter, nonsense)))
    assert reports.checkpoints == [Checkpoint(None, ((1, answer),), [letter])]  # type: ignore[arg-type]
    assert reports.heard == []  # not yet durable
    for act in reports.durable:
        act()
    assert reports.heard == [(AGENT, "frames", 12.0)]


class Senses:
    def __init__(self, *rows: dict[str, Any]) -> None:
        self.adverts: dict[str, Advert] = {}
        self.heard: list[tuple[Event, Whom]] = []
        self.now = 0.0
        rms: Any = SimpleNamespace(adverts=lambda: self.adverts)
        self.triggers = Triggers(read(rows))
        happened = lambda event, whom: self.heard.append((event, whom))  # noqa: E731
        self.sensing = Sensing("north", rms, self.triggers, happened, {AGENT: 1}, lambda: self.now)

    def round(self) -> None:
        self.now += 1.0
        self.sensing.round()


def test_each_second_what_is_measured_is_held_against_the_triggers() -> None:
    senses = Senses(
        {"measure": "cpu_free", "below": 0.1, "for": 2.0},
        {"measure": "loss", "above": 0.2, "groups": "all"},
    )
    links = {"south": LinkMeasure(1.0, 0.5)}
    senses.adverts = {
        "north": Advert(resources(cpu_free=0.5), 0.0, links),
        "south": Advert(resources(cpu_free=0.05), 0.0, {"west": LinkMeasure(1.0, 0.9)}),  # of its own links
    }
    senses.round()
    assert senses.heard == [(LinkChanged("north", "south", "loss", 0.5), "all")]
    senses.round()
    senses.round()
    assert senses.heard[1:] == [(Overload("south", "cpu", 2.0), "there")]
    senses.adverts = {}
    senses.round()
    assert len(senses.triggers) == 0


def test_an_agent_that_reports_without_end_is_not_heard_for_the_rest_of_the_second() -> None:
    senses = Senses({"measure": "told:frames", "above": 5.0, "debounce": 0.0})
    for _ in range(1000):
        senses.sensing.reported(AGENT, "frames", 12.0)
    senses.sensing.reported(OTHER, "frames", 12.0)
    senses.sensing.reported(OTHER, "x" * 1000, 12.0)
    senses.sensing.reported(OTHER, "frames", float("nan"))
    assert [event.agent for event, _ in senses.heard if isinstance(event, AgentTold)] == [AGENT] * MAX_REPORTS + [OTHER]
    senses.round()
    senses.sensing.reported(AGENT, "frames", 12.0)
    assert len(senses.heard) == MAX_REPORTS + 2


def test_what_is_measured_of_a_thousand_hosts_is_a_few_thousand_numbers() -> None:
    adverts = {f"host-{number}": Advert(resources(), 0.0, {"north": LinkMeasure(1.0, 0.0)}) for number in range(1000)}
    assert sum(1 for _ in measurements("host-0", adverts)) == 3 * 1000 + 2


@pytest.mark.parametrize("event", [Overload("a", "cpu"), HostJoined("a"), UserMoved("ada", ())])
def test_topics_are_named_as_events_are(event: Event) -> None:
    assert topic_of(event) == f"eds/{msgspec.to_builtins(event)['type']}"


def test_agents_that_ended_are_forgotten_by_the_triggers_of_reports() -> None:
    senses = Senses({"measure": "told:frames", "above": 5.0, "for": 60.0}, {"measure": "cpu_free", "below": 0.1})
    for number in range(100):
        senses.sensing.reported(f"gone-{number:016x}", "frames", 12.0)
    senses.sensing.reported(AGENT, "frames", 12.0)
    assert len(senses.triggers) == 101
    senses.round()
    assert len(senses.triggers) == 1  # it lives here still
