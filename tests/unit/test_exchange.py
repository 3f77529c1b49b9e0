"""What hosts tell each other unasked: taken from whoever may say it, and from nobody else."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform import passes
from agentplatform.bulletins import Bulletin, Endpoint, Heard, Residents, Seek, Services, Topics
from agentplatform.directory import MAX_CERTIFICATE
from agentplatform.exchange import MAX_FAULTS, MAX_MESSAGE, SERVICES_AT_ONCE, Exchange
from agentplatform.kinds import Service
from agentplatform.parcel.manifest import MAX_EPOCH, certify_clone, give_birth, open_birth, open_certificate
from agentplatform.passes import MAX_TRAIL
from agentplatform.subscriptions import Subscribed, Subscriptions
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.links.base import Channel
from services.eds.events import AgentAsked, HostDraining, HostRevoked, Overload, UserMoved
from services.eds.snapshot import Access
from tests.helpers.linked_hosts import CHAIN, identity
from tests.helpers.mail_desk import AGENT, OTHER, Desk

LONG = "h" * 63  # a host's name


class Links:
    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    def on_message(self, receiver: Any) -> None:
        self.deliver = receiver

    def on_change(self, observer: Any) -> None:
        self.change = observer

    def up(self) -> frozenset[str]:
        return frozenset({"east", "south"})

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        assert channel == Channel.ADVERT
        self.sent.append((host, message))
        return True


class Host:
    """An exchange with its surroundings written down."""

    def __init__(self) -> None:
        self.links = Links()
        keys = {host: identity(host).public for host in ("north", "east", "south")}
        desk = self.desk = Desk()
        desk.roads.whereabouts = desk.room._whereabouts = self.whereabouts = Whereabouts(
            passes.authentic(CHAIN, keys.get)
        )
        self.machine = SimpleNamespace(agents={}, quarantined={}, here=lambda agent: 1 if agent == AGENT else None)
        self.known: dict[str, Any] = {}  # residents
        self.moved: list[tuple[UserMoved, str]] = []
        residents = SimpleNamespace(known=self.known)
        still = {"linked": lambda host: None, "departures": SimpleNamespace(lost=lambda host: None)}
        carrier: Any = SimpleNamespace(machine=self.machine, residents=residents, **still)
        nothing: Any = None
        desk.roads._tell = lambda host, bulletin: self.exchange.tell(host, bulletin)
        held = SimpleNamespace(linked=lambda host: None), SimpleNamespace(here=lambda since=0.0: []), nothing
        rooms = carrier, *held, desk.roads, desk.room, nothing, nothing, self.user_moved, nothing, nothing
        self.exchange = Exchange("north", self.links, self.whereabouts, *rooms)  # type: ignore[arg-type]
        self.exchange.porch.open()

    def user_moved(self, event: UserMoved, teller: str) -> None:
        self.moved.append((event, teller))

    def hears(self, host: str, bulletin: Bulletin) -> None:
        self.links.deliver(host, Channel.ADVERT, codec.encode(bulletin))

    def told(self, kind: Any) -> list[tuple[str, Any]]:
        sent, self.links.sent = self.links.sent, []
        return [(host, codec.decode(raw, kind)) for host, raw in sent]


@pytest.fixture
def host() -> Host:
    return Host()


def test_an_endpoint_is_its_own_hosts_word_and_ends_with_the_link(host: Host) -> None:
    host.links.change("east", True)
    assert not [raw for _, raw in host.links.sent if b"endpoint" in raw], "this one has none"
    host.hears("east", Endpoint("http://10.0.0.2:8080"))
    host.hears("south", Endpoint("https://south.example"))
    assert host.exchange.endpoints == {"east": "http://10.0.0.2:8080", "south": "https://south.example"}
    host.links.change("east", False)
    assert host.exchange.endpoints == {"south": "https://south.example"}
    host.exchange.endpoint = "http://10.0.0.1:8080"
    host.links.change("east", True)
    assert ("east", codec.encode(Endpoint("http://10.0.0.1:8080"))) in host.links.sent


def test_of_what_lives_here_nobody_else_speaks(host: Host) -> None:
    host.exchange.located(AGENT, 1, "north")
    for lie in (Located(AGENT, MAX_EPOCH, "east"), Located(OTHER, 3, "north")):
        host.hears("east", Residents((lie,)))
    host.hears("east", Topics((Subscribed(AGENT, 9, ("news",)),)))
    assert host.whereabouts.host_of(AGENT) == "north" and host.whereabouts.host_of(OTHER) is None
    assert host.desk.room.subscriptions.subscribers("news", "") == []


def test_a_host_says_what_its_own_agents_subscribe_to_and_no_others(host: Host) -> None:
    host.hears("south", Residents((Located(OTHER, 3, "south"),)))
    host.hears("east", Topics((Subscribed(OTHER, 4, ("lies",)),)))
    host.hears("south", Topics((Subscribed(OTHER, 3, ("news",)),)))
    book: Subscriptions = host.desk.room.subscriptions
    assert (book.subscribers("lies", ""), book.subscribers("news", "")) == ([], [OTHER])
    host.hears("south", Residents((Located(OTHER, 3, "south", 17),)))
    assert book.subscribers("news", "") == [], "it has ended"


def test_an_epoch_that_a_host_invents_for_topics_does_not_bind_the_next_host(host: Host) -> None:
    host.hears("south", Residents((Located(OTHER, 3, "south"),)))
    host.hears("south", Topics((Subscribed(OTHER, MAX_EPOCH, ("lies",)),)))
    handed_over = passes.sign(CHAIN, OTHER, 4, "south", "east", identity("south"))
    host.hears("east", Residents((Located(OTHER, 4, "east", None, (handed_over,)),)))
    host.hears("east", Topics((Subscribed(OTHER, 4, ("news",)),)))
    book = host.desk.room.subscriptions
    assert (book.subscribers("lies", ""), book.subscribers("news", "")) == ([], [OTHER])


def test_an_end_is_told_with_its_time_and_written_down(host: Host) -> None:
    host.exchange.located(AGENT, 4, "")
    ((agent, at),) = host.desk.ends
    assert agent == AGENT and at > 1_700_000_000_000
    assert host.told(Residents) == [(each, Residents((Located(AGENT, 4, "north", at),))) for each in host.links.up()]


def test_after_a_start_the_journal_says_where_agents_went_and_where_they_ended(host: Host) -> None:
    known = [
        SimpleNamespace(agent=AGENT, epoch=3, here=False, to="east"),
        SimpleNamespace(agent=OTHER, epoch=2, here=False, to=None),
        SimpleNamespace(agent="third-0000000000000003", epoch=2, here=True, to=None),
    ]
    host.machine.agents = {each.agent: each for each in known}
    host.exchange.recall({OTHER: 17})
    assert host.whereabouts.believed(AGENT) == Located(AGENT, 4, "east")
    assert host.whereabouts.believed(OTHER) == Located(OTHER, 2, "north", 17)
    assert host.whereabouts.resolve("counter") == AGENT and len(host.whereabouts.alive()) == 1


def seeks(host: Host) -> list[tuple[str, Any]]:
    """What is asked in a round."""
    host.told(Bulletin)
    host.exchange.remind()
    return [(to, said) for to, said in host.told(Bulletin) if isinstance(said, Seek)]


def test_after_a_start_a_host_is_asked_after_agents_that_went_there_and_that_it_does_not_name(host: Host) -> None:
    host.machine.agents = {
        each: SimpleNamespace(agent=each, epoch=3, here=False, to="east", held=False) for each in (AGENT, OTHER)
    }
    host.machine.here = lambda agent: None
    host.exchange.recall({})
    assert seeks(host) == [], "not before there is a link"
    host.links.change("south", True)
    assert seeks(host) == [], "they did not go there"
    host.links.change("east", True)
    host.hears("east", Residents((Located(OTHER, 4, "east"),)))
    assert seeks(host) == [("east", Seek(((AGENT, 3),)))]
    assert seeks(host) == [], "once"
    step = passes.sign(CHAIN, AGENT, 5, "east", "south", identity("east"))
    host.hears("east", Residents((Located(AGENT, 5, "south", None, (step,)),)))
    assert seeks(host) == [("south", Seek(((AGENT, 4),)))], "it went on from there, and may have ended since"
    host.hears("south", Residents((Located(AGENT, 5, "south", 17),)))
    assert host.whereabouts.host_of(AGENT) == "" and [each.agent for each in host.whereabouts.alive()] == [OTHER]


def test_when_a_link_comes_back_a_host_is_asked_after_agents_that_it_names_no_more(host: Host) -> None:
    host.machine.here = lambda agent: None
    host.links.change("east", True)
    host.hears("east", Residents((Located(AGENT, 4, "east"), Located(OTHER, 2, "east"))))
    assert seeks(host) == []
    host.links.change("east", False)
    host.links.change("east", True)
    host.hears("east", Residents((Located(OTHER, 2, "east"),)))
    assert seeks(host) == [("east", Seek(((AGENT, 3),)))]


def test_a_host_tells_who_asks_that_an_agent_ended_there(host: Host) -> None:
    host.machine.here = lambda agent: None
    host.machine.agents = {AGENT: SimpleNamespace(agent=AGENT, epoch=4, here=False, to=None)}
    host.exchange.recall({AGENT: 17})
    host.hears("east", Seek(((AGENT, 3),)))
    assert host.told(Bulletin) == [("east", Residents((Located(AGENT, 4, "north", 17),)))]


def test_who_seeks_hears_of_later_places_with_their_trails_and_the_answer_is_never_too_long(host: Host) -> None:
    agents = [f"{'x' * 32}-{number:016x}" for number in range(40)]
    for agent in agents:
        steps = [(LONG, "east"), ("east", LONG)] * MAX_TRAIL
        trail = [
            passes.sign(CHAIN, agent, MAX_EPOCH - 20 + at, *step, identity("east")) for at, step in enumerate(steps)
        ]
        last = trail[-1]
        host.whereabouts.learn(Located(agent, last.epoch, last.destination, None, tuple(trail[-MAX_TRAIL:])))
    host.hears("east", Seek(tuple((agent, 5) for agent in agents)))
    host.hears("south", Seek(((agents[0], MAX_EPOCH), ("nobody-0000000000000009", 0))))
    assert all(len(raw) < MAX_MESSAGE[Channel.ADVERT] for _, raw in host.links.sent)
    ((to, answer),) = host.told(Residents)
    assert to == "east" and all(len(each.trail) == MAX_TRAIL for each in answer.located)


def test_when_a_link_comes_up_all_that_lives_here_is_told_in_bulletins_that_fit(host: Host) -> None:
    for number in range(300):
        agent = f"{'x' * 32}-{number:016x}"
        step = passes.sign(CHAIN, agent, MAX_EPOCH, LONG, "north", identity("east"))
        host.whereabouts.learn(Located(agent, MAX_EPOCH, "north", None, (step,)))
        host.desk.room._epochs[agent] = MAX_EPOCH
        topics = tuple(f"{number:04}" + "t" * 250 for number in range(16))
        host.desk.room.subscriptions.learn("north", Subscribed(agent, MAX_EPOCH, topics))
    host.links.change("east", True)
    assert all(len(raw) < MAX_MESSAGE[Channel.ADVERT] for _, raw in host.links.sent)
    bulletins = [bulletin for _, bulletin in host.told(Residents | Topics)]
    assert sum(len(each.located) for each in bulletins if isinstance(each, Residents)) == 300
    assert sum(len(each.subscribed) for each in bulletins if isinstance(each, Topics)) == 300


def test_service_agents_are_told_with_their_certificates_and_forgotten_when_they_end(host: Host) -> None:
    raw = give_birth("echo", identity("ada"), bytes(16), bytes(32), "module:Echo", True, kind=Service("echo", "1.0"))
    clone = certify_clone(raw, open_birth(raw, "").agent, b"s" * 16, CHAIN, "north", identity("north"))
    births = [open_birth(raw, ""), open_certificate(clone, "")]
    host.known |= {birth.agent: SimpleNamespace(birth=birth, certificate=raw) for birth in births[:1]}
    host.known |= {birth.agent: SimpleNamespace(birth=birth, certificate=clone) for birth in births[1:]}
    for birth in births:
        host.exchange.located(birth.agent, 0, "north")
    told = [said for _, said in host.told(Bulletin) if isinstance(said, Services)]
    assert told == [Services((raw,))] * 2  # to both hosts; never the clone's
    host.links.change("east", True)
    assert [said for _, said in host.told(Bulletin) if isinstance(said, Services)] == [Services((raw,))]
    other = Host()
    other.hears("east", Services((raw,)))
    other.hears("east", Residents((Located(births[0].agent, 0, "east"),)))
    assert births[0].agent in other.exchange.directory
    other.hears("east", Residents((Located(births[0].agent, 0, "east", 5),)))
    other.hears("south", Services((raw,)))  # it did not hear of the end
    assert births[0].agent not in other.exchange.directory


def test_whoever_keeps_the_book_of_blame_hears_of_each_fault_with_its_sender_and_channel(host: Host) -> None:
    heard: list[tuple[str, str, str]] = []
    host.exchange.blamed = lambda sender, kind, fault: heard.append((sender, kind, fault.peer))
    for channel in (Channel.ADVERT, Channel.COMMAND):
        host.links.deliver("east", channel, bytes(MAX_MESSAGE[channel] + 1))
    host.links.deliver("south", Channel.ADVERT, b"nonsense")
    assert heard == [("east", "advert", "east"), ("east", "command", "east"), ("south", "advert", "south")]


def test_services_that_fill_a_bulletin_fit_and_lies_are_counted(host: Host) -> None:
    largest = Services((bytes(MAX_CERTIFICATE),) * SERVICES_AT_ONCE)
    assert len(codec.encode(largest)) <= MAX_MESSAGE[Channel.ADVERT]
    for _ in range(MAX_FAULTS - 1):
        host.hears("east", largest)
    with pytest.raises(PeerFault, match="east"):  # then the link ends
        host.hears("east", largest)


def test_of_events_a_host_is_heard_about_users_alone_and_named_as_the_teller(host: Host) -> None:
    """What a host lacks, or that it is revoked, nobody tells of another: adverts and the ledger say so."""
    moved = UserMoved("ada", (Access("east", 1.0, 0.0, "measured"),))
    host.hears("east", Heard(moved))
    assert host.moved == [(moved, "east")] and host.exchange._faults == {}
    moving = {"type": "user-moved", "user": "ada", "access": []}
    many = [{"host": f"h{n}", "rtt_ms": 1.0, "loss": 0.0, "source": "measured"} for n in range(1001)]
    host.links.deliver("east", Channel.ADVERT, codec.encode(["heard", moving | {"access": many[:1000]}]))
    assert len(host.moved.pop()[0].access) == 1000
    lies = (
        Overload("south", "memory"),
        HostRevoked("south", "it lost its key"),
        HostDraining("south", "repair"),
        AgentAsked(AGENT, "move me"),
        moving | {"user": "a" * 129},
        moving | {"access": many},
    )
    for number, lie in enumerate(lies, 1):
        host.links.deliver("east", Channel.ADVERT, codec.encode(["heard", lie]))
        assert host.exchange._faults["east"][1] == number
    assert len(host.moved) == 1


async def test_an_event_that_the_others_would_refuse_is_told_to_nobody() -> None:
    host = Host()
    access = tuple(Access(f"{LONG}{number}", 1.0, 0.0, "measured") for number in range(1_000))
    with pytest.raises(Misuse, match="give the access to fewer hosts"):
        host.exchange.happened(UserMoved("ada", access))
    assert not host.links.sent and not host.moved
    host.exchange.happened(UserMoved("ada", access[:300]))
    assert len(host.links.sent) == 2 and all(len(raw) <= MAX_MESSAGE[Channel.ADVERT] for _, raw in host.links.sent)
