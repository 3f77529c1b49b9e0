"""What a planner has to decide: units with places, and rows of which there is only so much. Pure.

A *unit* is agents that can only be on one host: those that atomic rules, and dependencies on all, tie together. A
*row* is something that several units want and of which there is not enough for all: a resource of a host, or the one
seat on a host of those who must be apart. What is enough for all has no row, so that few are left.
"""

from collections.abc import Iterable, Mapping, Sequence
from operator import gt

import msgspec

from ledger.errors import Misuse
from services.eds.contradictions import contradictions, together
from services.eds.offers import Candidate, Offers
from services.eds.rules import Dependency, Exclusion, Group
from services.eds.snapshot import Resident, Snapshot
from services.rms.resources import Minima

MAX_SCORE = 1e9  # of a place; more, or no number, is no score
KEPT = 1e-7  # of an agent's largest score: a move that brings less than this is not worth making
EXACT = 1e-10  # of the largest score: what is closer than this is equal
MAX_OBSTACLES = 8  # kept for the explanation
MAX_USES = 2_000_000  # of hosts by agents that rules name, over all groups: some hundred MB
NOTHING = float("-inf")

Ranked = list[tuple[float, str, int]]  # places of one unit, the best first: less what it brings, the host, the number

_KINDS = tuple(name.replace("_", " ") for name in Minima.__struct_fields__)  # of what is asked of a host


class Unit:
    """One unknown: where these agents of one group run. Its places are numbered; the lists go by their numbers."""

    __slots__ = ("agents", "demands", "group", "hosts", "needs", "number_of", "values")

    def __init__(self, group: int, agents: tuple[str, ...]) -> None:
        self.group = group
        self.agents = agents
        self.hosts: list[str] = []
        self.values: list[float] = []  # what a place brings: the scores of all of them, and a trifle for who stays
        self.needs: list[tuple[float, ...]] = []  # what those take that would arrive there, by kind of resource
        self.demands: list[list[tuple[int, float]]] = []  # what of it there is a row for: row, amount
        self.number_of: dict[str, int] = {}  # host -> number of the place

    def keep(self, hosts: Iterable[str]) -> None:
        """Forgets the places on other hosts."""
        wanted = set(hosts)
        kept = [number for number, host in enumerate(self.hosts) if host in wanted]
        self.hosts = [self.hosts[number] for number in kept]
        self.values = [self.values[number] for number in kept]
        self.needs = [self.needs[number] for number in kept]
        self.demands = [self.demands[number] for number in kept]
        self.number_of = {host: number for number, host in enumerate(self.hosts)}


class Row(msgspec.Struct, frozen=True):
    """The units' demands on one thing must not be more than `capacity` in all."""

    what: str  # in words, for explanations
    capacity: float
    users: list[tuple[int, int, float]]  # unit, number of its place, amount; below zero: that place gives


