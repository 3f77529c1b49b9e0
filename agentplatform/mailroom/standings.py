"""What residents belong to: service groups, and the topics that they have subscribed to; and where they can run."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from agentplatform.mail import Luggage, Standing
from agentplatform.messages import Requires
from agentplatform.outbox import Outbox
from agentplatform.subscriptions import Subscribed, Subscriptions
from services.eds.rules import Group


class Standings:
    def __init__(
        self,
        host: str,
        outbox: Outbox,
        announce: Callable[[Subscribed], None],
        note: Callable[[str, str], None],
    ) -> None:
        """`announce` tells the other hosts what an agent here has subscribed to, `note(agent, text)` its owner."""
        self.subscriptions = Subscriptions()
        self._host, self._outbox, self._announce, self._note = host, outbox, announce, note

    def join(self, agent: str, luggage: Luggage, group: Group | None) -> None:
        self._keep(agent, luggage, replace(luggage.standing, group=group))

    def subscribe(self, agent: str, epoch: int, luggage: Luggage, changes: Iterable[tuple[str, bool]]) -> None:
        """Topics that the agent wants (True), or no more. More than is allowed are refused, and its owner is told."""
        topics = dict.fromkeys(luggage.standing.topics)
        for topic, on in changes:
            topics[topic] = None
            if not on:
                del topics[topic]
        if tuple(topics) == luggage.standing.topics:
            return
        try:
            standing = replace(luggage.standing, topics=tuple(topics))
        except ValueError as error:
            self._note(agent, f"a subscription was refused: {error}")
            return
        self._keep(agent, luggage, standing)
        self.brought(agent, epoch, luggage)

    def require(self, agent: str, luggage: Luggage, requires: Requires) -> None:
        """Where it can run, from now on."""
        if requires != luggage.standing.requires:
            self._keep(agent, luggage, replace(luggage.standing, requires=requires))

    def brought(self, agent: str, epoch: int, luggage: Luggage) -> None:
        """What the agent has subscribed to by now, or brought along."""
        topics = luggage.standing.topics
        if topics or self.subscriptions.of(agent) is not None:
            subscribed = Subscribed(agent, epoch, topics)
            self.subscriptions.learn(self._host, subscribed)
            self._announce(subscribed)

    def _keep(self, agent: str, luggage: Luggage, standing: Standing) -> None:
        luggage.standing = standing
        self._outbox.keep_standing(agent, standing)
