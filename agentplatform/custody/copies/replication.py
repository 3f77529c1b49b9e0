"""The edge at a held agent's host: what its holders get, and when what the agent caused may leave.

It stands between the mailroom and the journal: what the journal writes of a held agent goes to its holders too, and is
done when both have it. It chooses holders, and has the ledger name them.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

from agentplatform.custody.copies.feeds import Feeder, Stay
from agentplatform.custody.copies.holders import Copies
from agentplatform.custody.copies.messages import (
    Answered,
    Bound,
    Checkpointed,
    CopyMessage,
    Have,
    Joined,
    Op,
    Refused,
    Settled,
    Wrote,
)
from agentplatform.custody.copies.naming import Hosts, Naming
from agentplatform.custody.copies.origins import Origin
from agentplatform.custody.journal import Journal, copy_outcome
from agentplatform.custody.residences import Ledger
from agentplatform.custody.waits import Wait
from agentplatform.mail import Change, Letter, Loose, Standing
from agentplatform.messages import Answer
from agentplatform.parcel.manifest import Birth
from agentplatform.settings import Holders

PATIENCE = 1.0  # seconds after which it is said that an agent waits for its holders


class Around(Hosts, Protocol):
    """What replication asks of the rest of its host."""

    def send_copy(self, host: str, message: bytes) -> bool:
        """Over the link; False when there is none now, or too much waits for it."""


class Replication:
    """Implements agentplatform.outbox.Outbox."""

    def __init__(
        self,
        host: str,
        organisation: str,
        journal: Journal,
        ledger: Ledger,
        around: Around,
        settings: Holders,
        run: Callable[[], int],
        origin: Callable[[str], Coroutine[Any, Any, Origin]],
    ) -> None:
        """`run` is this host's incarnation; `origin(agent)` reads the parcel of a resident agent."""
        self._journal, self._run = journal, run
        self._feeder = Feeder(journal, around.send_copy, around.linked, run, origin)
        self._naming = Naming(host, organisation, ledger, around, settings, self._feeder, self._advance)
        self.findable = self._naming.findable
        self._stays: dict[str, Stay] = {}
        self._positions: dict[str, int] = {}  # the last ones of agents that lived here before
        self.completed: Callable[[], None] = lambda: None  # what was held back may leave

    # The agents that live here

    def begin(self, birth: Birth, epoch: int, subject: bytes) -> None:
        """A held agent lives here from now on, or has another epoch. Nothing leaves before its holders have it."""
        stay = self._stays.get(birth.agent)
        if stay is not None and stay.epoch == epoch:
            return
        if stay is None:
            copies = Copies(self._naming.wanted(birth), self._positions.get(birth.agent, 0))
            stay = self._stays[birth.agent] = Stay(birth, subject, epoch, copies)
        stay.epoch = epoch
        self._feeder.renew(stay)
        self._naming.look(stay)
        self._advance(stay)

    async def ready(self, agent: str) -> None:
        """Until its holders have it, or it does not live here any more."""
        stay = self._stays.get(agent)
        if stay is not None:
            waiting = self._both(agent, _done())
            await asyncio.wait([waiting])
            if not waiting.cancelled():
                waiting.result()

    async def make_way(self, agent: str, to: str) -> None:
        """Before a move to `to`: it is not left without a holder, if that can be."""
        stay = self._stays.get(agent)
        if stay is not None:
            await self._naming.make_way(stay, to)

    def renewed(self, agent: str) -> None:
        """The state that a restart reads is another one now than its changes lead to."""
        stay = self._stays.get(agent)
        if stay is not None:
            self._feeder.renew(stay)
            self._advance(stay)

    def end(self, agent: str) -> None:
        """It does not live here any more: what waits here never leaves from here."""
        stay = self._stays.pop(agent, None)
        if stay is None:
            return
        self._positions[agent] = stay.copies.position
        for _, _, waiting in stay.waits:
            waiting.cancel()
        for host in list(stay.feeds):
            self._feeder.stop(stay, host)
        if stay.naming is not None:
            stay.naming.cancel()

    def may_leave(self, agent: str) -> bool:
        """Its holders have all that it was when it began to live here. What it did since waits for itself."""
        stay = self._stays.get(agent)
        return stay is None or stay.copies.complete

    def waits(self) -> Iterator[Wait]:
        """What is blocked since some time, because holders do not have it."""
        now = asyncio.get_running_loop().time()
        for agent, stay in self._stays.items():
            if stay.waits_since is None or now - stay.waits_since < PATIENCE:
                continue
            troubles = [f"{host}: {feed.trouble}" for host, feed in stay.feeds.items() if feed.trouble]
            why = "what it does leaves when they have its checkpoint"
            if not stay.copies.required:
                why = "another trusted host must have its checkpoint before anything leaves, and none is found yet"
            hosts = ", ".join(stay.copies.waits_for) or ", ".join(stay.feeds) or "another host"
            yield Wait((agent,), hosts, "; ".join([why, *troubles]))

    # The mailroom's outbox

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        return self._both(agent, self._journal.checkpoint(agent, change), Checkpointed(change))

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        return self._both(letter.sender, self._journal.keep_letter(letter, loose), Wrote(letter, loose))

    def reserve_numbers(self, agent: str, receiver: str, upto: int) -> "asyncio.Future[None]":
        return self._both(agent, self._journal.reserve_numbers(agent, receiver, upto), Settled(receiver, upto))

    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None:
        self._journal.keep_answer(agent, receiver, sequence, answer)
        self._later(agent, Answered(receiver, sequence, answer))

    def drop_loose(self, agent: str) -> None:
        self._journal.drop_loose(agent)
        self._later(agent, Bound())

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        self._journal.drop_letters(agent, receiver, upto)
        self._later(agent, Settled(receiver, upto))

    def keep_standing(self, agent: str, standing: Standing) -> None:
        self._journal.keep_standing(agent, standing)
        self._later(agent, Joined(standing))

    def keep_end(self, agent: str, at: int) -> None:
        self._journal.keep_end(agent, at)

    def replicated(self, agent: str) -> bool:
        """What comes of its letters is not safe when it is written behind them on this host alone."""
        return agent in self._stays

    def flush(self) -> "asyncio.Future[None] | None":
        durable = self._journal.flush()
        waits = [] if durable is None else [durable]
        for agent, stay in self._stays.items():
            if stay.lazy:
                self._feeder.change(stay, ())
            if stay.copies.safe < stay.copies.position:
                waits.append(self._both(agent, _done()))
        return _joined(waits) if waits else None

    def _both(self, agent: str, durable: "asyncio.Future[None]", *ops: Op) -> "asyncio.Future[None]":
        stay = self._stays.get(agent)
        if stay is None:
            return durable
        if ops:
            self._feeder.change(stay, ops)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stay.waits.append((stay.copies.position, durable, waiting))
        durable.add_done_callback(lambda _: self._advance(stay))
        return waiting

    def _later(self, agent: str, op: Op) -> None:
        if agent in self._stays:
            self._stays[agent].lazy.append(op)

    def _advance(self, stay: Stay) -> None:
        """In their order: what is durable here and there may leave."""
        while stay.waits and stay.waits[0][1].done():
            position, durable, waiting = stay.waits[0]
            failed = not durable.cancelled() and durable.exception() is not None
            if not failed and not durable.cancelled() and position > stay.copies.safe:
                return
            stay.waits.popleft()
            copy_outcome(durable, waiting)
        before, stay.was_complete = stay.was_complete, stay.copies.complete
        if stay.was_complete and not before:
            self.completed()

    # Holders, and the ledger

    def receive(self, host: str, message: CopyMessage) -> None:
        """What holders answer."""
        stay = self._stays.get(message.agent)
        if stay is None or host not in stay.feeds or (message.epoch, message.run) != (stay.epoch, self._run()):
            return
        if isinstance(message, Have):
            self._feeder.has(stay, host, message.position)
            self._advance(stay)
            if host not in stay.copies.named:
                self._naming.look(stay)
        elif isinstance(message, Refused):
            self._feeder.refused(stay, host, message)

    def linked(self, host: str) -> None:
        """There is a new link to it."""
        for stay in self._stays.values():
            if host in stay.feeds:
                self._feeder.relinked(stay, host)

    def follow(self) -> None:
        """The chain has grown."""
        for stay in list(self._stays.values()):
            self._naming.look(stay)

    def remind(self) -> None:
        """Once in a while: sends again where nothing moves, and replaces holders that are gone."""
        now = asyncio.get_running_loop().time()
        for stay in list(self._stays.values()):
            late = stay.copies.safe < stay.copies.position
            stay.waits_since = (stay.waits_since or now) if late else None
            self._feeder.remind(stay)
            self._naming.look(stay)


def _done() -> "asyncio.Future[None]":
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _joined(waits: "list[asyncio.Future[None]]") -> "asyncio.Future[None]":
    """Done when all are. One that was cancelled counts as done: its agent does not live here any more."""
    joined: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def join(done: "asyncio.Future[list[BaseException | None]]") -> None:
        errors = [each for each in done.result() if isinstance(each, Exception)]
        if joined.cancelled():
            return
        if errors:
            joined.set_exception(errors[0])
        else:
            joined.set_result(None)

    asyncio.gather(*waits, return_exceptions=True).add_done_callback(join)
    return joined
