"""What agents do goes to the room that it is for (runners.base.Upcalls)."""

import contextlib
import logging
from collections.abc import Callable

from msgspec.structs import replace

from agentplatform.custody.carry import Carrier
from agentplatform.faults import error_body
from agentplatform.kinds import DIRECTORY, EDS, Found, Query
from agentplatform.lives import Lives
from agentplatform.logbook import Logbook
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import Answer, Checkpoint, Custody, Outgoing
from agentplatform.parcel.freight import Stowed
from agentplatform.runners.base import Runner
from agentplatform.ticket import Ticket
from ledger import codec
from ledger.errors import PeerFault

log = logging.getLogger(__name__)


class HostUpcalls:
    # The runner, and rooms that it is given to: they are put here before it starts.
    carrier: Carrier
    mailroom: Mailroom
    lives: Lives
    runner: Runner
    reported: Callable[[str, str, float], None]  # (agent, kind, value): to the EDS

    def __init__(self, host: str, logbook: Logbook, find: Callable[[Query], list[Found]]) -> None:
        """`find` asks the directory of services."""
        self._host, self._logbook, self._find = host, logbook, find

    def wants_to_go(self, agent: str, destination: str, state: Stowed) -> None:
        self.lives.wants_to_go(agent, destination, state)

    def books(self, agent: str, ticket: Ticket) -> None:
        self.lives.books(agent, ticket)

    def wants_to_sleep(self, agent: str, seconds: float | None) -> None:
        self.lives.wants_to_sleep(agent, seconds)

    def wants_clone(self, agent: str) -> None:
        self.lives.wants_clone(agent)

    def wants_custody(self, agent: str, custody: Custody, consent: bytes) -> None:
        self.lives.wants_custody(agent, custody, consent)

    def wants_to_end(self, agent: str) -> None:
        self.lives.wants_to_end(agent)

    def checkpointed(self, agent: str, checkpoint: Checkpoint) -> None:
        if checkpoint.state is not None and checkpoint.state.file and agent not in self.mailroom.boxes:
            self.carrier.books.needless(checkpoint.state.file)  # a late frame of an agent that left
        reports = [letter for letter in checkpoint.letters if letter.receiver == EDS]
        if reports:
            checkpoint = replace(checkpoint, letters=[each for each in checkpoint.letters if each.receiver != EDS])
        self.mailroom.checkpointed(agent, checkpoint)
        for letter in reports:
            self._report(agent, letter)

    def _report(self, agent: str, letter: Outgoing) -> None:
        with contextlib.suppress(PeerFault):  # what is no number is no report
            value = codec.decode(letter.body, float, agent)
            self.lives.when_durable(agent, lambda: self.reported(agent, letter.kind, value))

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        if outgoing.receiver == EDS:
            self._report(agent, outgoing)
        elif outgoing.receiver != DIRECTORY:
            self.mailroom.sent(agent, outgoing)
        elif outgoing.call is not None:
            self.runner.answer(agent, outgoing.call, self._found(agent, outgoing.body))

    def _found(self, agent: str, query: bytes) -> Answer:
        try:
            return Answer(True, codec.encode(self._find(codec.decode(query, Query, agent))))
        except PeerFault as fault:
            return Answer(False, error_body(fault))

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        self.mailroom.answered(agent, ticket, answer)

    def printed(self, agent: str, stream: str, text: str) -> None:
        self._logbook.printed(agent, stream, text)

    def died(self, agent: str, reason: str) -> None:
        becomes = self.carrier.lifetimes.died(agent)
        log.warning("the worker of %s ended: %s; %s", agent, reason, becomes)
        self._logbook.write(agent, "note", f"its worker on {self._host} ended: {reason}; {becomes}")
