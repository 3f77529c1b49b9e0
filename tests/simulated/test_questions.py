"""Questions whose answers come later and are for the state of who asked, wherever it is: while hosts lose power, and
while both agents move, each question is handled once, and each answer heard once.
"""

from collections.abc import Callable, Iterable, Sequence

import pytest

from agentplatform.mail import Letter, Reply
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.sender import Sender
from agentplatform.messages import Answer
from tests.helpers.edge_world import World

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
NOTES = (1, 2)  # those that z answers later; 3 and 4 it answers at once


async def inquire(fault: Callable[[World], None] | None, at: int, seed: int) -> int:
    """x asks z on the other host four questions; they change places, and x comes back while z lets the answers go.

    `fault` happens after the event `at`. Returns the number of events.
    """
    world = World("a", "b", seed=seed)
    await world.boot()
    x, z = await world.create("a", "x"), await world.create("b", "z")
    first = world.index
    if fault is not None:
        world.plans[first + at, "after"] = lambda: fault(world)
    asks = [world["a"].ask(x, "inquire", [z, "hold", note]) for note in NOTES]
    asks += [world["a"].ask(x, "inquire", [z, "note", note]) for note in (3, 4)]
    await world.crank()
    for agent, home, to in ((x, "a", "b"), (z, "b", "a")):
        if home in world.hosts and agent in world[home].carrier.residents.known:
            world[home].depart([agent], to)
        await world.crank()
    if "a" in world.hosts:
        world["a"].ask(z, "let go", None)
    if "b" in world.hosts and x in world["b"].carrier.residents.known:
        world["b"].depart([x], "a")
    await world.crank()
    events = world.index - first
    await world.heal()
    released = world["a"].ask(z, "let go", None, client="last")
    await world.crank()
    await world.heal()
    assert released.done() and released.result().ok, "nobody was let go in the end"
    asker, answerer = world[world.holder(x)].state(x), world[world.holder(z)].state(z)
    handled, heard, asked = answerer["handled"], asker.get("heard", []), asker.get("asked", {})
    said = f"{x} waits for {sorted(asked.values())} and has heard {heard}; {z} has handled {handled}"
    assert not asked, f"an answer never came: {said}"
    assert sorted(heard) == sorted(set(heard)), f"heard twice: {said}"
    assert sorted(handled) == sorted(set(handled)), f"handled twice: {said}"
    assert sorted(heard) == sorted(handled), said
    answered = [note for note, ask in zip((*NOTES, 3, 4), asks, strict=True) if ask.done() and not ask.cancelled()]
    assert set(answered) <= set(heard), f"asked, and forgotten: {said}"
    if fault is None:
        assert heard == [3, 4, 1, 2], said
    world.close()
    return events


async def at_every_point(seed: int = 0, victims: Sequence[str] = ("a", "b"), first: int = 0, step: int = 1) -> None:
    for victim, together in enumerate(victims):
        for at in range(first + victim % step, await inquire(None, 0, seed), step):

            def crash(world: World, together: str = together) -> None:
                for name in together:
                    world.crash(name)

            try:
                await inquire(crash, at, seed)
            except AssertionError as error:
                raise AssertionError(f"seed {seed}, {together} after event {at}: {error}") from error


async def test_a_crash_of_either_host_between_a_question_and_its_answer() -> None:
    await at_every_point(step=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(9))
async def test_a_crash_at_every_point_in_many_orders(seed: int) -> None:
    await at_every_point(seed, ("a", "b", "ab"))


async def test_the_harness_catches_late_answers_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks again after a crash would get no answer."""
    answered_later = Mailbox.answered_later

    def forgetful(self: Mailbox, reply: Reply) -> bool:
        news = answered_later(self, reply)
        self._late.clear()
        return news

    monkeypatch.setattr(Mailbox, "answered_later", forgetful)
    with pytest.raises(AssertionError, match="left a before it was durable"):
        await inquire(None, 0, 0)


async def test_the_harness_catches_a_reply_that_is_settled_before_it_was_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As for a call: the reply is done with when it is with the worker."""
    outcome = Sender._outcome

    def hasty(self: Sender, letter: Letter, answer: Answer) -> None:
        outcome(self, letter, answer)
        if letter.question is not None:
            self._settle(letter)

    monkeypatch.setattr(Sender, "_outcome", hasty)
    with pytest.raises(AssertionError, match="never came"):
        await at_every_point(first=38)  # x is on its way back


async def test_the_harness_catches_a_host_that_forgets_which_questions_are_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def deaf(self: Sender, questions: Iterable[int]) -> None:
        """It does not hear that an answer was heard, and asks for ever."""

    monkeypatch.setattr(Sender, "heard", deaf)
    world = World("a", "b")
    await world.boot()
    x, z = await world.create("a", "x"), await world.create("b", "z")
    world["a"].ask(x, "inquire", [z, "note", 1])
    await world.crank()
    assert not world["a"].mailroom._senders[x].idle
    world.close()


async def test_a_question_to_an_agent_that_ended_is_answered_with_that() -> None:
    world = World("a", "b")
    await world.boot()
    x, z = await world.create("a", "x"), await world.create("b", "z")
    world["a"].ask(x, "inquire", [z, "hold", 1])
    await world.crank()
    assert world["a"].state(x)["asked"] and world["b"].state(z)["held"]
    await world.until(world["b"].start(world["b"].carrier.lifetimes.dispose(z)))
    await world.heal()
    assert world["a"].state(x)["heard"] == ["an error"] and world["a"].mailroom._senders[x].idle
    world.close()
