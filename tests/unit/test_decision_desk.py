"""What callers hear when they name what nobody can decide about."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.desk.decisions import DecisionDesk
from ledger.errors import Misuse
from services.eds.events import AgentAsked, Event, LinkChanged, Overload
from services.eds.rules import Group

X, Y, ALONE, FAR = "x-1", "y-2", "alone-3", "far-4"
PLACES = {X: "south", Y: "east", ALONE: "east", FAR: "north", "third-5": "east"}


class City:
    """East, with y of the pair, and an agent in no group; the first of the pair is on south."""

    def __init__(self) -> None:
        self.heard: list[Event] = []
        self.asked: list[str] = []
        self.owners = {Y: b"ada", ALONE: b"ada", "third-5": b"bob"}
        self.formed: list[Group] = []

    def desk(self) -> DecisionDesk:
        unknown, member = SimpleNamespace(standing="unknown"), SimpleNamespace(standing="member")
        births = {agent: SimpleNamespace(birth=SimpleNamespace(owner=owner)) for agent, owner in self.owners.items()}
        eds = SimpleNamespace(dry_run=self.dry_run)
        here: Any = SimpleNamespace(
            host="east",
            whereabouts=SimpleNamespace(resolve=self.resolve, host_of=PLACES.get),
            tms=SimpleNamespace(verdict=lambda host: unknown if host == "moon" else member),
            carrier=SimpleNamespace(residents=SimpleNamespace(known=births)),
            mailroom=SimpleNamespace(boxes=births, group=self.group),
            deciding=SimpleNamespace(concerned=lambda: [Group("pair", (X, Y))], eds=eds),
            happened=self.heard.append,
        )
        return DecisionDesk(here)

    def resolve(self, agent: str) -> str:
        if not (found := [each for each in PLACES if each.startswith(agent)]):
            raise Misuse(f"no agent {agent!r} is known here")
        return found[0]

    async def group(self, group: Group) -> None:
        self.formed.append(group)

    async def dry_run(self, group: Group) -> None:
        self.asked.append(group.name)
        raise Misuse("asked")


@pytest.mark.parametrize("event", [Overload("moon", "cpu"), LinkChanged("east", "moon", "loss", 0.1)])
async def test_an_event_of_a_host_that_there_is_not_is_refused(event: Event) -> None:
    city = City()
    said = {key: getattr(event, key) for key in event.__struct_fields__} | {"type": event.__struct_config__.tag}
    with pytest.raises(Misuse, match="the ledger names no host 'moon'; list them"):
        await city.desk().event(said)
    assert city.heard == []


async def test_an_event_may_name_an_agent_as_people_do() -> None:
    city = City()
    await city.desk().event({"type": "agent-asked", "agent": "y", "reason": "crowded"})
    assert city.heard == [AgentAsked(Y, "crowded")]
    with pytest.raises(Misuse, match="no agent 'nobody' is known"):
        await city.desk().event({"type": "agent-asked", "agent": "nobody", "reason": "crowded"})


async def test_who_tells_no_event_hears_which_there_are() -> None:
    with pytest.raises(Misuse, match=r"Invalid value 'moon'.*`type` is one of link-changed, overload, user-moved"):
        await City().desk().event({"type": "moon"})


@pytest.mark.parametrize("about", ["pair", "x", "y"])
async def test_a_group_whose_first_agent_is_elsewhere_is_not_decided_about_in_parts(about: str) -> None:
    city = City()
    words = f"east does not decide for {about}: .* where {X} lives, .*--host south decide {about}"
    with pytest.raises(Misuse, match=words):
        await city.desk().dry_run(about)
    assert city.asked == []


async def test_an_agent_in_no_group_is_decided_about_alone_where_it_lives() -> None:
    city = City()
    with pytest.raises(Misuse, match="asked"):
        await city.desk().dry_run("alone")
    assert city.asked == [ALONE]
    with pytest.raises(Misuse, match="--host north decide far"):
        await city.desk().dry_run("far")


async def test_a_group_of_agents_that_are_apart_names_who_is_where() -> None:
    with pytest.raises(Misuse, match=f"not awake on east: {FAR} \\(on north\\); .* dispatch AGENT east"):
        await City().desk().group("both", "", ["y", "far"], [])


@pytest.mark.parametrize(
    ("name", "agents", "words"),
    [
        ("two", ["y", "alone"], "the group pair stands against it, with x-1 elsewhere"),
        ("pair", ["alone"], "the group pair stands against it, with x-1 elsewhere"),
        ("two", ["alone", "third"], "the agents of two have several owners"),
    ],
)
async def test_a_group_that_nobody_could_decide_about_is_not_formed(name: str, agents: list[str], words: str) -> None:
    city = City()
    with pytest.raises(Misuse, match=words):
        await city.desk().group(name, "", agents, [])
    assert city.formed == []
    await city.desk().group("one", "", ["alone"], [])
    assert city.formed == [Group("one", (ALONE,))]
