"""Names of an agent's class that would hide what an agent asks its host for."""

from typing import Any

import pytest

from agentplatform import Agent, handles
from agentplatform.itineraries import Plan, Traveller
from agentplatform.runners import reserved
from agentplatform.runners.inline import Inline
from ledger.errors import Misuse


class Surveyor(Traveller):
    def on_creation(self, init: Any) -> None:
        self.follow(Plan((("home", "report"),)))

    def report(self) -> None:  # type: ignore[override]
        raise AssertionError("nobody calls it")


class Keeper(Agent):
    data = {"a": 1}  # type: ignore[assignment] # noqa: RUF012


class Deep(Keeper):
    pass


class Hidden(Agent):
    _mae_data = None  # type: ignore[assignment]


class Named(Agent):
    @property
    def name(self) -> str:
        return "me"


class Answering(Agent):
    @handles("reply")
    async def reply(self, message: Any) -> None:  # type: ignore[override]
        pass


class Sends:
    def send(self, *what: Any) -> None:
        pass


class Mixed(Sends, Agent):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    ("cls", "hides"),
    [
        (Surveyor, "Surveyor.report hides Agent.report"),
        (Keeper, "Keeper.data hides Agent.data"),
        (Deep, "Keeper.data hides Agent.data"),
        (Hidden, "Hidden._mae_data hides Agent._mae_data"),
        (Named, "Named.name hides Agent.name"),
        (Answering, "Answering.reply hides Agent.reply"),
        (Mixed, "Sends.send hides Agent.send"),
    ],
)
def test_no_agent_is_created_that_hides_what_it_asks_its_host_by(cls: type[Agent], hides: str) -> None:
    with Inline() as host, pytest.raises(Misuse, match=f"{hides}.* give yours another name"):
        host.create(cls)


class Careful(Agent, Sends):  # type: ignore[misc]
    light, checkpoint, task_weight = True, 2.0, 3.0

    def on_creation(self, init: Any) -> None:
        self.sent: list[str] = []

    async def run(self) -> None:
        pass

    def may_move(self, event: Any) -> None:
        pass

    def handle_message(self, message: Any) -> Any:
        self.send("log", message.kind)
        return self.sent

    def send(self, receiver: str, kind: str, body: Any = None) -> None:
        self.sent.append(kind)
        super().send(receiver, kind, body)


def test_hooks_settings_and_what_calls_super_are_overridden() -> None:
    with Inline() as host:
        assert host.create(Careful).call("look") == ["look"]


def test_no_hook_and_no_setting_is_reserved() -> None:
    asked = {"id", "host", "data", "find", "send", "dispatch", "report", "after", "shared_file", "_mae_place"}
    assert asked <= set(reserved.RESERVED)
    others = {name for name in dir(Agent) if not name.startswith("__")}.difference(reserved.RESERVED)
    assert {name for name in others if not name.startswith("on_")} == {
        *("run", "handle_message", "may_move", "kind_of", "_mae_handlers"),
        *("light", "custody", "copies", "checkpoint", "needs", "task_weight"),
    }


class Private(Agent):
    """Has attributes of its own by the names that first come to mind."""

    def on_creation(self, init: Any) -> None:
        self._data, self._agenda, self._place, self._where, self._handlers = {"a": 1}, ["b"], "c", "d", {"e": "f"}

    @handles("look")
    def look(self) -> Any:
        return [self._data, self._agenda, self._place, self._where, self._handlers, self.host]


def test_private_attributes_are_the_agents_own() -> None:
    with Inline() as host:
        agent = host.create(Private)
        agent.hop("east")
        assert agent.call("look") == [{"a": 1}, ["b"], "c", "d", {"e": "f"}, "east"]
