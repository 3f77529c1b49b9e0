"""How the moves of a plan are put together: who goes as one, and what is said of those who cannot."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.carrying_out import CarryingOut, parties
from agentplatform.convoy import Convoy
from agentplatform.custody.residences import subject_of
from ledger.contracts.residence import Residence
from ledger.errors import Misuse, PlatformError, Unavailable
from services.eds.explain import Outcome
from services.eds.plan import Move, Plan
from services.eds.rules import Atomic, Dependency, Group

OWNER = b"owner".ljust(32, b".")
Sent = tuple[str, tuple[str, ...], str, bool]  # source, agents, destination, whether as a part of a convoy


class Host:
    """a, b and c live here; d and e on east. Which of them are in held custody says `held`."""

    def __init__(self, *rules: Any, held: str = "") -> None:
        here = {agent: SimpleNamespace(birth=SimpleNamespace(owner=OWNER)) for agent in "abc"}
        self.entries = {
            subject_of(OWNER, agent): Residence(OWNER, 2, "here" if agent in here else "east", (), 1) for agent in held
        }
        known = {
            agent: SimpleNamespace(held=agent in held, subject=subject_of(OWNER, agent), epoch=2) for agent in here
        }
        machine = SimpleNamespace(agents=known, here=lambda agent: 2 if agent in here else None)
        carrier: Any = SimpleNamespace(machine=machine, residents=SimpleNamespace(known=here))
        self.sent: list[Sent] = []
        self.convoys: list[Convoy] = []
        self.stays: dict[str, str] = {}  # other source -> why nobody leaves it
        self.away: set[str] = set()  # other hosts that cannot be asked
        self.errors: dict[str, PlatformError] = {}  # agent that lives here -> why it, and who goes with it, does not
        self.groups = [Group("g", tuple("abcde"), rules)]
        lives: Any = SimpleNamespace(decided=self.decided)
        setting_out: Any = SimpleNamespace(ask=self.ask)
        self.room = CarryingOut("here", carrier, lives, setting_out, self.entries.get, lambda: self.groups)

    async def decided(self, agents: Any, to: str, why: str, convoy: Convoy | None) -> Any:
        self.note("here", agents, to, convoy)
        if error := next((self.errors[agent] for agent in agents if agent in self.errors), None):
            raise error
        return SimpleNamespace(downtime_ms=5.0, bytes=1000)

    async def ask(self, host: str, group: str, agents: Any, to: str, why: str, convoy: Convoy | None) -> Outcome:
        assert group == "g"
        self.note(host, agents, to, convoy)
        if host in self.away:
            raise Unavailable(f"there is no link to {host} now")
        return Outcome(dict.fromkeys(agents, self.stays[host]) if host in self.stays else {})

    def note(self, host: str, agents: Any, to: str, convoy: Convoy | None) -> None:
        self.sent.append((host, tuple(agents), to, convoy is not None))
        if convoy is not None:
            self.convoys.append(convoy)

    def carry_out(self, moves: str, to: str = "south") -> Any:
        made = tuple(Move(agent, "here" if agent in "abc" else "east", to, ()) for agent in moves)
        return asyncio.run(self.room.carry_out(Plan(dict.fromkeys(moves, to), made, 1.0), "a test"))


def test_parties_are_bound_by_all_atomic_rules_together() -> None:
    moves = tuple(Move(agent, "here", "there", ()) for agent in "abcde")
    rules = [Atomic(("a", "b")), Dependency("d", ("e",), "all"), Atomic(("b", "e", "gone"))]
    found = {"".join(sorted(move.agent for move in party)) for party in parties(moves, rules)}
    assert found == {"abe", "c", "d"}


def test_what_goes_from_one_host_to_another_is_one_handoff_for_each_kind_of_custody() -> None:
    host = Host(held="b")
    outcome = host.carry_out("abcd")
    assert sorted(host.sent) == [
        ("east", ("d",), "south", False),
        ("here", ("a", "c"), "south", False),
        ("here", ("b",), "south", False),
    ]
    assert outcome.failed == {} and outcome.downtime_ms == dict.fromkeys("abc", 5.0)
    assert outcome.sizes == {"a": 500, "b": 1000, "c": 500}


def test_agents_that_are_bound_go_as_one_by_a_convoy() -> None:
    host = Host(Atomic(("a", "d", "e")), held="ade")
    assert host.carry_out("abde").failed == {}
    assert sorted(host.sent) == [
        ("east", ("d", "e"), "south", True),
        ("here", ("a",), "south", True),
        ("here", ("b",), "south", False),
    ]
    one, other = host.convoys
    assert one == other and [part.source for part in one.parts] == ["east", "here"]
    assert {going.epoch for part in one.parts for going in part.agents} == {3}


@pytest.mark.parametrize(
    ("held", "bound", "moves", "torn"),
    [
        ("", "ad", "abd", "in local custody are a on here, d on east"),
        ("a", "ad", "abd", "in local custody are d on east"),
        ("a", "ac", "abc", "in local custody are c on here"),  # on one host too
    ],
)
def test_who_cannot_go_as_one_does_not_go(held: str, bound: str, moves: str, torn: str) -> None:
    host = Host(Atomic(tuple(bound)), held=held)
    outcome = host.carry_out(moves)
    failed = outcome.failed
    assert failed.keys() == set(bound) == set(outcome.excused) and host.sent == [("here", ("b",), "south", False)]
    assert all(torn in why and "agentplatform custody AGENT held" in why for why in failed.values())


def test_the_rest_goes_when_a_host_does_not_send_its_own() -> None:
    host = Host()
    host.stays["east"] = "no room"
    assert host.carry_out("ad").failed == {"d": "no room"}


def test_groups_go_apart_and_none_stays_because_an_agent_of_another_does_not_go() -> None:
    host = Host()
    host.groups = [Group("g", ("a", "d")), Group("h", ("b", "c"))]
    host.errors["b"] = Misuse("b does not go to south: I like it here")
    outcome = host.carry_out("abc")
    assert sorted(host.sent) == [("here", ("a",), "south", False), ("here", ("b", "c"), "south", False)]
    assert outcome.failed == dict.fromkeys("bc", "b does not go to south: I like it here")
    assert set(outcome.excused) == {"b", "c"} and outcome.downtime_ms == {"a": 5.0}


def test_a_destination_is_excused_for_what_agents_and_their_hosts_did_alone() -> None:
    host = Host()
    host.errors["a"] = Unavailable("a stayed on here: south refused")
    assert host.carry_out("a").excused == ()
    host.stays["east"] = "south refused"
    assert host.carry_out("d").excused == ()
    host.away.add("east")
    assert host.carry_out("d").excused == ("d",)
    host = Host(Atomic(("a", "d")), held="ad")
    host.errors["a"] = Misuse("a does not go to south: I like it here")
    host.stays["east"] = "the ledger gave it up"
    assert set(host.carry_out("ad").excused) == {"a", "d"}


@pytest.mark.parametrize("went", [True, False])
def test_of_a_convoy_the_ledger_says_what_became_of_it(went: bool) -> None:
    """Not a host that was lost, or one that thinks otherwise."""
    host = Host(Atomic(("a", "d")), held="ad")
    host.stays["east"] = "its link was lost"
    if went:
        ask = host.room._setting_out.ask

        async def decides(*given: Any) -> dict[str, str]:
            part = given[-1].part("east")
            host.entries[subject_of(OWNER, "d")] = Residence(OWNER, 3, "south", (), 2, part.transfer)
            return await ask(*given)

        host.room._setting_out.ask = decides  # type: ignore[method-assign]
    failed = host.carry_out("ad").failed
    assert failed == ({} if went else dict.fromkeys("ad", "a, d belong together, and stayed: its link was lost"))
