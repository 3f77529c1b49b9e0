"""Agents that converse while their hosts lose power: each message that was answered is handled once, each letter that
an agent's state knows of arrives once and in order, and no other does; a handler that runs again calls but once.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.mail import Change, Letter, Loose
from agentplatform.messages import Answer
from agentplatform.parcel.spool import MemorySpool
from tests.helpers.edge_ground import WatchedJournal, WatchedMailroom
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
NOTES = (1, 2)


async def converse(
    fault: Callable[[World], None] | None,
    at: int,
    seed: int,
    restarts: int = 0,
    spool: type[MemorySpool] = MemorySpool,
    **kinds: Any,
) -> int:
    """x on a and z on b tell y, which lives beside x, and z, what clients tell them to; v on a calls w on b, and u on b
    calls t beside it.

    `fault` happens after the event `at`; hosts that crashed are started so many times while faults go on. Returns the
    number of events.
    """
    world = World("a", "b", seed=seed, **kinds)
    world.spools = {name: spool() for name in world.names}
    await world.boot()
    x, y, z = [await world.create(*each) for each in (("a", "x"), ("a", "y"), ("b", "z"))]
    v, w, u, t = [await world.create(*each) for each in (("a", "v"), ("b", "w"), ("b", "u"), ("b", "t"))]
    first = world.index
    if fault is not None:
        world.plans[first + at, "after"] = lambda: fault(world)
    told = [world["a"].ask(x, "pass on", [z, note]) for note in NOTES]
    back = [world["b"].ask(z, "pass on", [y, note]) for note in NOTES]
    calls = [world["b"].ask(v, "call", [w, note, note + 0.5]) for note in NOTES]
    near = [world["a"].ask(u, "call", [t, note, note + 0.5]) for note in NOTES]
    await world.crank()
    events = world.index - first
    for _ in range(restarts):
        await world.boot()
    await world.heal()
    for asks, sender, host, receiver, home in (
        (told, x, "a", z, "b"),
        (back, z, "b", y, "a"),
        (calls, v, "a", w, "b"),
        (near, u, "b", t, "b"),
    ):
        state, handled = world[host].state(sender), world[home].state(receiver)["handled"]
        passed = state.get("passed", [])
        answered = [note for note, ask in zip(NOTES, asks, strict=True) if not ask.cancelled()]
        assert all(ask.done() for ask in asks), "a message was never answered"
        assert all(ask.cancelled() or ask.result().ok for ask in asks)
        assert passed == sorted(set(passed)), f"handled twice, or out of order: {passed}"
        assert set(answered) <= set(passed), f"answered and forgotten: {answered}, {passed}"
        said = f"{sender} has sent {passed}, and {receiver} has handled {handled}"
        if sender in (v, u) and len(answered) < len(NOTES):  # its client is gone: it never runs again
            assert set(passed) <= set(handled) and handled == sorted(set(handled)), said
        else:
            assert handled == passed, said
    for name in world.names:
        named = await world.until(world[name].start(world[name].journal.files()))
        assert world.spools[name].files.keys() == named, "a file of nobody, or none"
    world.close(at_rest=True)
    return events


async def at_every_point(
    seeds: Sequence[int] = (0, 1, 2), victims: Sequence[str] = ("a", "b", "ab"), every: int = 1, **kinds: Any
) -> None:
    """Or at `every` so many."""
    for seed in seeds:
        for at in range(0, await converse(None, 0, seed, **kinds), every):
            for together in victims:

                def crash(world: World, together: str = together) -> None:
                    for name in together:
                        world.crash(name)

                try:
                    await converse(crash, at, seed, **kinds)
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, {together} after event {at}: {error}") from error


async def test_a_crash_at_every_point_of_a_conversation() -> None:
    await at_every_point(seeds=(0,), victims=("a", "b"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 9))
async def test_a_crash_at_every_point_of_a_conversation_in_other_orders(seed: int) -> None:
    await at_every_point(seeds=(seed,))


async def test_crashes_during_the_recovery_from_crashes() -> None:
    for seed in range(100, 140):
        chance = random.Random(seed)  # noqa: S311

        def storm(world: World, chance: random.Random = chance) -> None:
            world.crash(chance.choice("ab"))
            world.plans[world.index + chance.randrange(1, 15), "after"] = lambda: storm(world)

        try:
            await converse(storm, chance.randrange(20), seed, restarts=chance.randrange(6))
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error


class Heedless(WatchedJournal):
    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        """Does not remember what left before the state that knows of it."""
        return super().keep_letter(letter)


class Deaf(WatchedJournal):
    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None:
        """Does not remember the answer: who asks again waits for ever."""


class Hasty(WatchedMailroom):
    def __init__(self, *rooms: Any) -> None:
        """Lets out what an agent did before that is written."""
        super().__init__(*rooms)
        self._leaving.when = lambda durable, posts: [self.route(post) for post in posts]  # type: ignore[method-assign]


class Apart(WatchedJournal):
    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        """Writes letters when the state is written."""
        done = super().checkpoint(agent, replace(change, letters=()))
        done.add_done_callback(lambda _: done.cancelled() or [self.keep_letter(letter) for letter in change.letters])
        return done


class Forgetful(WatchedJournal):
    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        """Does not write what was handled."""
        future = super().checkpoint(agent, replace(change, seen=()))
        self._keep([("reply", agent, seen.sender, seen.sequence) for seen in change.seen], future)
        return future


class Renumbering(WatchedJournal):
    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        """Does not write what was sent: a number is used twice."""
        future = super().checkpoint(agent, replace(change, letters=()))
        self._keep([("letter", agent, each.receiver, each.sequence) for each in change.letters], future)
        return future


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ({"mailroom": Hasty}, "before it was durable"),
        ({"journal": Apart}, "has handled|before it was durable"),
        ({"journal": Forgetful}, r"has handled \[1, 1"),
        ({"journal": Renumbering}, "has handled"),
        ({"journal": Heedless}, "has handled"),
        ({"journal": Deaf}, "never answered"),
        ({"policy": "hop"}, "answered and forgotten"),
    ],
)
async def test_the_harness_catches_what_is_not_one_transaction(kinds: dict[str, Any], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        await at_every_point(**kinds)


@pytest.mark.parametrize(
    ("kinds", "rule"),
    [({"mailroom": Hasty}, "acknowledged before it was handled"), ({"journal": Forgetful}, "handled twice")],
)
async def test_the_history_alone_shows_it_too(worlds: list[World], kinds: dict[str, Any], rule: str) -> None:
    with pytest.raises(AssertionError):
        await at_every_point(**kinds)
    with pytest.raises(AssertionError, match=rule):
        worlds[-1].chronicle.judge()
