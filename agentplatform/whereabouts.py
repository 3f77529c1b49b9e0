"""Where agents are, as far as this host has heard, and whom it believes. Pure.

It is a hint, not custody: the hosts' journals say who runs an agent. A wrong hint costs a detour, since a
host that an agent left says where it went. What may not happen is that a host which lies keeps
mail for ever. So of an agent whose place is known, another place is believed only when signed passes lead there, or on
the word of the host where it is believed to be. Others that claim to have it are noted, and are asked for passes.

Of an agent that was never heard of, the first host that claims to have it is believed, but not for sure: another one is
believed when the host that handed the agent to it has signed that, and as long as nothing surer is known, mail that
stays without an answer is tried at each of the hosts that claim the agent, in turn.

The book says too whose word counts for what an agent sends (`vouched`): that of the host where it is believed to be.
"""

from collections.abc import Iterable

import msgspec

from agentplatform import passes
from agentplatform.parcel.manifest import AGENT_ID, MAX_EPOCH
from agentplatform.passes import Authentic, Trail
from ledger.errors import Misuse

SHOWN = 8  # of the agents that a name may mean
_LISTED_BY = {"agent": "agents", "organisation": "trust"}  # the verb of the command line
MAX_FROM_ONE_HOST = 100_000  # agents first heard of from one host; what it says of more is not taken
replace = msgspec.structs.replace


