"""A request becomes a letter, and the reply its answer."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from agentplatform.endpoint import bodies, outcome
from agentplatform.endpoint.asked import Asked, Unknown
from agentplatform.endpoint.moves import Moves
from agentplatform.endpoint.outcome import Outcome, Refused
from agentplatform.environment import Environment
from agentplatform.faults import error_in, misuse
from agentplatform.parcel.manifest import AGENT_ID
from ledger.errors import PlatformError, Unavailable

YOUNG = 10.0  # seconds after the start, in which an agent that is not known here may be so yet
CLIENT = "client-http-"


class RequestDesk:
    def __init__(self, environment: Environment, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970, as `environment.started_at`."""
        self._here, self._clock = environment, clock
        self._most = environment.settings.http.at_once
        # Letters are numbered for each client, and begin anew with this process: so does the client.
        self._client = f"{CLIENT}{secrets.token_hex(8)}"
        self._open: Counter[str] = Counter()  # requests, by agent, "" for those without the token
        self._all = 0
        self.moves = Moves(
            environment.host,
            environment.whereabouts,
            environment.carrier,
            environment.mailroom,
            environment.hops,
            self._endpoint_of,
        )

    @property
    def in_flight(self) -> int:
        return self._all

    def service_of(self, asked: Asked) -> str | None:
        """Which service is asked, or offered by the agent of that id; None for none, and for all that has no id."""
        return asked.name if asked.target == "services" else self._here.exchange.directory.service_of(asked.name)

    @contextmanager
    def place(self, asked: Asked, trusted: bool) -> Iterator[str]:
        """Room for one more request; the id of the agent that it is for. Raises Unknown, or Unavailable while there
        is no room: none of one agent or of strangers takes all."""
        agent = self._agent(asked)
        shares = [agent] if trusted else [agent, ""]
        if self._all >= self._most or any(self._open[each] >= self._most // 2 for each in shares):
            raise Unavailable(f"{self._here.host} has {self._all} requests without an answer", retry_after=1.0)
        self._all += 1
        self._open.update(shares)
        try:
            yield agent
        finally:
            self._all -= 1
            self._open.subtract(shares)
            for each in shares:
                if not self._open[each]:
                    del self._open[each]

    async def ask(self, asked: Asked, agent: str, body: bytes, accept: str) -> Outcome:
        """`body` is that of a letter. A request has one outcome: it is handed to the agent once, or never."""
        loop = asyncio.get_running_loop()
        until = loop.time() + asked.seconds
        if asked.moving != "hold":
            instead = await self._instead(asked, agent, until)
            if instead is not None:
                return instead
        left = until - loop.time()
        if left <= 0:
            return outcome.moving(f"{agent} moved for all of the time that the request had", self.moves.estimate())
        try:
            reply = await self._here.mailroom.clients.ask(self._client, agent, asked.kind, body, left)
        except Unavailable as error:
            return outcome.late(str(error))
        try:
            if not reply.ok:
                return outcome.of_agent(error_in(reply.body, agent, refused=misuse))
            kind, answer = bodies.given(reply.body, accept, agent)
        except PlatformError as error:
            return outcome.of_agent(error)
        return Outcome(200, "answered", answer, kind)

    async def _instead(self, asked: Asked, agent: str, until: float) -> Outcome | None:
        """Where else the request should go, or that it is refused; None: it is asked here."""
        place = self.moves.place(agent)
        if place is not None and place.moving:
            if asked.moving == "refuse":
                return outcome.moving(f"{agent} is moving", self.moves.estimate())
            place = await self.moves.settled(agent, until)
        if place is None or place.moving or place.host == self._here.host:
            return None
        address = self.moves.endpoint_of(place.host)
        if address is None:
            return None  # the answer comes through here
        return outcome.forwarded(address + asked.path(agent, until - asyncio.get_running_loop().time()))

    def _agent(self, asked: Asked) -> str:
        if asked.query is not None:
            found = self._here.services(asked.query)
            if found:
                return found[0].agent
            raise self._not_known(f"no agent that {self._here.host} can reach offers {asked.name} as it is wanted")
        agent = self._known(asked.name)
        if agent is None:
            raise self._not_known(f"no agent {asked.name!r:.80} is known here")
        if self._here.whereabouts.host_of(agent) == "":
            raise Refused(410, "unknown", f"{agent} has ended")
        return agent

    def _known(self, text: str) -> str | None:
        """The id of an agent by its id or name. Raises Misuse for a name that several have."""
        if AGENT_ID.fullmatch(text):
            return text if self._here.whereabouts.host_of(text) is not None else None
        return self._here.whereabouts.named(text)

    def _not_known(self, message: str) -> PlatformError:
        if self._clock() - self._here.started_at < YOUNG:
            return Unavailable(f"{message}, and it has just started", retry_after=0.5)
        return Unknown(message)

    def _endpoint_of(self, host: str) -> str | None:
        return self._here.exchange.endpoints.get(host) if self._here.tms.verdict(host).trusted else None
