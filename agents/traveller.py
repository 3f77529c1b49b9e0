"""An agent that goes along a list of hosts by itself and keeps a diary."""

from typing import Any

from agentplatform.agent import Agent, Message
from ledger.errors import Misuse


class Traveller(Agent):
    """Created with a list of hosts. Any message is answered with the diary; "go" with a list adds hosts to the way."""

    light = True

    def on_creation(self, init: Any) -> None:
        self.route: list[str] = []
        self.diary = [f"set out from {self.host}"]
        self._add([] if init is None else init)

    def run(self) -> None:
        # It starts anew after each arrival and each failed move: so one step is all there is to write.
        if self.route:
            self.dispatch(self.route[0])

    def handle_message(self, message: Message) -> Any:
        if message.kind == "go":
            self._add(message.body)
            self.run()
        return {"diary": self.diary, "route": self.route}

    def on_arrival(self, arrival: Any) -> None:
        self.diary.append(f"reached {arrival.host}")
        if self.route and self.route[0] == arrival.host:  # it may have been sent elsewhere by others
            self.route.pop(0)

    def on_move_failed(self, reason: str) -> None:
        self.diary.append(f"did not reach {self.route.pop(0) if self.route else 'another host'}: {reason}")

    def _add(self, hosts: Any) -> None:
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise Misuse(f"a traveller takes a list of host names, not {hosts!r}")
        self.route += hosts
