"""Which agents have subscribed to which topics, as far as this host has heard. Pure.

A multicast is one letter to each subscriber that its sender's host knows of then. Each host tells the others what the
agents that live there have subscribed to; what an agent has subscribed to goes with it, and stays known while it moves.
"""

import msgspec

from agentplatform.mail import check_topics
from agentplatform.parcel.manifest import AGENT_ID, MAX_EPOCH
from ledger.errors import Misuse

MAX_FROM_ONE_HOST = 10_000  # agents
MAX_SUBSCRIBERS = 1_000  # that one multicast reaches


class Subscribed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All topics of an agent, as of `epoch`."""

    agent: str
    epoch: int
    topics: tuple[str, ...]

    def __post_init__(self) -> None:
        if not AGENT_ID.fullmatch(self.agent) or not 0 <= self.epoch <= MAX_EPOCH:
            raise ValueError(f"{self.agent!r:.80} is no agent's id, or its epoch cannot be")
        check_topics(self.topics)


class Subscriptions:
    def __init__(self) -> None:
        self._by_topic: dict[str, set[str]] = {}
        self._by_agent: dict[str, tuple[str, Subscribed]] = {}  # and the host that told of it
        self._told: dict[str, int] = {}  # host -> agents that it told of

    def learn(self, host: str, subscribed: Subscribed) -> None:
        """What `host`, where the agent lives, says of it. Its news of an earlier epoch is none; another
        host's is: else one could invent an epoch after which nobody is heard."""
        teller, known = self._by_agent.get(subscribed.agent, (None, None))
        if known is not None and teller == host and subscribed.epoch < known.epoch:
            return
        self.forget(subscribed.agent)
        if subscribed.topics and self._told.get(host, 0) < MAX_FROM_ONE_HOST:
            self._told[host] = self._told.get(host, 0) + 1
            self._by_agent[subscribed.agent] = host, subscribed
            for topic in subscribed.topics:
                self._by_topic.setdefault(topic, set()).add(subscribed.agent)

    def of(self, agent: str) -> Subscribed | None:
        _, subscribed = self._by_agent.get(agent, (None, None))
        return subscribed

    def forget(self, agent: str) -> None:
        """It ended, or has subscribed to nothing any more."""
        host, known = self._by_agent.pop(agent, (None, None))
        if host is None or known is None:
            return
        self._told[host] -= 1
        for topic in known.topics:
            self._by_topic[topic].discard(agent)
            if not self._by_topic[topic]:
                del self._by_topic[topic]

    def to(self, topic: str) -> list[str]:
        return sorted(self._by_topic.get(topic, ()))

    def subscribers(self, topic: str, sender: str) -> list[str]:
        """Those that a multicast of `sender` reaches. Raises Misuse when they are too many."""
        found = sorted(self._by_topic.get(topic, set()) - {sender})
        if len(found) > MAX_SUBSCRIBERS:
            raise Misuse(f"{len(found)} agents have subscribed to {topic!r}; a multicast reaches {MAX_SUBSCRIBERS}")
        return found
