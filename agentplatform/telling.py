"""Tells agents of a host what happens: to those that have subscribed a message, to a user's agents a hook.

It is news and no post: it is told to who runs here just then, and of what comes faster than every PAUSE the newest is.
Hosts alone tell it: no agent, client or other host can send a message whose kind begins with messages.RESERVED.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable

import msgspec

from agentplatform.messages import RESERVED, News
from services.eds.events import AgentAsked, AgentTold, Event, UserMoved

PAUSE = 0.2  # seconds from one word to the next to one agent about one thing
MAX_WAITING = 10_000  # things, each for one agent, that were told lately; further ones are not told


class Telling:
    def __init__(
        self, tell: Callable[[str, News, str], None], subscribers: Callable[[str], Iterable[str]], here: Collection[str]
    ) -> None:
        """`tell` is the runner's; `subscribers(topic)` are agents anywhere, `here` those that run on this host."""
        self._tell, self._subscribers, self._here = tell, subscribers, here
        self._waiting: dict[tuple[str, News, str], str | None] = {}  # and the newest word, if there is one

    def tell(self, agent: str, hook: News, word: str, about: str = "") -> None:
        key = agent, hook, about
        if key in self._waiting:
            self._waiting[key] = word
        elif len(self._waiting) < MAX_WAITING:
            self._tell(agent, hook, word)
            self._waiting[key] = None
            asyncio.get_running_loop().call_later(PAUSE, self._due, key)

    def publish(self, event: Event, followers: Callable[[str], Collection[str]]) -> None:
        """To those here that have subscribed to its kind. Where a user is, is told to `followers(user)` alone; what
        agents report is told to nobody."""
        if isinstance(event, AgentAsked | AgentTold):
            return
        topic = topic_of(event)
        told = [agent for agent in self._subscribers(topic) if agent in self._here]
        if told and isinstance(event, UserMoved):
            following = followers(event.user)
            told = [agent for agent in told if agent in following]
        if not told:
            return
        body = msgspec.to_builtins(event)
        del body["type"]
        about = ", ".join(str(value) for value in body.values() if isinstance(value, str))
        word = msgspec.json.encode([topic, body]).decode()
        for agent in told:
            self.tell(agent, "event", word, f"{topic} {about}")

    def _due(self, key: tuple[str, News, str]) -> None:
        word = self._waiting.pop(key)
        if word is not None and key[0] in self._here:
            self.tell(key[0], key[1], word, key[2])


def topic_of(event: Event) -> str:
    """What agents subscribe to, and the kind of the message that they get: "eds/overload"."""
    return f"{RESERVED}{type(event).__struct_config__.tag}"
