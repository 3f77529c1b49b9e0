"""Agents of a group that live elsewhere set out at the wish of the host that decides for the group: both sides of it.

That is the host of the group's first agent. Another host does as it says only where it believes that agent to be, and
with agents that have the group in their own luggage and one owner: nobody moves another's agents by naming them. Each
agent is asked (`may_move`), as for any decision.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any

from agentplatform.bulletins import SetOut, Stayed, shortened
from agentplatform.convoy import Convoy
from agentplatform.custody.residents import Residents
from agentplatform.lives import Lives
from agentplatform.whereabouts import Whereabouts
from ledger.contracts.residence import MAX_GOING
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable
from services.eds.explain import Outcome
from services.eds.rules import Group

PATIENCE = 600.0  # seconds for another host to say what became of it: a large state takes its time
LOOK_EVERY = 0.05  # seconds
AT_ONCE = 16  # that one host may have asked for, and that are not done
MAX_WHY = 300  # bytes

log = logging.getLogger(__name__)


class SettingOut:
    def __init__(
        self,
        host: str,
        residents: Residents,
        whereabouts: Whereabouts,
        groups: Callable[[], Iterable[Group]],
        lives: Lives,
        tell: Callable[[str, SetOut | Stayed], bool],
        linked: Callable[[], Iterable[str]],
        start: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """`groups` are those that agents here belong to; `tell` another host, False when there is no link; `linked` are
        the hosts with one; `start` runs a task of the daemon."""
        self._host, self._residents, self._whereabouts = host, residents, whereabouts
        self._groups, self._lives, self._tell, self._linked, self._start = groups, lives, tell, linked, start
        self._asked: dict[int, tuple[str, asyncio.Future[Stayed]]] = {}
        self._numbers = 0
        self._under_way: list[str] = []  # hosts, one for each that is not done

    # The host that decides

    async def ask(
        self, host: str, group: str, agents: Sequence[str], to: str, why: str, convoy: Convoy | None
    ) -> Outcome:
        """Has agents that live on `host` go to `to`. How long they stood still is not known here. Raises Unavailable
        when it is not known what became of that."""
        self._numbers += 1
        number, said = self._numbers, asyncio.get_running_loop().create_future()
        self._asked[number] = host, said
        names = ", ".join(agents)
        try:
            if not self._tell(host, SetOut(number, group, tuple(agents), to, why[:MAX_WHY], convoy)):
                raise Unavailable(f"{names} stayed on {host}: there is no link to it now")
            async with asyncio.timeout(PATIENCE):
                while not said.done() and host in self._linked():
                    await asyncio.wait([said], timeout=LOOK_EVERY)
        except TimeoutError:
            raise Unavailable(f"{host} did not say within {PATIENCE:g} s what became of {names}") from None
        finally:
            del self._asked[number]
        if not said.done():
            raise Unavailable(f"the link to {host} was lost before it said what became of {names}")
        stayed = {agent: why for agent, why in said.result().agents if agent in agents}
        return Outcome(stayed, excused=tuple(stayed) if said.result().excused else ())

    # The host where they live

    def heard(self, host: str, bulletin: SetOut | Stayed) -> None:
        """Raises PeerFault for what must not be sent."""
        if isinstance(bulletin, Stayed):
            asked, said = self._asked.get(bulletin.number, ("", None))
            if asked == host and said is not None and not said.done():
                said.set_result(bulletin)
            return
        if not 1 <= len(bulletin.agents) <= MAX_GOING:
            raise PeerFault(host, f"wants {len(bulletin.agents)} agents to set out; at most {MAX_GOING} go together")
        if len(set(bulletin.agents)) != len(bulletin.agents):
            raise PeerFault(host, "wants an agent to set out twice; each is named once")
        if self._under_way.count(host) >= AT_ONCE:
            self._answer(host, bulletin, f"{host} wants too many groups at once to set out from {self._host}", True)
            return
        self._under_way.append(host)
        self._start(self._set_out(host, bulletin))

    async def _set_out(self, host: str, said: SetOut) -> None:
        excused = True  # the destination, until it is asked
        try:
            reason = self._unfit(host, said)
            if reason is None:
                await self._lives.awake(said.agents)
                reason = self._unfit(host, said)  # by the luggage of those that slept, too
            if reason is None:
                why = f"{said.why[:MAX_WHY]} (decided on {host})"
                await self._lives.decided(said.agents, said.destination, why, said.convoy)
        except PlatformError as error:
            reason, excused = str(error), isinstance(error, Misuse)
        except Exception:  # whoever asked must not wait for what does not come
            log.exception("agents of the group %s did not set out: this is a bug", said.group)
            reason = "a fault of this host's own, which its log has"
        finally:
            self._under_way.remove(host)
        self._answer(host, said, reason, excused)

    def _answer(self, host: str, said: SetOut, reason: str | None, excused: bool) -> None:
        stayed = () if reason is None else tuple((agent, shortened(reason, MAX_WHY)) for agent in said.agents)
        self._tell(host, Stayed(said.number, stayed, excused))

    def _unfit(self, host: str, said: SetOut) -> str | None:
        """Why they do not set out, if so."""
        names = ", ".join(said.agents)[:MAX_WHY]
        # Not by its name, which may have a number here, or there (following.groups_concerned).
        groups = [group for group in self._groups() if set(said.agents) <= set(group.agents)]
        if not groups:
            return f"on {self._host} there is no group of one owner to which {names} belong"
        if any(agent not in self._residents.known for agent in said.agents):
            return f"{names} are not all on {self._host}"
        decides = [self._whereabouts.host_of(group.agents[0]) or "no host" for group in groups]
        if host not in decides:
            return f"{host} does not decide for the group {groups[0].name}; its first agent is on {decides[0]}"
        return None
