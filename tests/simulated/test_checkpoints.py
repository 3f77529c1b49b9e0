"""Agents that converse while their hosts lose power: each message that was answered is handled once, each letter that
an agent's state knows of arrives once and in order, and no other does.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform.mail import Change, Letter, Reply
from tests.helpers.edge_host import WatchedJournal, WatchedMailroom, World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
NOTES = (1, 2, 3)


async def converse(fault: Callable[[World], None] | None, at: int, seed: int, **kinds: Any) -> int:
    """x on a and z on b tell y, which lives beside x, and z, what clients tell them to.

    `fault` happens after the event `at`. Returns the number of events.
    """
    world = World("a", "b", seed=seed, **kinds)
    await world.boot()
    x, y, z = [await world.create(*each) for each in (("a", "x"), ("a", "y"), ("b", "z"))]
    first = world.index
    if fault is not None:
        world.plans[first + at, "after"] = lambda: fault(world)
    told = [world["a"].ask(x, "pass on", [z, note]) for note in NOTES]
    back = [world["b"].ask(z, "pass on", [y, note]) for note in NOTES]
    await world.crank()
    events = world.index - first
    await world.heal()
    for asks, sender, host, receiver, home in ((told, x, "a", z, "b"), (back, z, "b", y, "a")):
        state, handled = world[host].state(sender), world[home].state(receiver)["handled"]
        passed = state.get("passed", [])
        answered = [note for note, ask in zip(NOTES, asks, strict=True) if not ask.cancelled()]
        assert all(ask.cancelled() or ask.result().ok for ask in asks)
        assert passed == sorted(set(passed)), f"handled twice, or out of order: {passed}"
        assert set(answered) <= set(passed), f"answered and forgotten: {answered}, {passed}"
        assert handled == passed, f"{sender} has sent {passed}, and {receiver} has handled {handled}"
    world.close()
    return events


async def at_every_point(seeds: Sequence[int] = (0, 1, 2), **kinds: Any) -> None:
    for seed in seeds:
        for at in range(await converse(None, 0, seed, **kinds)):
            for victims in ("a", "b", "ab"):

                def crash(world: World, victims: str = victims) -> None:
                    for name in victims:
                        world.crash(name)

                try:
                    await converse(crash, at, seed, **kinds)
                except AssertionError as error:
                    raise AssertionError(f"seed {seed}, {victims} after event {at}: {error}") from error


async def test_a_crash_at_every_point_of_a_conversation() -> None:
    await at_every_point()


class Hasty(WatchedMailroom):
    def _leave(self, posts: Sequence[Letter | Reply], durable: "asyncio.Future[None]") -> None:
        """Lets out what an agent did before that is written."""
        for post in posts:
            self.route(post)


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
        ({"policy": "hop"}, "answered and forgotten"),
    ],
)
async def test_the_harness_catches_what_is_not_one_transaction(kinds: dict[str, Any], says: str) -> None:
    with pytest.raises(AssertionError, match=says):
        await at_every_point(**kinds)
