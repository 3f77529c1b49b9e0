"""What a caller may ask of agents, wherever they are, and of their custody here."""

import asyncio
import secrets
from typing import Any

import msgspec

from agentplatform.commands import Command, read_command, shown_by
from agentplatform.environment import Environment
from agentplatform.faults import error_in, misuse
from agentplatform.kinds import query
from agentplatform.mail import check
from agentplatform.parcel.bundle import MAX_BUNDLE_BYTES
from ledger.errors import Misuse, OutcomeUnknown

_NEWEST = 200  # hops that are looked through
_TELL_SECONDS = 60.0
GRACE = 4.0  # seconds more for what knows a better reason; callers wait for five (frontdoor.client)


class AgentDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment
        # Clients outlive this process, and their letters' numbers begin anew with it: so do their names.
        self._since = secrets.token_hex(4)

    async def create(self, birth: bytes, code: bytes, init: bytes, consent: bytes = b"") -> dict[str, Any]:
        if len(code) > MAX_BUNDLE_BYTES:
            raise Misuse(f"the code has {len(code)} bytes; at most {MAX_BUNDLE_BYTES} are taken")
        born = await self._here.carrier.lifetimes.create(birth, code, init, consent)
        self._here.note(born.agent, f"was born on {self._here.host}")
        return {"agent": born.agent}

    async def agents(self) -> list[dict[str, Any]]:
        here = self._here
        return [
            {
                "agent": located.agent,
                "name": located.agent.rpartition("-")[0],
                "host": located.host,
                "epoch": located.epoch,
                "custody": here.carrier.machine.custody(located.agent) if located.host == here.host else None,
                "resident": located.agent in here.carrier.residents.known,
                "state": here.carrier.lifetimes.state_of(located.agent),
                "offline_since": here.presence.offline_since(located.host),
            }
            for located in here.whereabouts.alive()
        ]

    async def resolve(self, agent: str) -> dict[str, Any]:
        found = self._here.whereabouts.resolve(agent)
        located = self._here.whereabouts.believed(found)
        assert located is not None
        return {"agent": found, "host": "" if located.ended is not None else located.host, "epoch": located.epoch}

    async def ask(self, agent: str, kind: str, body: bytes, waiting: float, client: str) -> dict[str, Any]:
        """A message to an agent anywhere, and its answer. Raises Misuse with the agent's own error, Unavailable when it
        says to come again later."""
        found = self._here.whereabouts.resolve(agent)
        reply = await self._here.mailroom.clients.ask(f"{client}-{self._since}", found, kind, body, waiting)
        if not reply.ok:
            raise error_in(reply.body, found, misuse)
        return {"body": reply.body}

    async def tell(self, agent: str, kind: str, body: bytes, client: str) -> None:
        """A message that nobody waits for; it is sent again for a minute at most."""
        found = self._here.whereabouts.resolve(agent)
        check(kind, body)
        clients = self._here.mailroom.clients
        self._here.start_task(clients.tell(f"{client}-{self._since}", found, kind, body, _TELL_SECONDS))

    async def order(self, agent: str, command: bytes, waiting: float) -> dict[str, Any]:
        """Has a command performed (agentplatform.commands), wherever the agent is. If it lives here that is done on the
        word of this host's operator; elsewhere its owner's counts. The outcome: the hop of a move (empty: it is there),
        the id of a clone."""
        found = self._here.whereabouts.resolve(agent)
        order = read_command(command)
        if order.agent != found:
            raise Misuse(f"the command is for {order.agent}, not for {found}")
        known = self._here.tms.verdicts()
        if order.host and order.host not in known:
            raise Misuse(f"the ledger knows no host {order.host!r}; there are: {', '.join(known)}")
        if self._here.carrier.lifetimes.state_of(found) is not None:
            return await self._obeyed(found, order, waiting)
        return await self._here.commands.ask(found, command, waiting)

    async def _obeyed(self, agent: str, order: Command, waiting: float) -> dict[str, Any]:
        """By an agent that lives here. Raises OutcomeUnknown, with where to look, when it takes too long."""
        limit = asyncio.timeout(waiting + GRACE)
        try:
            async with limit:
                return await self._here.obey(agent, order)
        except TimeoutError:
            if not limit.expired():
                raise
            late = f"{order.verb} {agent} was not done within {waiting:g} s, and may yet be"
            raise OutcomeUnknown(f"{late}; look at: agentplatform {shown_by(order.verb, agent)}") from None

    async def logs(self, agent: str, lines: int = 200) -> dict[str, Any]:
        return {"lines": self._here.logbook.read(self._here.whereabouts.resolve(agent), lines)}

    async def services(
        self, service: str | None = None, version: str | None = None, owner: str | None = None
    ) -> list[dict[str, Any]]:
        """Service agents, the nearest to this host first (agentplatform.directory)."""
        return [msgspec.to_builtins(found) for found in self._here.services(query(service, version, owner))]

    async def hops(self, agent: str | None = None) -> list[dict[str, Any]]:
        found = None if agent is None else self._here.whereabouts.resolve(agent)
        return await self._here.hops.newest(_NEWEST, found)

    async def declare_lost(self, agent: str, waiting: float) -> dict[str, Any]:
        """The host from which an inert copy of an agent came here is lost for good: the copy is the agent from now on,
        if every other host signs within `waiting` seconds (custody.declarations)."""
        carrier = self._here.carrier
        found = [each for each in carrier.machine.arriving_by if agent in (each, each.rpartition("-")[0])]
        chosen = found[0] if found else self._here.whereabouts.resolve(agent)
        if len(found) > 1:
            raise Misuse(f"{agent!r} may be any of {', '.join(found)}; give the whole id")
        await carrier.declarations.declare(chosen, waiting)
        await carrier.books.written()
        declared = carrier.declarations.of(chosen)
        assert declared is not None  # it is final
        text = f"goes on here at epoch {declared.epoch}: {declared.source} was declared lost"
        self._here.note(chosen, text)
        return {"agent": chosen, "host": self._here.host, "lost": declared.source, "epoch": declared.epoch}
