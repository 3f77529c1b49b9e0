"""A service, who looks for it, and a user's agent: for tests on real hosts. They travel, so they need no library."""

from typing import Any

from agentplatform import Agent, ServiceAgent, UserAgent
from agentplatform.handlers import handles
from agentplatform.kinds import DIRECTORY
from agentplatform.messages import Outgoing
from ledger import codec


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
        place: Any = self._mae_place
        reply = place._expect(DIRECTORY, "find", 30.0)
        place._acts.asked(Outgoing(DIRECTORY, "find", message.body, reply.number, kept=False))
        return await reply


class Guide(UserAgent):
    light = True

    def on_user_moved(self, nearest: str) -> None:
        self.session["near"] = nearest

    def handle_message(self, message: Any) -> Any:
        return [self.user, self.session, self.host]


class Watcher(Agent):
    """Subscribes to what is named at its creation; "look": what it heard. "report" [kind, value]: tells its host."""

    light = True

    def on_creation(self, init: Any) -> None:
        self.heard: list[Any] = []
        for topic in init or ():
            self.subscribe(topic)

    @handles("eds/overload")
    def overloaded(self, host: str, resource: str, seconds: float, message: Any) -> None:
        self.heard.append([host, resource, seconds, message.sender])

    @handles("eds/user-moved")
    def moved(self, event: dict[str, Any]) -> None:
        self.heard.append(event["user"])

    @handles("eds/link-changed")
    def changed(self, host: str, peer: str, what: str, now: float) -> None:
        self.heard.append([host, peer, what])

    @handles("look")
    def look(self) -> list[Any]:
        return self.heard

    @handles("tell")
    def tell(self, kind: str, value: float) -> None:
        self.report(kind, value)


class Forger(Agent):
    """Messages "letter" and "multicast": says that a host is overloaded, past all checks in its worker."""

    light = True

    def handle_message(self, message: Any) -> None:
        place: Any = self._mae_place
        receiver, topic = (message.body, False) if message.kind == "letter" else ("eds/overload", True)
        lie = codec.encode({"host": "north", "resource": "lies", "seconds": 1.0})
        for each in ("eds:", receiver):
            place._acts.post(Outgoing(each, "eds/overload", lie, None, topic=topic and each == receiver))
