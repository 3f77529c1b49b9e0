"""The mobile agent environment of one host: how its life begins, goes on, and ends."""

import asyncio
import logging
import time
from pathlib import Path

from agentplatform.claiming import claim, facts
from agentplatform.rooms import Rooms
from agentplatform.settings import Home
from ledger import store
from ledger.errors import Unavailable
from services.eds.events import Event, UserMoved

log = logging.getLogger(__name__)


class Environment(Rooms):
    """One host. `start` brings it up from its folder, `stop` ends it; in between it is driven by its callbacks."""

    def __init__(self, home: Home, history: Path | None = None) -> None:
        """`history`: the folder that what happens here is written to (agentplatform.history)."""
        super().__init__(home, history)
        self._recovered = False  # custody has performed what its journal said

    async def start(self) -> None:
        """Raises Misuse with what is wrong with the folder, the port or the data; then `stop` is still owed."""
        await self.lay()
        effects = await self.furnish()
        self.exchange.endpoint = self.endpoint
        self._opened.push_async_callback(self.links.stop)
        if self.carrier.machine.restored:  # before the replica signs anything
            await store.mark_restored(self.disk, self.genesis)
        await self.replica.start()
        self._opened.push_async_callback(self.replica.stop)
        self.registry.read()
        if self.registry.adopt_key():
            raise Unavailable(f"the key of {self.host} was rotated, and the new one is in place now; start it again")
        self.replica.on_block(lambda *_: self.registry.follow())
        self.replica.on_block(lambda *_: self._custody_changed())
        self.disk.room.on_change(self._room_changed)
        await self.disk.keep_free(self.settings.disk.reserve)
        self._opened.push_async_callback(self.runner.stop)
        await self.runner.start()
        await self.carrier.recalls.begin()
        self.exchange.recall(await self.journal.kept.ends())
        await self.drainer.load()
        await self.links.start()  # others may show that the data is an old copy; what else they say waits
        await self.carrier.recalls.heard()
        await self.carrier.recover(effects)  # before they are heard: a notice must find its copies opened
        self._recovered = True
        self._custody_changed()
        self.exchange.learn_declared()
        self.exchange.porch.open()
        self._opened.callback(self._cancel_tasks)
        self._opened.callback(self.rehoming.stop)
        self._opened.push_async_callback(self.deciding.eds.close)
        self.start_task(self.rms.run())
        self.start_task(self.deciding.sensing.run())
        self.start_task(self.hops.run())
        self.start_task(self.blaming.run())
        self.start_task(claim(self.host, self.replica, self.client, facts(self.runner.jail)))
        self.start_task(self.keeper.run())
        self.start_task(self.rehoming.run())
        self.start_task(self.drainer.run())
        self.start_task(self._remind())

    async def stop(self) -> None:
        """Ends in the opposite order of the start, however far that came."""
        await self._opened.aclose()

    def happened(self, event: Event) -> None:
        """An event for the groups here; what concerns a user is told to the other hosts too."""
        if isinstance(event, UserMoved):
            self.exchange.happened(event)
        else:
            self.deciding.happened(event)

    # The chain

    def _custody_changed(self) -> None:
        if not self._recovered:
            return
        self.carrier.residences.follow()
        if self.carrier.declarations.follow():
            self.exchange.learn_declared()
        self.rehoming.follow()
        self.replication.follow()

    # Time, and the disk

    async def _remind(self) -> None:
        while True:
            await asyncio.sleep(self.settings.handoff.remind_every)
            try:
                self.carrier.remind()
                self.mailroom.remind()
                self.replication.remind()
                self.rehoming.follow()
                self.exchange.remind()
                self._look_for_hosts()
                if self.journal.due:
                    self.journal.compact(self.carrier.machine)
            except Exception:
                log.exception("a round of reminding failed; the next one comes")

    def _look_for_hosts(self) -> None:
        closed = {host: advert.closed for host, advert in self.rms.adverts().items()}
        others = self.tms.verdicts().keys() - {self.host}
        for event in self.presence.look(others, self.links.up(), closed, time.time()):
            self.deciding.happened(event)

    def _room_changed(self, full: Unavailable | None) -> None:
        if full is not None:
            log.error("%s", full)
        else:
            log.warning("there is room on the disk again; all goes on")
        self.runner.hold(full is not None)
        self.mailroom.hold(full is not None)
