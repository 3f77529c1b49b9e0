"""What a refused or failed move changes: the host scores less for that group for a while, so that another candidate
follows. Pure: time is an argument."""

from collections.abc import Collection

from msgspec.structs import replace

from services.eds.offers import Candidate, Offers, Rejection
from services.eds.snapshot import Refused, Snapshot

LASTS_S = 60.0  # after the last one
LOWERED = 0.1  # of its score a host keeps for each refusal
MOST = 10  # failed moves of a group to a host that are counted
MAX_REFUSALS = 10_000  # that are remembered; the oldest goes first


class Refusals:
    """Those of the last LASTS_S."""

    def __init__(self) -> None:
        self._refused: dict[tuple[str, str], Refused] = {}  # by group and host

    def add(self, group: str, host: str, now: float) -> None:
        self._refused = {key: each for key, each in self._refused.items() if now < each.at + LASTS_S}
        before = self._refused.pop((group, host), None)
        times = 1 if before is None else min(before.times + 1, MOST)
        self._refused[group, host] = Refused(group, host, times, now)
        if len(self._refused) > MAX_REFUSALS:
            del self._refused[next(iter(self._refused))]

    def of(self, groups: Collection[str], now: float) -> tuple[Refused, ...]:
        """For a snapshot."""
        found = [each for each in self._refused.values() if each.group in groups and _lasts(each, now)]
        return tuple(sorted(found, key=lambda each: (each.group, each.host)))


def lowered(offers: Offers, snapshot: Snapshot) -> Offers:
    """The offers with lower scores where a group was refused. Agents that have moved for the same event may only stay
    where they came to, if they may: nobody is moved twice for one event."""
    if not snapshot.refused and not snapshot.moved:
        return offers
    refused = {(each.group, each.host): each for each in snapshot.refused if _lasts(each, snapshot.at)}
    groups = {agent: group.name for group in snapshot.groups for agent in group.agents}
    present = {resident.agent: resident.host for resident in snapshot.residents}
    candidates, rejected = {}, list(offers.rejected)
    for agent, places in offers.candidates.items():
        stays = tuple(place for place in places if place.host == present.get(agent))
        if agent in snapshot.moved and stays:
            candidates[agent] = stays
            others = (place.host for place in places if place not in stays)
            rejected += [Rejection(agent, host, "it has moved for this already") for host in others]
            continue
        group = groups.get(agent, "")
        known = {host: refused.get((group, host)) for host in {place.host for place in places} - {present.get(agent)}}
        lower = (_lower(place, known.get(place.host), snapshot.at) for place in places)
        candidates[agent] = tuple(sorted(lower, key=lambda place: (-place.score, place.host)))
    return replace(offers, candidates=candidates, rejected=tuple(rejected))


def _lasts(refused: Refused, now: float) -> bool:
    return refused.at <= now < refused.at + LASTS_S


def _lower(place: Candidate, refused: Refused | None, now: float) -> Candidate:
    if refused is None:
        return place
    factor = LOWERED**refused.times
    # A score may be below zero, and is to be lowered then too.
    score = place.score - (1.0 - factor) * abs(place.score)
    times = "a move there" if refused.times == 1 else f"{refused.times} moves there"
    note = f"{times} failed {now - refused.at:.1f} s ago: for {LASTS_S:g} s it counts {factor:g} times"
    return replace(place, score=score, note=f"{place.note}; {note}" if place.note else note)
