"""A service, who looks for it, and a user's agent: for tests on real hosts. They travel, so they need no library."""

from typing import Any

from agentplatform import Agent, ServiceAgent, UserAgent
from agentplatform.kinds import DIRECTORY
from agentplatform.messages import Outgoing


class Echo(ServiceAgent):
    service, version = "echo", "1.4"
    light = True

    def handle_message(self, message: Any) -> Any:
        return [self.host, message.body]


class Seeker(Agent):
    """Message "find" [service, version, owner]: what it finds. "ask": what the nearest echo answers."""

    light = True

    async def handle_message(self, message: Any) -> Any:
        if message.kind == "find":
            service, version, owner = message.body
            return [[found.agent, found.host, found.owner] for found in await self.find(service, version, owner=owner)]
        return await self.call((await self.find("echo", "1.2"))[0].agent, "echo", message.body)

    async def run(self) -> None:
        self.first = [found.agent for found in await self.find("echo")]  # at a message boundary, too


class Rude(Agent):
    """Message "ask" [bytes]: asks its host's directory that, past all checks in its worker."""

    light = True

    async def handle_message(self, message: Any) -> Any:
        place: Any = self._place
        reply = place._expect(DIRECTORY, "find", 30.0)
        place._acts.asked(Outgoing(DIRECTORY, "find", message.body, reply.number, kept=False))
        return await reply


class Guide(UserAgent):
    light = True

    def on_user_moved(self, nearest: str) -> None:
        self.session["near"] = nearest

    def handle_message(self, message: Any) -> Any:
        return [self.user, self.session, self.host]
