"""What the EDS of a host asks of the rest of it: the groups that live here, the picture of them, and their moves."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from agentplatform.custody.residents import Residents
from agentplatform.following import groups_concerned, groups_here, user_of
from agentplatform.mailroom.room import Mailroom
from agentplatform.messages import News
from agentplatform.parcel.manifest import Birth
from agentplatform.sensing import Sensing
from agentplatform.sightings import Sightings
from agentplatform.telling import Telling
from agentplatform.whereabouts import Whereabouts
from services.dms.store import Store
from services.eds.events import Event, UserMoved, Whom
from services.eds.explain import Outcome
from services.eds.limits import Limits
from services.eds.offers import Policy
from services.eds.plan import Plan
from services.eds.rules import Group
from services.eds.service import Eds
from services.eds.snapshot import Resident, Snapshot, assemble
from services.eds.triggers import Triggers, read
from services.rms.service import Rms
from services.tms.service import Tms

TELL_S = 0.02  # from a user's move until the user's agents are told
MAX_MOVED = 10_000  # users of whom they are told at once


class Deciding:
    def __init__(
        self,
        host: str,
        policy: Policy,
        store: Store,
        whereabouts: Whereabouts,
        residents: Residents,
        mailroom: Mailroom,
        carry_out: Callable[[Plan, str], Awaitable[Outcome]],
        rms: Rms,
        tms: Tms,
        tell: Callable[[str, News, str], None],
        limits: Limits,
        triggers: Sequence[Mapping[str, Any]],
    ) -> None:
        """`tell(agent, hook, word)` calls a hook of an agent here (runners.base.Runner); `triggers` are rows;
        `carry_out` is that of carrying_out."""
        self.eds = Eds(
            policy,
            self._snapshot,
            carry_out,
            store,
            groups=self.groups,
            hosts_of=lambda group: {self._whereabouts.host_of(agent) or "" for agent in group.agents},
            limits=limits,
        )
        self._whereabouts, self._residents, self._mailroom = whereabouts, residents, mailroom
        self._rms, self._tms = rms, tms
        self._telling = Telling(tell, mailroom.subscriptions.to, mailroom.boxes)
        self.sensing = Sensing(host, rms, Triggers(read(triggers)), self.happened, mailroom.boxes)
        self._sightings = Sightings()
        self._moved: dict[str, UserMoved] = {}  # by user: agents are to be told of it

    def groups(self) -> list[Group]:
        return groups_here(*self._belonging())

    def concerned(self) -> list[Group]:
        """Those that agents here belong to, also when another host decides for them."""
        return groups_concerned(*self._belonging())

    def _belonging(self) -> tuple[dict[str, Group | None], dict[str, Birth]]:
        births = {agent: resident.birth for agent, resident in self._residents.known.items()}
        return {agent: box.luggage.standing.group for agent, box in self._mailroom.boxes.items()}, births

    def happened(self, event: Event, whom: Whom = "there") -> None:
        """On this host's own word: what it measured, the ledger's, its operator's."""
        self.eds.happened(event, whom=whom)
        self._telling.publish(event, self._followers)

    def user_moved(self, event: UserMoved, teller: str = "") -> None:
        """Here, or told by the host `teller`. The agents that stand for the user hear of it too."""
        self.eds.happened(event, teller=teller)
        if not self._moved:
            asyncio.get_running_loop().call_later(TELL_S, self._tell_users)
        if len(self._moved) < MAX_MOVED or event.user in self._moved:
            self._moved[event.user] = event

    def _tell_users(self) -> None:
        """Of all who moved lately at once: there may be many agents here, and many events."""
        moved, self._moved = self._moved, {}
        for agent, resident in self._residents.known.items():
            event = moved.get(user_of(resident.birth) or "")
            if event is not None:
                self._telling.tell(agent, "on_user_moved", event.nearest)
        for event in moved.values():
            self._telling.publish(event, self._followers)

    def _followers(self, user: str) -> set[str]:
        return {agent for group in self.concerned() if group.user == user for agent in group.agents}

    async def _snapshot(self, groups: Sequence[Group]) -> Snapshot:
        residents, now = {}, time.time()
        for agent in (agent for group in groups for agent in group.agents):
            host = self._whereabouts.host_of(agent)
            if host:
                here = self._residents.known.get(agent)
                said = self._mailroom.requires(agent)  # of those elsewhere their own hosts know
                seen = self._sightings.since(agent, host, now)
                since = here.since if here else seen
                residents[agent] = Resident(agent, host, since, said.task_weight, said.needs)
        return assemble(groups, now, self._tms.verdicts(), self._rms.adverts(), self._rms.links(), residents)
