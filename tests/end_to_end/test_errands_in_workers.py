"""Timers and questions of agents in real workers, which are killed, and start again from what was kept of them."""

import os
import signal
from typing import Any

import pytest

from agentplatform.messages import Answer, Arrival, Checkpoint, Delivery
from agentplatform.parcel.manifest import Birth
from ledger import codec
from tests.helpers.errand_agents import Errand
from tests.helpers.two_runners import THERE, Recorder, Station


class Journal(Recorder):
    """Keeps what a host keeps of an agent's state."""

    def __init__(self) -> None:
        super().__init__()
        self.states: list[bytes] = []

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        if checkpoint.state is not None:
            assert not checkpoint.state.pieces
            self.states.append(checkpoint.state.head)
        self._hear("checkpointed", (agent, checkpoint))

    async def noted(self) -> tuple[Checkpoint, list[Any]]:
        """The next checkpoint with a letter, and what that says."""
        _, checkpoint = await self.next("checkpointed", "'note'")
        (letter,) = checkpoint.letters
        return checkpoint, codec.decode(letter.body, list)

    async def asked(self) -> tuple[Checkpoint, int]:
        """The next checkpoint with a question, and its number."""
        _, checkpoint = await self.next("checkpointed", "'hold'")
        (letter,) = checkpoint.letters
        assert letter.then and letter.call is not None
        return checkpoint, letter.call


class Host(Station):
    """A station that starts agents from what it kept, as a host does after a crash."""

    def __init__(self, host: str) -> None:
        self.kept = Journal()
        super().__init__(host, ups=self.kept)

    async def kill_and_restore(self, birth: Birth, code: bytes, epoch: int, forget: int = 0) -> None:
        """With `forget` it starts from a state before the last: a host that lost a checkpoint."""
        os.kill(self.pid(birth.agent), signal.SIGKILL)
        await self.kept.next("died")
        await self.runner.open(birth, code, self.kept.states[-1 - forget])
        self.runner.activate(birth.agent, Arrival(self.host, epoch, None))


async def test_a_timer_rings_once_across_a_kill() -> None:
    async with Host("here") as here:
        birth, code = await here.create(Errand)
        await here.call(birth.agent, "set", {"seconds": 0.0, "name": "first"})
        rang = [(await here.kept.noted())[1]]
        await here.call(birth.agent, "set", {"seconds": 0.2, "name": "second"})
        await here.kill_and_restore(birth, code, 1)
        rang.append((await here.kept.noted())[1])
        await here.kill_and_restore(birth, code, 1)
        await here.call(birth.agent, "set", {"seconds": 0.0, "name": "third"})
        rang.append((await here.kept.noted())[1])
        assert rang == [["rang", "first"], ["rang", "second"], ["rang", "third"]]
        assert await here.call(birth.agent, "notes") == ["here", rang]


async def test_the_harness_sees_a_host_that_forgets_a_checkpoint() -> None:
    """It starts from the state before the first ring."""
    async with Host("here") as here:
        birth, code = await here.create(Errand)
        await here.call(birth.agent, "set", {"seconds": 0.0, "name": "first"})
        assert (await here.kept.noted())[1] == ["rang", "first"]
        await here.kill_and_restore(birth, code, 1, forget=1)
        assert (await here.kept.noted())[1] == ["rang", "first"]  # again


async def test_a_timer_goes_on_after_a_hop_and_a_kill_there() -> None:
    async with Host("here") as here, Host("there") as there:
        birth, code = await here.create(Errand)
        await here.call(birth.agent, "set", {"seconds": 3600.0, "name": "not yet"})
        await here.call(birth.agent, "set", {"seconds": 0.3, "name": "there"})
        await here.call(birth.agent, "beat", 3600.0)
        state = await here.runner.capture(birth.agent, THERE)
        await there.runner.open(birth, code, state)
        here.runner.discard(birth.agent)
        assert isinstance(state, bytes)
        there.kept.states.append(state)
        there.runner.activate(birth.agent, Arrival("there", 2, "here"))
        await there.kill_and_restore(birth, code, 2)
        assert (await there.kept.noted())[1] == ["rang", "there"]
        await there.kill_and_restore(birth, code, 2)
        assert await there.call(birth.agent, "notes") == ["there", [["rang", "there"]]]


async def test_an_answer_finds_its_method_after_a_hop_and_a_kill_and_is_handled_once() -> None:
    async with Host("here") as here, Host("there") as there:
        birth, code = await here.create(Errand)
        await here.call(birth.agent, "ask", {"to": "holder"})
        checkpoint, number = await here.kept.asked()
        assert checkpoint.state is not None and checkpoint.answers  # asked, answered and kept as one
        state = await here.runner.capture(birth.agent, THERE)
        await there.runner.open(birth, code, state)
        here.runner.discard(birth.agent)
        there.runner.activate(birth.agent, Arrival("there", 2, "here"))
        yes = Answer(True, codec.encode("yes"))
        there.runner.answer(birth.agent, number, yes)
        there.runner.answer(birth.agent, number, yes)  # the host brings it until it is heard
        checkpoint, note = await there.kept.noted()
        assert note == ["answered", "yes"] and checkpoint.heard == (number,) and checkpoint.state is not None
        await there.kill_and_restore(birth, code, 2)
        there.runner.answer(birth.agent, number, yes)
        assert await there.call(birth.agent, "notes") == ["there", [["answered", "yes"]]]
        _, again = await there.kept.next("checkpointed", f"heard=({number},)")
        assert again.letters == ()


async def test_a_question_ends_in_time_also_after_a_kill() -> None:
    async with Host("here") as here:
        birth, code = await here.create(Errand)
        await here.call(birth.agent, "ask", {"to": "holder", "timeout": 0.2})
        _, number = await here.kept.asked()
        await here.kill_and_restore(birth, code, 1)
        checkpoint, note = await here.kept.noted()
        assert note == ["answered", "holder did not answer 'hold' within 0.2 s"] and checkpoint.heard == (number,)


@pytest.mark.parametrize("ok", [True, False])
async def test_what_was_delegated_is_answered_after_a_kill(ok: bool) -> None:
    async with Host("here") as here:
        birth, code = await here.create(Errand)
        message = Delivery(7, "client-test", "delegate", codec.encode("holder"), sequence=7, origin="elsewhere")
        here.runner.deliver(birth.agent, message)
        checkpoint, number = await here.kept.asked()
        ((ticket, answer),) = checkpoint.answers
        assert answer is None and ticket == 7  # handled, and not answered yet
        await here.kill_and_restore(birth, code, 1)
        here.runner.answer(birth.agent, number, Answer(ok, codec.encode("so be it")))
        _, checkpoint = await here.kept.next("checkpointed", "so be it")
        ((later, answer),) = checkpoint.late
        assert (later.sender, later.sequence, later.origin) == ("client-test", 7, "elsewhere")
        assert answer == Answer(ok, codec.encode("so be it")) and checkpoint.heard == (number,)
