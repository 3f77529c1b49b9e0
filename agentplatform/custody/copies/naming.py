"""Who holds the checkpoint of a held agent: chooses among the hosts that may, and has the ledger name them."""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from agentplatform.custody.copies.feeds import LATER, SOON, Feeder, Stay
from agentplatform.custody.copies.holders import Candidate, choose
from agentplatform.custody.residences import Ledger
from agentplatform.parcel.manifest import Birth
from agentplatform.settings import Holders
from ledger.contracts.residence import Hold
from ledger.errors import Misuse, PlatformError, Unavailable

log = logging.getLogger(__name__)
FINDING_ROUNDS = 200  # looks for a holder, SOON apart, before an agent is refused


class Hosts(Protocol):
    """What is known of the other hosts."""

    def candidates(self) -> list[Candidate]:
        """Those that may hold copies now: trusted, linked, heard of lately, with room, and not closed."""

    def trusted(self, host: str) -> bool: ...

    def linked(self, host: str) -> bool: ...

    def takes(self, host: str) -> bool:
        """It does not say that it is closed."""

    def answers(self, host: str) -> bool:
        """Linked, and heard of lately: one that is stopped, or hangs, keeps its links."""


class Naming:
    def __init__(
        self,
        host: str,
        organisation: str,
        ledger: Ledger,
        hosts: Hosts,
        settings: Holders,
        feeder: Feeder,
        advance: Callable[[Stay], None],
    ) -> None:
        """`advance`: more may leave now."""
        self._host, self._organisation, self._ledger, self._hosts = host, organisation, ledger, hosts
        self._settings, self._feeder, self._advance = settings, feeder, advance

    def wanted(self, birth: Birth) -> int:
        """How many holders there should be."""
        return birth.copies or self._settings.copies

    async def findable(self, birth: Birth) -> None:
        """Before a held agent is created: until some host could hold its checkpoint. Raises Unavailable if none can."""
        if not self.wanted(birth):
            return
        elsewhere = self._settings.elsewhere
        for _ in range(FINDING_ROUNDS):
            if choose(birth.agent, 1, (), self._hosts.candidates(), self._organisation, elsewhere):
                return
            await asyncio.sleep(SOON)
        raise Unavailable(
            f"no other trusted host{' of another organisation' if elsewhere else ''} is linked to {self._host} and has"
            f" room, so none could hold the checkpoint of {birth.agent}; let one be linked, or choose local custody",
            retry_after=LATER,
        )

    async def make_way(self, stay: Stay, to: str) -> None:
        """Before a move to `to`: another host holds the checkpoint, if there is one. Else the agent would be without a
        holder when it arrives: the ledger names no host as its own holder."""
        stay.leaving_for = to
        try:
            for _ in range(FINDING_ROUNDS):
                if stay.copies.named != (to,) or not self._chosen(stay):
                    return
                self.look(stay)
                await asyncio.sleep(SOON)
        finally:
            stay.leaving_for = ""

    def look(self, stay: Stay) -> None:
        """What the ledger says, and whether others should hold it."""
        now = self._ledger.find(stay.subject)
        if now is None or (now.host, now.epoch) != (self._host, stay.epoch):
            return  # our chain is behind, or custody is about to change
        copies = stay.copies
        if copies.proposed is None and now.holders != copies.named:
            copies.decided(now.holders)
            self._advance(stay)
        wanted = self._chosen(stay)
        for host in (*copies.required, *wanted):
            self._feeder.start(stay, host)
        for host in set(stay.feeds) - set(wanted) - set(copies.required):
            self._feeder.dismiss(stay, host)
        if wanted and set(wanted) != set(copies.named) and copies.ready(wanted):
            copies.propose(wanted)
            stay.naming = asyncio.ensure_future(self._name(stay, wanted))

    def _chosen(self, stay: Stay) -> tuple[str, ...]:
        """Who shall hold it: those who do, unless they are not trusted, closed, or have been away for too long."""
        now = asyncio.get_running_loop().time()
        keep = []
        for host in stay.copies.named:
            feed = self._feeder.start(stay, host)
            feed.gone_since = None if self._hosts.answers(host) else feed.gone_since or now
            away = feed.gone_since is not None and now - feed.gone_since > self._settings.patience
            if self._hosts.trusted(host) and self._hosts.takes(host) and not away and host != stay.leaving_for:
                keep.append(host)
        candidates = {each.host: each for each in self._hosts.candidates() if each.host != stay.leaving_for}
        kept = [candidates.get(host, Candidate(host, "")) for host in keep]
        others = [each for host, each in candidates.items() if host not in keep]
        return choose(
            stay.birth.agent,
            stay.copies.wanted,
            keep,
            [*kept, *others],
            self._organisation,
            self._settings.elsewhere,
        )

    async def _name(self, stay: Stay, holders: tuple[str, ...]) -> None:
        """Until the outcome is known, the old and the new ones are waited for."""
        while True:
            try:
                await self._ledger.submit(Hold(stay.subject, stay.epoch, holders))
            except Misuse as error:
                log.info("the ledger does not name %s holders of %s: %s", holders, stay.birth.agent, error)
            except PlatformError as error:  # it may become final yet
                log.warning("%s has no new holders yet: %s", stay.birth.agent, error)
                await asyncio.sleep(LATER)
                continue
            break
        now = self._ledger.find(stay.subject)
        stay.copies.decided(() if now is None else now.holders)
        stay.naming = None
        self._advance(stay)
        self.look(stay)
