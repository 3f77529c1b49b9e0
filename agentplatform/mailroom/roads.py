"""How post comes to other hosts: where it goes, and who is asked when nobody answers.

No host carries another's post: whose agent has left says where it is now, and the sender's host sends it there itself.
"""

import time
from collections.abc import Callable, Collection

from agentplatform.bulletins import Bulletin, Residents, Seek, in_parts
from agentplatform.mail import Post, Reply
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec

SEEK_AT_ONCE = 16  # agents that are asked about in one bulletin; the answer has a trail of each
PATIENCE = 2  # rounds without an answer, after which another host is tried


class Roads:
    def __init__(
        self,
        host: str,
        whereabouts: Whereabouts,
        send: Callable[[str, bytes], bool],
        tell: Callable[[str, Bulletin], object],
        up: Callable[[], Collection[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`send(host, bytes)` is the link's (False: there is none), `tell(host, bulletin)` the exchange's; `up` says
        who has a link now."""
        self.whereabouts = whereabouts
        self._host, self._send, self._tell, self._up, self._clock = host, send, tell, up, clock
        self._told: set[tuple[str, str, int]] = set()  # host, agent and epoch: who was told where it is in this round
        self._doubted: dict[str, set[str]] = {}  # host -> agents whose letters it brought, and is not believed to have
        self._waiting: dict[str, int] = {}  # agent -> rounds in which our mail to it had no answer
        self._down_since: dict[str, float] = {}  # host -> when we lost it, or began to need it

    def out(self, post: Post) -> None:
        """Post of our own."""
        place = self.whereabouts.place(post.receiver)
        host = place.host if place is not None else None
        if isinstance(post, Reply):
            host = host or post.origin
        if host and host != self._host:
            self._send(host, codec.encode(post))

    def astray(self, agent: str, host: str) -> None:
        """Post for an agent that is not here: its host hears where the agent is, and sends it again."""
        place = self.whereabouts.believed(agent)
        if place is None or place.host in (self._host, host) or (host, agent, place.epoch) in self._told:
            return
        self._told.add((host, agent, place.epoch))
        self._tell(host, Residents((place,)))

    def doubt(self, agent: str, host: str) -> None:
        """The host brought what it says is that agent's, and is not believed to have it: all are asked who has. What it
        brought is sent again, if it is true."""
        doubted = self._doubted.setdefault(host, set())
        if len(doubted) < SEEK_AT_ONCE:
            doubted.add(agent)

    def answered(self, agent: str) -> None:
        self._waiting.pop(agent, None)

    def round(self, waiting: Collection[str]) -> None:
        """Once in a while: looks for agents that have not answered our mail. `waiting` are all of them."""
        self._told.clear()
        doubted = set[str]().union(*self._doubted.values())
        self._doubted.clear()
        self._waiting = {agent: self._waiting.get(agent, 0) + 1 for agent in waiting}
        up = self._up()
        unsure = []
        for agent, rounds in self._waiting.items():
            place = self.whereabouts.place(agent)
            if rounds % PATIENCE == 0:
                self.whereabouts.unanswered(agent)
            since = self.whereabouts.doubtful(agent)
            if since is None and place is not None and place.host not in up and place.host != self._host:
                since = place.epoch
            if since is not None:
                unsure.append((agent, since))
        unsure += [(agent, self.whereabouts.base_epoch(agent)) for agent in sorted(doubted - self._waiting.keys())]
        for host in sorted(up):
            for agents in in_parts(unsure, SEEK_AT_ONCE):
                self._tell(host, Seek(agents))

    def sought(self, host: str, agents: tuple[tuple[str, int], ...]) -> None:
        """Another host asks, for ids or names: it hears of those of whom we know a later place."""
        found = [(place, since) for agent, since in agents[:SEEK_AT_ONCE] for place in self.whereabouts.called(agent)]
        news = tuple(place for place, since in found if place.epoch > since)
        if news:
            self._tell(host, Residents(news[:SEEK_AT_ONCE]))

    # Whose fault it is that nothing comes

    def link_changed(self, host: str, up: bool) -> None:
        if up:
            self._down_since.pop(host, None)
        else:
            self._down_since[host] = self._clock()

    def offline(self, agent: str) -> bool:
        """The host where the agent is believed to be has no link to us now."""
        place = self.whereabouts.place(agent)
        return place is not None and place.host != self._host and place.host not in self._up()

    def why_late(self, agent: str) -> str:
        """For people: where the agent is, and how it is with that host."""
        place = self.whereabouts.place(agent)
        if place is None:
            return "not heard of"
        if place.ended is not None:
            return ended(place)
        if place.host == self._host:
            return "lives here"
        if place.host in self._up():
            return f"last heard of on {place.host}, which is up"
        since = self._down_since.get(place.host)
        long = "since this host was started" if since is None else f"for {self._clock() - since:.0f} s"
        return f"last heard of on {place.host}, which is offline {long}"


def ended(place: Located) -> str:
    when = "at a time that is not known any more"
    if place.ended:
        when = time.strftime("at %Y-%m-%d %H:%M:%S UTC", time.gmtime(place.ended / 1000))
    return f"ended on {place.host} {when}, in its epoch {place.epoch}"
