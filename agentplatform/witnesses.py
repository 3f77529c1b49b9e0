"""The parts of a daemon that write a history: each tells what it sees, and does what it did before.

Nothing here decides anything, and without a history production's own classes run. A line is written as soon as what it
says is true, and before anything that follows from it leaves: custody's records and handled messages when they are
durable, offers, notices and answers to clients before they are sent.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.events import Durable, Effect, Event, Rehomed, Send, Write
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo, Notice, Offer
from agentplatform.custody.records import Active, Born, Commit, Confirmed, Convert, Declared, Prepare, Received, Record
from agentplatform.custody.state import Phase
from agentplatform.history import HostHistory, Tell
from agentplatform.mail import Change, Letter, Loose, Luggage, Post, Reply
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.clients import Clients
from agentplatform.mailroom.roads import Roads
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Checkpoint, Later
from agentplatform.parcel.manifest import AGENT_ID
from agentplatform.upcalls import HostUpcalls

Kind = TypeVar("Kind")
_BORN = b""  # no transfer: the agent was created here


class _Witness:
    history: HostHistory


class WitnessedHandoff(_Witness, Held):
    def step(self, event: Event) -> list[Effect]:
        if isinstance(event, Durable):
            self._recorded(event.record)
        elif isinstance(event, Rehomed):
            self.history.reopen([event.agent])
        return self._sending(super().step(event))

    def _resolve(self) -> list[Effect]:
        leaving = (load.agent for held in self.leaving.values() for load in held.cargo)
        self.history.reopen([*leaving, *(agent for agent, known in self.agents.items() if known.here)])
        for transfer, held in self.leaving.items():
            if held.phase is Phase.COMMITTED:  # the kill may have come before the line
                self._tell("commit", transfer, held.cargo)
        return self._sending(super()._resolve())

    def _recorded(self, record: Record) -> None:
        match record:
            case Prepare(transfer, _, cargo):
                for load in cargo:
                    # What it did goes with it, though its holders may not have it. Where it is, a client that asks
                    # again is answered from memory. Who sent letters may send them again: to an older copy, if the
                    # ledger gives that a new home.
                    waiting = self.history.unheld.pop(load.agent, [])
                    while waiting:
                        waiting.pop(0)(True)
                self._tell("prepare", transfer, cargo)
            case Received(transfer, _, cargo) | Commit(transfer, cargo):
                self.history.reopened.difference_update(load.agent for load in cargo)
                self._tell(type(record).__name__.lower(), transfer, cargo)
            case Convert(transfer, cargo):
                self._tell("prepare", transfer, cargo)
            case Active(transfer) | Declared(transfer) if transfer in self.arriving:
                self._tell("active", transfer, self.arriving[transfer].cargo)
            case Confirmed(agent, epoch):
                self._tell("active", _BORN, (Cargo(agent, epoch),))
            case Born(agent, epoch, subject):
                self._tell("active", _BORN, (Cargo(agent, epoch, subject),))

    def _sending(self, effects: list[Effect]) -> list[Effect]:
        for effect in effects:
            match effect:
                case Send(_, Offer(transfer, cargo)):
                    self._tell("offer", transfer, cargo)
                case Write(Confirmed(agent, epoch)):
                    self._tell("confirmed", _BORN, (Cargo(agent, epoch),))
                case Write(Declared(transfer, cargo)):
                    self._tell("declared", transfer, cargo)
                case Send(_, Notice(transfer)) if transfer in self.leaving:
                    self._tell("notice", transfer, self.leaving[transfer].cargo)
        return effects

    def _tell(self, event: str, transfer: bytes, cargo: tuple[Cargo, ...]) -> None:
        for load in cargo:
            custody = "held" if load.held else "local"
            self.history.write(event, agent=load.agent, epoch=load.epoch, transfer=transfer.hex(), custody=custody)


class _Outbox(_Witness):
    """Tells of messages when what agents do may leave."""

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        durable: asyncio.Future[None] = super().checkpoint(agent, change)  # type: ignore[misc]
        # By what was told until now: an answer that comes later may be given before this is durable.
        fresh = [seen for seen in change.seen if (seen.sender, agent, seen.sequence) not in self.history.answered]

        def tell(leaves: bool) -> None:
            for seen in fresh:
                if not (leaves and AGENT_ID.fullmatch(seen.sender)):
                    self.history.write("handled", sender=seen.sender, sequence=seen.sequence, receiver=agent)
            self._sent(*change.letters)

        return self._when(durable, agent, tell)

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        durable: asyncio.Future[None] = super().keep_letter(letter, loose)  # type: ignore[misc]
        return self._when(durable, letter.sender, lambda _: self._sent(letter))

    def _sent(self, *letters: Letter) -> None:
        for letter in letters:
            self.history.write("sent", sender=letter.sender, sequence=letter.sequence, receiver=letter.receiver)

    def _when(self, durable: "asyncio.Future[None]", agent: str, tell: Tell) -> "asyncio.Future[None]":
        """`tell` comes before whatever waits for `durable`: it is the first to be told, and leaves through the gateway
        like all that follows. Of a held agent that was given away meanwhile its new home tells."""
        waiting = self.history.unheld.setdefault(agent, [])
        waiting.append(tell)

        def leave() -> None:
            if tell in waiting:  # else it was told when the agent left
                waiting.remove(tell)
                tell(False)

        def done(future: "asyncio.Future[None]") -> None:
            if future.cancelled() or future.exception() is not None:
                with contextlib.suppress(ValueError):
                    waiting.remove(tell)
            else:
                self.history.release(agent, leave)

        durable.add_done_callback(done)
        return durable


class WitnessedJournal(_Outbox, Journal):
    """Where there are no holders."""


class WitnessedReplication(_Outbox, Replication):
    """What a held agent did counts when its holders have it too: until then it may be done again elsewhere."""


class WitnessedClients(Clients):
    """What clients send, and are told, is written nowhere else."""

    def __init__(self, history: HostHistory, host: str, route: Callable[[Post], None], *rest: Any) -> None:
        def sent(post: Post) -> None:
            if isinstance(post, Letter):
                history.write("sent", sender=post.sender, sequence=post.sequence, receiver=post.receiver)
            route(post)

        super().__init__(host, sent, *rest)
        self._history = history

    async def ask(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> Reply:
        reply = await super().ask(client, receiver, kind, body, patience)
        if reply.ok:
            self._history.write("acked", sender=reply.receiver, sequence=reply.sequence, receiver=receiver)
        return reply


class WitnessedMailroom(_Witness, Mailroom):
    def __init__(self, host: str, roads: Roads, *rest: Any) -> None:
        super().__init__(host, roads, *rest)
        self.clients = WitnessedClients(self.history, host, self.route, roads.why_late, self._clock)

    def admit(self, agent: str, epoch: int, luggage: Luggage, *more: Any) -> None:
        """A kill may have come between a handling and its line. A client that asks again is answered from memory."""
        if agent in self.history.reopened:
            self.history.reopened.discard(agent)
            for reply in (reply for memory in luggage.senders.values() for reply in memory.replies if reply.ok):
                handling = reply.receiver, agent, reply.sequence
                if not AGENT_ID.fullmatch(reply.receiver) and handling not in self.history.told():
                    self.history.write("handled", sender=reply.receiver, sequence=reply.sequence, receiver=agent)
        super().admit(agent, epoch, luggage, *more)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self._handled_alone(agent, ticket)
        super().answered(agent, ticket, answer)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        if checkpoint.answers_at_once:
            self._handled_alone(agent, *(ticket for ticket, _ in checkpoint.answers))
        super().checkpointed(agent, checkpoint)

    def _handled_alone(self, agent: str, *tickets: int) -> None:
        """By an agent whose class wants no checkpoint of each message: it may be handled again after a crash."""
        box, given = self.boxes.get(agent), self._given.get(agent)
        if box is None or not given:
            return
        for ticket, expected, letter in zip(tickets, given, box.in_hand, strict=False):
            if ticket == expected:
                self.history.answered.add((letter.sender, agent, letter.sequence))
                self.history.write("handled", sender=letter.sender, sequence=letter.sequence, receiver=agent)

    def _late(self, agent: str, box: Mailbox, later: Later, answer: Answer) -> Reply | None:
        """The message was handled before, perhaps on another host."""
        reply = super()._late(agent, box, later, answer)
        if reply is not None and not box.is_new(reply):
            self.history.answered.add((reply.receiver, agent, reply.sequence))
        return reply

    def _refuse(self, agent: str, box: Mailbox, late: Reply) -> None:
        """A letter that was too late is answered with an error, and not handled."""
        self.history.answered.add((late.receiver, agent, late.sequence))
        super()._refuse(agent, box, late)


class WitnessedUpcalls(_Witness, HostUpcalls):
    def died(self, agent: str, reason: str) -> None:
        """Its worker cannot say any more that the copy does not run."""
        epoch = self.carrier.machine.here(agent)
        if epoch is not None:
            self.history.write("frozen", agent=agent, epoch=epoch)
        super().died(agent, reason)


_WITNESSES: dict[type, type[_Witness]] = {
    HostUpcalls: WitnessedUpcalls,
    Held: WitnessedHandoff,
    Journal: WitnessedJournal,
    Replication: WitnessedReplication,
    Mailroom: WitnessedMailroom,
}


def watched(kind: type[Kind], history: HostHistory | None) -> type[Kind]:
    """`kind` itself, or one that writes to `history` beside."""
    if history is None:
        return kind
    witness = next(_WITNESSES[base] for base in kind.__mro__ if base in _WITNESSES)
    return type(witness.__name__, (witness, kind), {"history": history})
