"""What the machine decided comes into the journal, in its order, and the machine hears when it is durable.

With it go the files of large states: a file of the spool stays as long as a record or a checkpoint names it.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from agentplatform.custody import events
from agentplatform.custody.arrivals import Arrivals
from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.departures import Departures
from agentplatform.custody.gateway import Gateway
from agentplatform.custody.journal import Journal
from agentplatform.custody.records import (
    Aborted,
    Active,
    Born,
    Closed,
    Commit,
    Confirmed,
    Convert,
    Declared,
    Ended,
    Kept,
    Prepare,
    Received,
    Record,
    Withdrawn,
)
from agentplatform.parcel.spool import Spool
from ledger import codec


class Bookkeeper:
    def __init__(
        self,
        journal: Journal,
        spool: Spool,
        gateway: Gateway,
        departures: Departures,
        arrivals: Arrivals,
        replication: Replication,
        step: Callable[[events.Event], None],
        start: Callable[[Coroutine[Any, Any, None]], object],
        ended: Callable[[str], None],
        broken: Callable[[str], None],
    ) -> None:
        """`step` tells the machine, `start` begins a task. `ended`: it is durable that this agent is no more."""
        self._journal, self._spool, self._gateway = journal, spool, gateway
        self._departures, self._arrivals, self._replication = departures, arrivals, replication
        self._step, self._start, self._ended, self._broken = step, start, ended, broken
        self._last: asyncio.Future[None] | None = None  # the write that was handed to the log last
        journal.named = self._named

    def write(self, record: Record, beside: tuple[bytes, ...], parent: str | None) -> None:
        files: dict[str, str] = {}
        if isinstance(record, Prepare | Convert):
            beside = tuple(codec.encode(parcel) for parcel in self._departures.parcels(record.transfer))
            files = self._departures.files(record.transfer)
        elif isinstance(record, Received):
            beside = tuple(codec.encode(parcel) for parcel in self._arrivals.parcels(record.transfer))
            files = self._arrivals.files(record.transfer)
        durable = self._journal.write(record, beside, files, parent)
        if not isinstance(record, Closed):  # nobody is told anything that rests on that
            self._last = durable
        if isinstance(record, Born | Confirmed):
            self._gateway.hold(record.agent, durable)
        elif isinstance(record, Active | Declared):
            for agent in self._arrivals.agents(record.transfer):
                self._gateway.hold(agent, durable)
        elif isinstance(record, Commit):
            self._departures.commit(record.transfer)
        elif isinstance(record, Closed):
            self._departures.arrived(record.transfer)
            if self._spool.settled():  # the file of a large state goes when this is durable
                self._journal.flush()
        elif isinstance(record, Aborted | Withdrawn | Kept):
            for load in record.cargo:
                self._replication.renewed(load.agent)
        durable.add_done_callback(lambda future: self._durable(record, files, future))

    def _durable(self, record: Record, files: dict[str, str], future: "asyncio.Future[None]") -> None:
        if future.cancelled():
            return
        error = future.exception()
        if error is None:
            for file in files.values():
                self._spool.settle(file)
            self._step(events.Durable(record))
            if not files and self._spool.settled():  # it may have made one needless
                self._start(self.sweep())
            if isinstance(record, Ended):
                self._ended(record.agent)
        else:  # the machine is ahead of its log for good
            self._broken(f"the custody journal did not take a {type(record).__name__}: {error}")

    def _named(self, file: str | None) -> None:
        """By a checkpoint; the one before it is needless."""
        if file is not None:
            self._spool.settle(file)
        self._start(self.sweep())

    def needless(self, file: str) -> None:
        """No record will name this file of the spool."""
        self._spool.remove(file)

    async def sweep(self) -> None:
        """Removes the files of large states that no record names any more."""
        if files := self._spool.settled():
            for file in files - await self._journal.files():
                self._spool.remove(file)

    async def written(self) -> None:
        """Until all that was handed to the journal by now is durable, agents' checkpoints too."""
        await self._journal.settled()

    async def end(self) -> None:
        """Until all that was handed to the log is durable: what a caller is told then stays true."""
        if self._last is not None:
            await asyncio.shield(self._last)