class Located(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An agent lives on `host` from `epoch` on; or it ended there in that epoch."""

    agent: str
    epoch: int
    host: str
    ended: int | None = None  # milliseconds since 1970 by that host's clock; 0: at a time that is not known any more
    trail: Trail = ()  # that leads there

    def __post_init__(self) -> None:
        if not AGENT_ID.fullmatch(self.agent) or not 0 <= self.epoch <= MAX_EPOCH:
            raise ValueError(f"{self.agent!r:.80} is no agent's id, or its epoch cannot be")
        if not 0 < len(self.host) <= passes.MAX_NAME or len(self.trail) > passes.MAX_TRAIL:
            raise ValueError(f"of {self.agent} comes a host without a name, or a trail that is too long")

    def after(self, other: "Located") -> bool:
        """A later epoch, or the end of the same."""
        return (self.epoch, self.ended is not None) > (other.epoch, other.ended is not None)


class _Known(msgspec.Struct):
    """What is known of one agent."""

    base: Located  # known by our own journal, or where passes led from there; else the first word that we heard
    sure: bool  # the base is no mere word
    first: str  # who told of the agent first; "" for this host
    word: Located | None = None  # what the host that it was believed to be on said of a later place
    claims: dict[str, Located] = msgspec.field(default_factory=dict)  # other hosts that say it is with them
    turn: int = 0  # which of all these is tried now

    @property
    def believed(self) -> Located:
        return self.word or self.base


class Whereabouts:
    def __init__(self, authentic: Authentic = lambda each: False) -> None:
        self._authentic = authentic
        self._known: dict[str, _Known] = {}
        self._names: dict[str, set[str]] = {}  # name -> agents that are known
        self._told: dict[str, int] = {}  # host -> agents first heard of from it

    # What is heard

    def learn(self, located: Located) -> bool:
        """What this host knows by itself: what lives here, and where it sent it. True when it is news."""
        known = self._known.get(located.agent)
        if known and known.sure and not located.after(known.base):
            return False
        trail = passes.joined(known.base.trail, located.trail) if known else located.trail
        self._index(located.agent)
        self._known[located.agent] = _Known(replace(located, trail=trail), True, "")
        return True

    def hear(self, teller: str, located: Located) -> bool:
        """What another host says. True when mail may go elsewhere now, and when the host where the agent is believed
        to be says that it has it."""
        known = self._known.get(located.agent)
        if known is None:
            return self._hear_first(teller, located)
        if self._leads(known.base, located) and (located.ended is None or teller == located.host):
            trail = passes.joined(known.base.trail, located.trail)
            claims = {host: each for host, each in known.claims.items() if each.after(located)}
            base = replace(located, trail=trail)
            self._known[located.agent] = _Known(base, known.sure, known.first, None, claims, known.turn)
            return True
        # Of one epoch there may be two passes, if its source lies. Then the host that they name in vain says so.
        elsewhere = located.host != teller and located.epoch == known.believed.epoch
        if teller == known.believed.host and (located.after(known.believed) or elsewhere):
            known.word = located
            return True
        if teller == located.host == known.believed.host:
            return located.epoch == known.believed.epoch
        if teller == located.host and not known.sure and self._surer(located, known.base):
            self._known[located.agent] = _Known(located, False, known.first)
            return True
        if teller == located.host and (not known.sure or located.after(known.base)):
            news = known.claims.get(teller) != located != known.believed
            known.claims[teller] = located
            return news and not known.sure
        return False

    def _hear_first(self, teller: str, located: Located) -> bool:
        if teller != located.host or self._told.get(teller, 0) >= MAX_FROM_ONE_HOST:
            return False
        self._told[teller] = self._told.get(teller, 0) + 1
        self._index(located.agent)
        # Nothing is known that its trail could lead from; the last step may join one that comes later.
        self._known[located.agent] = _Known(replace(located, trail=located.trail[-1:]), False, teller)
        return True

    def _index(self, agent: str) -> None:
        self._names.setdefault(agent.rpartition("-")[0], set()).add(agent)

    def _leads(self, base: Located, located: Located) -> bool:
        start, end = (base.host, base.epoch), (located.host, located.epoch)
        return base.ended is None and passes.leads(located.trail, located.agent, start, end, self._authentic)

    def _surer(self, located: Located, first: Located) -> bool:
        """Of two places between which no passes lead: a later one that the host signed which handed the agent over,
        and any such one before a mere word."""
        return self._witnessed(located) and (located.epoch > first.epoch or not self._witnessed(first))

    def _witnessed(self, located: Located) -> bool:
        last = located.trail[-1] if located.trail else None
        if last is None or (last.agent, last.epoch, last.destination) != (located.agent, located.epoch, located.host):
            return False
        return self._authentic(last)

    def unanswered(self, agent: str) -> None:
        """Mail to where it is believed to be has no answer. If that is not sure, the next claim has its turn."""
        known = self._known.get(agent)
        if known is not None and (known.word is not None or not known.sure):
            known.turn += 1

    # What is believed

    def place(self, agent: str) -> Located | None:
        """Where our own mail goes. None for an agent never heard of."""
        known = self._known.get(agent)
        if known is None:
            return None
        if not known.claims or (known.sure and known.word is None):
            return known.believed
        others = sorted(known.claims.values(), key=lambda each: -each.epoch)
        places = [known.believed, *(each for each in others if each.host != known.believed.host)]
        return places[known.turn % len(places)]

    def believed(self, agent: str) -> Located | None:
        """What this host tells others, and where it sends their mail."""
        known = self._known.get(agent)
        return None if known is None else known.believed

    def trail(self, agent: str) -> Trail:
        """By which it came to where it is believed to be, as far as that is known."""
        known = self._known.get(agent)
        return () if known is None else passes.joined(known.base.trail, known.believed.trail)

    def doubtful(self, agent: str) -> int | None:
        """The epoch after which passes would help: some host claims the agent, and none lead there. Else None."""
        known = self._known.get(agent)
        return self.base_epoch(agent) if known is None or known.word is not None or known.claims else None

    def vouched(self, agent: str, host: str) -> int | None:
        """How far the agent's epoch is proved, if it is believed to be on `host`. None if it is not."""
        known = self._known.get(agent)
        if known is None or known.believed.host != host:
            return None
        return known.base.epoch if known.sure else 0

    def base_epoch(self, agent: str) -> int:
        """After which passes would lead on."""
        known = self._known.get(agent)
        return -1 if known is None else known.base.epoch

    def host_of(self, agent: str) -> str | None:
        """The host, "" for an agent that was disposed of, None for one never heard of."""
        located = self.believed(agent)
        if located is None:
            return None
        return located.host if located.ended is None else ""

    def called(self, text: str) -> list[Located]:
        """Where the agent of that id is believed to be or to have ended; or those alive that have that name."""
        if text in self._known:
            return [self._known[text].believed]
        named = [self._known[agent].believed for agent in sorted(self._names.get(text, ()))]
        return [each for each in named if each.ended is None]

    def on(self, host: str) -> list[Located]:
        return [located for located in self._all() if located.host == host and located.ended is None]

    def alive(self) -> list[Located]:
        return sorted((located for located in self._all() if located.ended is None), key=lambda each: each.agent)

    def _all(self) -> list[Located]:
        return [known.believed for known in self._known.values()]

    def resolve(self, text: str) -> str:
        """The id of the one agent that `text` names: its id, its name, or the beginning of its id. Else Misuse."""
        if not text:
            raise Misuse("name an agent: its id, its name, or the beginning of its id")
        if text in self._known:
            return text
        if (named := self.named(text)) is not None:
            return named
        return only_one(text, [each.agent for each in self.alive() if each.agent.startswith(text)], "agent")

    def named(self, name: str) -> str | None:
        """The id of the one agent of that name; None when none is known. Raises Misuse, with their ids and hosts, when
        there are several: a clone has the name of its original."""
        found = self.called(name)
        if len(found) > 1:
            places = ", ".join(f"{each.agent} (on {each.host})" for each in found)
            raise Misuse(f"{len(found)} agents are called {name!r}: {places}; give the id of the one that you mean")
        return found[0].agent if found else None


def only_one(text: str, found: Iterable[str], what: str) -> str:
    found = list(found)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Misuse(f"no {what} {text!r:.60} is known here; list them with: agentplatform {_LISTED_BY[what]}")
    some = ", ".join(found[:SHOWN]) + (f" and {len(found) - SHOWN} more" if len(found) > SHOWN else "")
    raise Misuse(f"{text!r:.60} may be any of {some}; give more of the name")