class Problem:
    """Everything that the searches need, by number: of units, rows and groups."""

    def __init__(self, snapshot: Snapshot, offers: Offers) -> None:
        self.groups = snapshot.groups
        self.residents = {resident.agent: resident for resident in snapshot.residents}
        self.obstacles: dict[str, None] = {}  # in the order in which they were met
        self.stuck: dict[int, tuple[str, ...]] = {}  # groups for which there is no plan, whatever the others do
        self.units: list[Unit] = []
        self.of_group: dict[int, list[int]] = {}  # the units of each group that is not stuck
        self.rows: list[Row] = []
        # A unit and those of which it needs one where it is, by each of them; `needy` are those that need one.
        self.choices_of: dict[int, list[tuple[int, tuple[int, ...]]]] = {}
        self.needy: set[int] = set()
        # The same as rows, host by host, for the prices: unit and number of a place -> row, amount.
        self.ties: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self._uses_left = MAX_USES
        _each_agent_once(snapshot.groups)
        self._snapshot = snapshot
        self._hosts = {host.host: host for host in snapshot.hosts}
        free = {host.host: host.resources.free for host in snapshot.hosts if host.resources is not None}
        self._free: dict[str, tuple[float, ...]] = {host: msgspec.structs.astuple(each) for host, each in free.items()}
        # What is on offer and possible: agent -> host -> candidate.
        self.places = {agent: self._checked(agent, offers) for group in self.groups for agent in group.agents}
        self.scale = max(map(_largest, self.places.values()), default=0.0) or 1.0
        self.slack = EXACT * self.scale  # a plan is better when it brings more by more than this
        for number, group in enumerate(self.groups):
            self._add(number, group)
        self.shared = len(self.rows)  # from here on rows can be of several groups
        self._scarce()
        # More than all places can bring or cost: so few groups are stuck first, and then the benefit counts.
        self.penalty = self.scale + 2.0 * sum(max(map(abs, unit.values)) for unit in self.units)

    def note(self, obstacle: str) -> None:
        if len(self.obstacles) < MAX_OBSTACLES:
            self.obstacles[obstacle] = None

    def ranked(self, units: Iterable[int]) -> dict[int, Ranked]:
        """The places of these units by what they bring."""
        return {unit: rank(self.units[unit].hosts, self.units[unit].values) for unit in units}

    def candidates(self, unit: int, place: int) -> list[Candidate]:
        """What the policy said of that place, agent by agent."""
        each = self.units[unit]
        return [self.places[agent][each.hosts[place]] for agent in each.agents]

    def _checked(self, agent: str, offers: Offers) -> dict[str, Candidate]:
        """The places on offer, by host. Trust and room are asked again, so that no policy can forget them."""
        places: dict[str, Candidate] = {}
        if agent not in self.residents:
            return places
        resident = self.residents[agent]
        for place in offers.candidates.get(agent, ()):
            host = self._hosts.get(place.host)
            wrong: str | None
            if host is None:
                wrong = "it is not in the snapshot"
            elif place.host in places:
                wrong = "it did so before"
            elif not abs(place.score) <= MAX_SCORE:  # NaN is not
                wrong = f"{place.score} is no score"
            else:
                wrong = self._snapshot.unfit(resident, host)
            if wrong is None:
                places[place.host] = place
            else:
                self.note(f"the policy offered {place.host} to {agent}: {wrong}")
        return places

    def _add(self, number: int, group: Group) -> None:
        """The units of a group, or why it is stuck."""
        lost = [f"nobody knows where {agent} is" for agent in group.agents if agent not in self.residents]
        if against := contradictions(group):
            lost.append(f"its rules contradict each other: {'; '.join(against)}")
        named = sum(len(rule.names) for rule in group.rules)
        if named * len(self._hosts) > self._uses_left:
            lost.append(f"its rules name {named} agents; that is more than can be planned on {len(self._hosts)} hosts")
        if lost:
            self.stuck[number] = tuple(lost[:MAX_OBSTACLES])
            return
        self._uses_left -= named * len(self._hosts)
        units = [self._unit(number, agents) for agents in together(group)]
        at = {agent: unit for unit in units for agent in unit.agents}
        choices = [
            (at[rule.agent], [at[agent] for agent in rule.on])
            for rule in group.rules
            if isinstance(rule, Dependency) and rule.need == "any"
        ]
        # Nobody can be where all those are missing of whom it needs one; that may take a place from others in turn.
        changed = True
        while changed:
            changed = False
            for unit, others in choices:
                there = {host for other in others for host in other.hosts}
                if not there.issuperset(unit.hosts):
                    unit.keep(there)
                    changed = True
        lost += [_homeless(unit, self.places) for unit in units if not unit.hosts]
        apart = [rule.agents for rule in group.rules if isinstance(rule, Exclusion)]
        lost += [crowd for agents in apart if (crowd := _too_few(agents, [at[each] for each in agents])) is not None]
        if lost:
            self.stuck[number] = tuple(lost[:MAX_OBSTACLES])
            return
        first = len(self.units)
        self.units += units
        index = {id(unit): first + i for i, unit in enumerate(units)}
        self.of_group[number] = list(index.values())
        for agents in apart:
            self._seats(agents, [index[id(at[each])] for each in agents])
        for unit, others in choices:
            if unit not in others:
                self._choice(index[id(unit)], tuple(dict.fromkeys(index[id(other)] for other in others)))

    def _unit(self, group: int, agents: tuple[str, ...]) -> Unit:
        unit = Unit(group, agents)
        residents = [self.residents[agent] for agent in agents]
        places = [self.places[agent] for agent in agents]
        # By each agent's own scores: one that says it is a million times more work holds nobody else back.
        trifles = {agent: KEPT * _largest(self.places[agent]) for agent in agents}
        needs_of_all = _sum(residents)
        homes = {resident.host for resident in residents}
        for host in min(places, key=len):
            try:
                value = sum([each[host].score for each in places])
            except KeyError:  # it is no place for one of them
                continue
            needs = needs_of_all
            if host in homes:  # what those use that are there is counted as used already
                needs = _sum(resident for resident in residents if resident.host != host)
                value += sum(trifles[resident.agent] for resident in residents if resident.host == host)
            free = self._free.get(host)
            if len(agents) > 1 and free and any(map(gt, needs, free)):
                self.note(f"{host} cannot take {' and '.join(agents)} together")
                continue
            unit.number_of[host] = len(unit.hosts)
            unit.hosts.append(host)
            unit.values.append(value)
            unit.needs.append(needs)
            unit.demands.append([])
        return unit

    def _scarce(self) -> None:
        """Rows for what would not be enough if all came."""
        wanting: dict[str, list[tuple[int, int, tuple[float, ...]]]] = {}
        for number, unit in enumerate(self.units):
            for place, (host, needs) in enumerate(zip(unit.hosts, unit.needs, strict=True)):
                if any(needs):
                    wanting.setdefault(host, []).append((number, place, needs))
        for host, wants in wanting.items():
            if len(wants) == 1 or host not in self._free:
                continue
            wanted = map(sum, zip(*(needs for _, _, needs in wants), strict=True))
            for kind, (much, there) in enumerate(zip(wanted, self._free[host], strict=True)):
                if much > there:
                    users = [(unit, place, needs[kind]) for unit, place, needs in wants if needs[kind] > 0]
                    self._add_row(f"{host} has not enough {_KINDS[kind]} for all", there, users)

    def _add_row(self, what: str, capacity: float, users: list[tuple[int, int, float]]) -> None:
        for unit, place, amount in users:
            self.units[unit].demands[place].append((len(self.rows), amount))
        self.rows.append(Row(what, capacity, users))

    def _seats(self, agents: Sequence[str], units: Sequence[int]) -> None:
        """`agents`, which are in these units, must be apart."""
        seats: dict[str, list[tuple[int, int, float]]] = {}
        for number in units:
            for place, host in enumerate(self.units[number].hosts):
                seats.setdefault(host, []).append((number, place, 1.0))
        names = ", ".join(agents)
        for host, users in seats.items():
            if len(users) > 1:
                self._add_row(f"{names} must be apart: not two of them on {host}", 1.0, users)

    def _choice(self, unit: int, others: tuple[int, ...]) -> None:
        what = " or ".join(self.units[other].agents[0] for other in others)
        for place, host in enumerate(self.units[unit].hosts):
            users = [(unit, place, 1.0)]
            users += [(o, self.units[o].number_of[host], -1.0) for o in others if host in self.units[o].number_of]
            for each, at, amount in users:
                self.ties.setdefault((each, at), []).append((len(self.rows), amount))
            self.rows.append(Row(f"{self.units[unit].agents[0]} needs {what} on {host}", 0.0, users))
        self.needy.add(unit)
        for each in (unit, *others):
            self.choices_of.setdefault(each, []).append((unit, others))


