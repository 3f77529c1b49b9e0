"""To whom agents write: to ids, to names, and to all who have subscribed to a topic.

A letter to a name that no agent has, as far as is known here, is numbered and kept like any other, as a letter to that
name; when there is news of one that is called so, it becomes a letter to that agent. A name that several have is
refused.
"""

from collections.abc import Callable, Iterable

from agentplatform.mailroom.leaving import Leaving
from agentplatform.mailroom.sender import Sender
from agentplatform.messages import RESERVED, Outgoing
from agentplatform.parcel.manifest import AGENT_ID, NAME
from agentplatform.subscriptions import Subscriptions
from agentplatform.whereabouts import Whereabouts
from ledger.errors import Misuse


class Addressing:
    def __init__(
        self,
        whereabouts: Whereabouts,
        subscriptions: Subscriptions,
        leaving: Leaving,
        note: Callable[[str, str], None],
    ) -> None:
        """`note(agent, text)` tells an agent's owner."""
        self._whereabouts, self._subscriptions, self._leaving, self._note = whereabouts, subscriptions, leaving, note

    def receivers(self, agent: str, sender: Sender, outgoing: Outgoing) -> list[str]:
        """Ids, or a name that nobody has yet. Raises Misuse for what is neither, and for a name that several have."""
        if outgoing.topic:
            if outgoing.receiver.startswith(RESERVED):
                raise Misuse(f"to {outgoing.receiver!r:.80} hosts alone tell something; choose another topic")
            return self._subscriptions.subscribers(outgoing.receiver, agent)
        if AGENT_ID.fullmatch(outgoing.receiver):  # a whole id needs no news: after a restart there is none yet
            return [outgoing.receiver]
        if not NAME.fullmatch(outgoing.receiver):
            raise Misuse(f"{outgoing.receiver!r:.80} is neither an agent's id nor a name")
        self.name([(agent, sender)])  # what it wrote to that name before goes first
        return [self._whereabouts.named(outgoing.receiver) or outgoing.receiver]

    def name(self, senders: Iterable[tuple[str, Sender]]) -> None:
        """What these agents wrote to names goes to who has them, by now."""
        for agent, sender in senders:
            for name in sender.names:
                try:
                    receiver = self._whereabouts.named(name)
                except Misuse as error:
                    for letter in sender.refuse(name, str(error)):
                        self._note(agent, f"{letter.kind!r} was not sent to {name}: {error}")
                    continue
                if receiver is not None:
                    self._leaving.when(*sender.address(name, receiver))
