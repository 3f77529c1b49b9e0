"""Where agents are, as far as this host has heard. Pure.

It is a hint, not custody: the hosts' journals say who runs an agent. A wrong hint costs a detour, since a
host that an agent left forwards its mail.
"""

from collections.abc import Iterable

import msgspec

from agentplatform.parcel.manifest import AGENT_ID, MAX_EPOCH
from ledger.errors import Misuse

MAX_HOST_NAME = 63  # characters


class Located(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An agent lives on `host` from `epoch` on; or, when `host` is empty, it was disposed of in that epoch."""

    agent: str
    epoch: int
    host: str

    def __post_init__(self) -> None:
        if not AGENT_ID.fullmatch(self.agent) or not 0 <= self.epoch <= MAX_EPOCH or len(self.host) > MAX_HOST_NAME:
            raise ValueError(f"{self.agent!r:.80} is no agent's id, or its epoch or host cannot be")


class Whereabouts:
    def __init__(self) -> None:
        self._located: dict[str, Located] = {}

    def learn(self, located: Located) -> bool:
        """True when it is news: a later epoch wins, and within an epoch an end wins over a place."""
        known = self._located.get(located.agent)
        if known and (located.epoch, not located.host) <= (known.epoch, not known.host):
            return False
        self._located[located.agent] = located
        return True

    def host_of(self, agent: str) -> str | None:
        """The host, "" for an agent that was disposed of, None for one never heard of."""
        located = self._located.get(agent)
        return None if located is None else located.host

    def on(self, host: str) -> list[Located]:
        return [located for located in self._located.values() if located.host == host]

    def alive(self) -> list[Located]:
        return sorted((located for located in self._located.values() if located.host), key=lambda each: each.agent)

    def resolve(self, text: str) -> str:
        """The id of the one agent that `text` names: its id, its name, or the beginning of its id. Else Misuse."""
        if not text:
            raise Misuse("name an agent: its id, its name, or the beginning of its id")
        if text in self._located:
            return text
        alive = [located.agent for located in self.alive()]
        named = [agent for agent in alive if agent.rpartition("-")[0] == text]
        return only_one(text, named or [agent for agent in alive if agent.startswith(text)], "agent")


def only_one(text: str, found: Iterable[str], what: str) -> str:
    found = list(found)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Misuse(f"no {what} {text!r} is known here; list them with: agentplatform {what}s")
    raise Misuse(f"{text!r} may be any of {', '.join(found)}; give more of the name")