def rank(hosts: Sequence[str], values: Sequence[float], spare: float = float("inf")) -> Ranked:
    """The best first, without what is worse than the best by `spare`."""
    least = max(values) - spare
    return sorted((-value, hosts[place], place) for place, value in enumerate(values) if value > least)


def most(ranked: Ranked) -> float:
    """What the best place brings."""
    return -ranked[0][0] if ranked else NOTHING


def _sum(residents: Iterable[Resident]) -> tuple[float, ...]:
    total = Minima()
    for resident in residents:
        total += resident.needs.least
    return msgspec.structs.astuple(total)


def _largest(places: Mapping[str, Candidate]) -> float:
    """The largest score, whatever its sign."""
    return max((abs(place.score) for place in places.values()), default=0.0)


def _each_agent_once(groups: Iterable[Group]) -> None:
    group_of: dict[str, str] = {}
    for group in groups:
        for agent in group.agents:
            if agent in group_of:
                raise Misuse(f"{agent} is in the groups {group_of[agent]} and {group.name}; take it out of one of them")
            group_of[agent] = group.name


def _homeless(unit: Unit, places: dict[str, dict[str, Candidate]]) -> str:
    for agent in unit.agents:
        if not places[agent]:
            return f"there is no place for {agent}"
    if len(unit.agents) == 1:
        return f"there is no place for {unit.agents[0]} with those whom it needs"
    return f"there is no place for {' and '.join(unit.agents)}, who must be together"


def _too_few(agents: Sequence[str], units: Sequence[Unit]) -> str | None:
    """Whether agents that must be apart, in these units, have too few hosts between them, in words."""
    seated: dict[str, int] = {}  # host -> unit

    def seat(number: int, asked: set[str]) -> bool:
        """Seats a unit, and others anew where that makes room; `asked` are the hosts where it tried."""
        for host in units[number].hosts:
            if host not in asked:
                asked.add(host)
                if host not in seated or seat(seated[host], asked):
                    seated[host] = number
                    return True
        return False

    for number in range(len(units)):
        asked: set[str] = set()
        if not seat(number, asked):
            crowd = ", ".join(agents[each] for each in sorted((number, *(seated[host] for host in asked))))
            return f"{crowd} must be apart, and there is no more for them than {', '.join(sorted(asked))}"
    return None
