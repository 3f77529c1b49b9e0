"""Agents with timers, questions and tickets. Their source travels, so this file imports little."""

from typing import Any

from agentplatform import Agent, FutureReply, Message, handles


class Errand(Agent):
    """Notes what rings and what is answered, and tells it to the agent `log`."""

    def on_creation(self, init: Any) -> None:
        self.notes: list[Any] = []

    @handles("set")
    def set(self, seconds: float, name: str) -> int:
        return self.after(seconds, "ring", name)

    @handles("beat")
    def beat(self, seconds: float) -> int:
        return self.every(seconds, "ring", "beat")

    @handles("ring")
    def ring(self, name: str) -> None:
        print(f"rang {name}")
        self.note(["rang", name])

    @handles("ask")
    def ask(self, to: str, timeout: float = 600.0) -> int:
        return self.future(to, "hold", "please", timeout=timeout, then="answered")

    @handles("delegate")
    def pass_on(self, message: Message) -> Any:
        return self.delegate(message, message.body, "hold", "please")

    @handles("join")
    def join(self, topic: str) -> None:
        self.subscribe(topic)

    @handles("tell")
    def tell(self, topic: str, name: str) -> None:
        self.multicast(topic, "ring", name)

    @handles("go")
    def go(self, host: str) -> None:
        self.dispatch(host)

    @handles("notes")
    def say(self) -> list[Any]:
        return [self.host, self.notes]

    def answered(self, reply: FutureReply) -> None:
        self.note(["answered", reply.error or reply.result()])

    def note(self, what: list[Any]) -> None:
        self.notes.append(what)
        self.send("log", "note", what)


class Holder(Agent):
    """Answers later."""

    def on_creation(self, init: Any) -> None:
        self.held: list[Any] = []

    @handles("hold")
    def hold(self, message: Message) -> Any:
        self.held.append(message.later)
        return message.later

    @handles("held")
    def count(self) -> int:
        return len(self.held)

    @handles("let go")
    def let_go(self, value: Any) -> None:
        self.reply(self.held.pop(0), value)
