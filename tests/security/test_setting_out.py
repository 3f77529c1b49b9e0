"""Who may have the agents of a group set out, and whose word on them counts."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform import setting_out
from agentplatform.bulletins import SetOut, Stayed
from agentplatform.exchange import MAX_MESSAGE
from agentplatform.setting_out import AT_ONCE, MAX_WHY, SettingOut
from ledger import codec
from ledger.contracts.residence import MAX_GOING
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.links.base import Channel
from services.eds.explain import Outcome
from services.eds.rules import Group

X, Y, Z = "x-0123456789abcdef", "y-0123456789abcdef", "z-0123456789abcdef"
GROUP = Group("trio", (X, Y, Z))


class Host:
    """One side, with its surroundings written down: y and z live here, x lives on west."""

    def __init__(self) -> None:
        self.known = {Y: object(), Z: object()}
        self.places = {X: "west"}
        self.groups = self.groups_awake = [GROUP]
        self.up = {"west", "east"}
        self.veto: Exception | None = None
        self.moved: list[tuple[tuple[str, ...], str, str]] = []
        self.told: list[tuple[str, Any]] = []
        self.tasks: list[asyncio.Task[None]] = []
        residents: Any = SimpleNamespace(known=self.known)
        whereabouts: Any = SimpleNamespace(host_of=self.places.get)
        lives: Any = SimpleNamespace(awake=self.awake, decided=self.decided)
        start: Any = lambda work: self.tasks.append(asyncio.ensure_future(work))  # noqa: E731
        self.room = SettingOut(
            "here", residents, whereabouts, lambda: self.groups, lives, self.tell, lambda: self.up, start
        )

    def tell(self, host: str, said: Any) -> bool:
        assert len(codec.encode(said)) <= MAX_MESSAGE[Channel.ADVERT]
        self.told.append((host, said))
        return host in self.up

    async def awake(self, agents: tuple[str, ...]) -> None:
        self.groups = self.groups_awake

    async def decided(self, agents: tuple[str, ...], to: str, why: str, convoy: Any) -> None:
        if self.veto is not None:
            raise self.veto
        self.moved.append((agents, to, why))

    async def asked(self, host: str, said: SetOut) -> dict[str, str]:
        self.told.clear()
        self.room.heard(host, said)
        while self.tasks:
            await self.tasks.pop()
        ((to, answer),) = self.told
        assert to == host and isinstance(answer, Stayed) and answer.number == said.number
        self.excused = answer.excused
        return dict(answer.agents)


@pytest.fixture
async def host() -> Host:
    return Host()


def wish(*agents: str, group: str = "trio") -> SetOut:
    return SetOut(7, group, agents, "south", "ada moved")


async def test_they_go_together_for_the_host_of_the_first_agent(host: Host) -> None:
    assert await host.asked("west", wish(Y, Z)) == {}
    assert host.moved == [((Y, Z), "south", "ada moved (decided on west)")]
    assert await host.asked("west", wish(Y, group="trio 2")) == {}  # as it is called there


async def test_the_reason_that_another_host_gives_is_shortened(host: Host) -> None:
    await host.asked("west", SetOut(7, "trio", (Y,), "south", "no" * 10_000))
    ((_, _, why),) = host.moved
    assert why == f"{'no' * (MAX_WHY // 2)} (decided on west)"


async def test_reasons_in_long_letters_still_go_in_one_bulletin(host: Host) -> None:
    agents = tuple(f"{'a' * 40}-{number:016x}" for number in range(MAX_GOING))
    host.groups = host.groups_awake = [Group("trio", (X, *agents))]
    host.known |= dict.fromkeys(agents, object())
    host.veto = Unavailable("\U0001f40c" * 1000)
    assert set((await host.asked("west", wish(*agents))).values()) == {"\U0001f40c" * (MAX_WHY // 4)}


async def test_what_keeps_them_is_told_shortened(host: Host) -> None:
    host.veto = Unavailable("no" * 1000)
    assert await host.asked("west", wish(Y, Z)) == dict.fromkeys((Y, Z), str(host.veto)[:MAX_WHY]) and not host.excused


async def test_it_is_told_whether_the_destination_had_no_part_in_it(host: Host) -> None:
    host.veto = Misuse("I like it here")
    assert await host.asked("west", wish(Y)) == {Y: "I like it here"} and host.excused
    assert await host.asked("east", wish(Y)) and host.excused
    host.veto = RuntimeError("a bug")
    assert "its log has" in (await host.asked("west", wish(Y)))[Y] and host.excused
    asking = asyncio.ensure_future(host.room.ask("west", "trio", [X], "south", "ada moved", None))
    await asyncio.sleep(0)
    host.room.heard("west", Stayed(host.told[-1][1].number, ((X, "I like it here"),), excused=True))
    assert await asking == Outcome({X: "I like it here"}, excused=(X,))


@pytest.mark.parametrize(
    ("asker", "said", "why"),
    [
        ("east", wish(Y), "east does not decide for the group trio; its first agent is on west"),
        ("west", wish(X), "are not all on here"),
        ("west", wish(Y, "stranger-0123456789abcdef"), "there is no group of one owner to which"),
    ],
)
async def test_nobody_else_moves_them(host: Host, asker: str, said: SetOut, why: str) -> None:
    host.known["stranger-0123456789abcdef"] = object()  # another's
    if X in said.agents:
        host.known.pop(Z)
    stayed = await host.asked(asker, said)
    assert stayed.keys() == set(said.agents) and all(why in reason for reason in stayed.values()) and not host.moved


async def test_who_slept_and_has_another_group_in_its_luggage_stays(host: Host) -> None:
    host.groups_awake = []
    assert "no group of one owner" in (await host.asked("west", wish(Y, Z)))[Y] and not host.moved


async def test_a_host_that_asks_for_too_many_is_held_back(host: Host) -> None:
    with pytest.raises(PeerFault, match="at most 64"):
        host.room.heard("west", wish(*(f"a{n}-0123456789abcdef" for n in range(MAX_GOING + 1))))
    with pytest.raises(PeerFault, match="0 agents"):
        host.room.heard("west", wish())
    with pytest.raises(PeerFault, match="set out twice"):
        host.room.heard("west", wish(Y, Z, Y))
    for _ in range(AT_ONCE):
        host.room.heard("west", wish(Y))
    assert not host.told
    host.room.heard("west", wish(Y))
    ((_, answer),) = host.told
    assert "too many groups at once" in dict(answer.agents)[Y]
    while host.tasks:
        await host.tasks.pop()
    assert await host.asked("west", wish(Z)) == {}


async def test_only_the_host_that_was_asked_says_who_stayed_and_of_these_alone(host: Host) -> None:
    asking = asyncio.ensure_future(host.room.ask("west", "trio", [X], "south", "ada moved", None))
    await asyncio.sleep(0)
    ((_, said),) = host.told
    host.room.heard("east", Stayed(said.number, ((X, "a lie"),)))
    host.room.heard("west", Stayed(said.number + 1, ((X, "another"),)))
    await asyncio.sleep(0)
    assert not asking.done()
    host.room.heard("west", Stayed(said.number, ((X, "no room"), (Y, "not asked for"))))
    assert await asking == Outcome({X: "no room"})
    host.room.heard("west", Stayed(said.number, ()))  # repeated


async def test_a_host_that_is_lost_or_silent_is_not_waited_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unavailable, match="no link to it now"):
        await host.room.ask("nowhere", "trio", [X], "south", "", None)
    asking = asyncio.ensure_future(host.room.ask("west", "trio", [X], "south", "", None))
    await asyncio.sleep(0)
    host.up.clear()
    with pytest.raises(Unavailable, match="link to west was lost before it said"):
        await asking
    host.up.add("west")
    monkeypatch.setattr(setting_out, "PATIENCE", 0.0)
    with pytest.raises(Unavailable, match="did not say within 0 s"):
        await host.room.ask("west", "trio", [X], "south", "", None)


async def test_what_is_no_convoy_of_this_host_moves_nobody(host: Host) -> None:
    async def refuses(*_: Any) -> None:
        raise Misuse("what goes from here is not its part of the convoy")

    host.room._lives = SimpleNamespace(awake=host.awake, decided=refuses)  # type: ignore[assignment]
    assert "not its part" in (await host.asked("west", wish(Y)))[Y]
