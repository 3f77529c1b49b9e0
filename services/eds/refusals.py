"""What a refused or failed move changes: the host scores less for that group for a while, so that another candidate
follows. Pure: time is an argument."""

from collections.abc import Collection

from msgspec.structs import replace

from services.eds.offers import Candidate, Offers, Rejection
from services.eds.snapshot import Snapshot

LASTS_S = 60.0  # after the last one
LOWERED = 0.1  # of its score a host keeps for each refusal
MAX_REFUSALS = 10_000  # that are remembered; the oldest goes first


class Refusals:
    def __init__(self) -> None:
        self._refusals: dict[tuple[str, str], tuple[int, float]] = {}  # (group, host) -> how many, and when the last

    def add(self, group: str, host: str, now: float) -> None:
        fresh = self.fresh(now)
        number, _ = fresh.pop((group, host), (0, now))
        fresh[group, host] = number + 1, now
        if len(fresh) > MAX_REFUSALS:
            del fresh[next(iter(fresh))]
        self._refusals = fresh  # not changed in place: a thread may read the one before

    def fresh(self, now: float) -> dict[tuple[str, str], tuple[int, float]]:
        return {key: (number, at) for key, (number, at) in self._refusals.items() if at <= now < at + LASTS_S}

    def lowered(self, offers: Offers, snapshot: Snapshot, moved: Collection[str] = ()) -> Offers:
        """The offers with lower scores where a group was refused. Agents that have `moved` for the same event may only
        stay where they came to, if they may: nobody is moved twice for one event."""
        fresh = self.fresh(snapshot.at)
        if not fresh and not moved:
            return offers
        groups = {agent: group.name for group in snapshot.groups for agent in group.agents}
        present = {resident.agent: resident.host for resident in snapshot.residents}
        candidates, rejected = {}, list(offers.rejected)
        for agent, places in offers.candidates.items():
            stays = tuple(place for place in places if place.host == present.get(agent))
            if agent in moved and stays:
                candidates[agent] = stays
                others = (place.host for place in places if place not in stays)
                rejected += [Rejection(agent, host, "it has moved for this already") for host in others]
            else:
                group = groups.get(agent, "")
                refusals = {host: fresh.get((group, host)) for host in {place.host for place in places}}
                refusals[present.get(agent, "")] = None  # where it is it need not go
                lower = (_lower(place, refusals[place.host], snapshot.at) for place in places)
                candidates[agent] = tuple(sorted(lower, key=lambda place: (-place.score, place.host)))
        return replace(offers, candidates=candidates, rejected=tuple(rejected))


def _lower(place: Candidate, refusal: tuple[int, float] | None, now: float) -> Candidate:
    if refusal is None:
        return place
    number, at = refusal
    factor = LOWERED**number
    # A score may be below zero, and is to be lowered then too.
    score = place.score - (1.0 - factor) * abs(place.score)
    times = "a move there" if number == 1 else f"{number} moves there"
    note = f"{times} failed {now - at:.1f} s ago: for {LASTS_S:g} s it counts {factor:g} times"
    return replace(place, score=score, note=f"{place.note}; {note}" if place.note else note)
