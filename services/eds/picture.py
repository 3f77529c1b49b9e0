"""A decision as a picture: who was where, where everybody could go, and where they go. Pure: equal decisions give
equal bytes.

Hosts stand on a circle in the order of their names, users in its middle. Grey lines are links, violet ones what the
user's access point measured; blue curves are places that were candidates, green arrows the paths that are taken. Where
there are many hosts, the lines that matter least are left out, and the picture says so.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

from services.eds import svg
from services.eds.explain import Explanation
from services.eds.offers import Candidate
from services.eds.panel import PANEL, panel, plain, plain_names
from services.eds.snapshot import Host, Link, Snapshot
from services.eds.svg import AMBER, BLUE, FAINT, GREEN, GREY, INK, RED, VIOLET, Point

MOST_HOSTS = 40  # drawn: those that somebody is on, goes to or through, and the best of the others
FEW = 8  # hosts: up to so many, all lines are drawn, with their numbers
BEST = 2  # where there are more: so many candidates of each agent, and hosts nearest to each user
NODE = 13.0  # radius of a host
MARGIN = 190.0  # around the circle, for names
SLIGHTLY, WIDELY = 0.2, 0.3  # how far ways that are taken, and those that are not, bend from the straight line
NAME = 18  # letters of a name in the picture; the whole name is in its title

_ARROW = (
    f'<marker id="go" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="5" markerHeight="5" orient="auto">'
    f'<path d="M0 0L10 5L0 10z" fill="{GREEN}"/></marker>'
)


def picture(explained: Explanation) -> str:
    """The whole file. Raises Misuse for an explanation whose snapshot cannot be read (Explanation.snapshot)."""
    return _Picture(explained).drawn()


class _Picture:
    def __init__(self, explained: Explanation) -> None:
        self._explained = explained
        self._snapshot: Snapshot = explained.snapshot()
        on_paths = {host for place in explained.candidates if self._taken(place) for host in place.path}
        self._busy = on_paths | set(explained.present.values()) | set(explained.chosen.values())
        self._hosts = self._drawn_hosts()
        self._crowded = len(self._hosts) > FEW
        longest = max((len(host.host) for host in self._hosts), default=0)
        self._radius = max(190.0, len(self._hosts) * (26 + 7 * min(longest, NAME)) / math.tau)
        self._middle = (MARGIN + self._radius, MARGIN * 0.55 + self._radius)
        self._at = {host.host: self._on_circle(number) for number, host in enumerate(self._hosts)}

    def drawn(self) -> str:
        title = f"{self._explained.why} ({', '.join(self._explained.groups)})"
        hidden = len(self._snapshot.hosts) - len(self._hosts)
        remarks = [f"{hidden} hosts more were looked at; those that matter least are not drawn"] if hidden else []
        if self._crowded:
            remarks.append(f"not all lines are drawn: of candidates the best {BEST} of each agent")
        words, bottom = panel(self._explained, remarks, 2 * (MARGIN + self._radius))
        height = max(2 * self._radius + MARGIN * 1.2, bottom)
        arrows, names = self._moves()
        parts = [*self._links(), *self._access(), *self._candidates(), *arrows, *self._nodes(), *names, *words]
        return svg.drawing(2 * (MARGIN + self._radius) + PANEL, height, title, parts, _ARROW)

    # Where things stand

    def _drawn_hosts(self) -> list[Host]:
        worth: dict[str, float] = {}
        for place in self._explained.candidates:
            worth[place.host] = max(place.score, worth.get(place.host, 0.0))
        order = sorted(
            self._snapshot.hosts, key=lambda host: (host.host not in self._busy, -worth.get(host.host, 0.0), host.host)
        )
        return sorted(order[:MOST_HOSTS], key=lambda host: host.host)

    def _on_circle(self, number: int) -> Point:
        turn = math.tau * (number + 0.5) / len(self._hosts) - math.tau / 4
        return self._middle[0] + self._radius * math.cos(turn), self._middle[1] + self._radius * math.sin(turn)

    def _users(self) -> list[tuple[str, Point]]:
        users = sorted(self._snapshot.access)
        away = 0.0 if len(users) < 2 else self._radius * 0.3
        turns = [math.tau * number / len(users) for number in range(len(users))]
        x, y = self._middle
        return [
            (user, (x + away * math.cos(turn), y + away * math.sin(turn)))
            for user, turn in zip(users, turns, strict=True)
        ]

    def _taken(self, place: Candidate) -> bool:
        return self._explained.chosen.get(place.agent) == place.host

    # Lines

    def _links(self) -> Iterable[str]:
        """One line for both directions; numbers on it where they can be read."""
        both: dict[tuple[str, str], list[Link]] = {}
        for link in self._snapshot.links:
            ends = {link.source, link.destination}
            if len(ends) == 2 and ends <= self._at.keys() and (not self._crowded or ends <= self._busy):
                both.setdefault((min(ends), max(ends)), []).append(link)
        for (one, other), links in sorted(both.items()):
            start, end = self._at[one], self._at[other]
            words = [f"{each.source} to {each.destination}: {_measured(each.rtt_ms, each.loss)}" for each in links]
            yield svg.told(svg.line(start, end, f'stroke="{FAINT}" stroke-width="1.5"'), "\n".join(words))
            if not self._crowded:
                times = "/".join(dict.fromkeys(f"{each.rtt_ms:.1f}" for each in links))
                yield svg.text(svg.between(start, end, 0.3), f"{times} ms", 10, GREY, "middle")

    def _access(self) -> Iterable[str]:
        for user, at in self._users():
            measured = [access for access in self._snapshot.access[user] if access.host in self._at]
            near = sorted(access.rtt_ms for access in measured)[:BEST]
            for access in measured:
                if self._crowded and access.host not in self._busy and access.rtt_ms not in near:
                    continue
                words = f"{user} to {access.host}: {_measured(access.rtt_ms, access.loss)} ({access.source})"
                style = f'stroke="{VIOLET}" stroke-width="1" stroke-dasharray="2 4"'
                end = self._at[access.host]
                yield svg.told(svg.line(at, end, style), words)
                numbers = f"{access.rtt_ms:.0f} ms" + (f", loss {access.loss:.0%}" if access.loss else "")
                yield svg.text(svg.between(at, end, 0.75), numbers, 10, VIOLET, "middle")
            square = f'<rect x="{at[0] - 9:.1f}" y="{at[1] - 9:.1f}" width="18" height="18" rx="4" fill="{VIOLET}"/>'
            yield svg.told(square, f"the access point of {user}")
            yield svg.text((at[0], at[1] + 24), svg.short(user, NAME), 12, VIOLET, "middle", bold=True)

    def _candidates(self) -> Iterable[str]:
        """Where somebody could have gone, with Q; of agents that go the same way, the largest is written."""
        open_places: dict[tuple[str, str], list[Candidate]] = {}
        seen: Counter[str] = Counter()
        for place in sorted(self._explained.candidates, key=lambda place: -place.score):
            if len(place.path) > 1 and not self._taken(place) and {place.path[0], place.host} <= self._at.keys():
                seen[place.agent] += 1
                if not self._crowded or seen[place.agent] <= BEST:
                    open_places.setdefault((place.path[0], place.host), []).append(place)
        for (source, host), places in sorted(open_places.items()):
            style = f'fill="none" stroke="{BLUE}" stroke-width="1.2" stroke-opacity="0.55"'
            yield svg.told(self._arc(source, host, style, WIDELY), "\n".join(map(_worth, places)))
            best = max(place.score for place in places)
            yield svg.text(self._on_arc(source, host, 0.7, WIDELY), f"Q {best:.3g}", 10, BLUE, "middle")

    def _moves(self) -> tuple[list[str], list[str]]:
        """Paths that are taken, hop by hop: those who go together are one arrow. Then their names, above all else."""
        arrows, labels = [], []
        together: dict[tuple[str, ...], list[Candidate]] = {}
        for place in self._explained.candidates:
            if self._taken(place) and len(place.path) > 1 and set(place.path) <= self._at.keys():
                together.setdefault(place.path, []).append(place)
        for path, places in sorted(together.items()):
            style = f'fill="none" stroke="{GREEN}" stroke-width="4" marker-end="url(#go)"'
            arcs = "".join(self._arc(a, b, style, SLIGHTLY) for a, b in pairwise(path))
            arrows.append(svg.told(arcs, "\n".join(map(_worth, places))))
            names = plain_names(place.agent for place in places)
            said = f"{names[0]} +{len(names) - 1}" if len(names) > 2 else ", ".join(names)
            words = f"{svg.short(said, 26)}  Q {max(place.score for place in places):.3g}"
            at = self._on_arc(path[-2], path[-1], 0.35, SLIGHTLY)
            labels.append(svg.text(at, words, 12, GREEN, "middle", bold=True))
        return arrows, labels

    def _arc(self, source: str, destination: str, style: str, by: float) -> str:
        start, end = self._at[source], self._at[destination]
        bend = self._bend(start, end, by)
        return svg.curve(_towards(start, bend, NODE), bend, _towards(end, bend, NODE + 3), style)

    def _on_arc(self, source: str, destination: str, part: float, by: float) -> Point:
        start, end = self._at[source], self._at[destination]
        bend = self._bend(start, end, by)
        return svg.between(svg.between(start, bend, part), svg.between(bend, end, part), part)

    def _bend(self, start: Point, end: Point, by: float) -> Point:
        """Away from the middle, where users are; to the left where the way leads through it."""
        (x, y), dx, dy = svg.between(start, end, 0.5), end[0] - start[0], end[1] - start[1]
        outward = dy * (x - self._middle[0]) - dx * (y - self._middle[1])
        side = -by if outward < -1e-6 else by
        return x + side * dy, y - side * dx

    # Hosts

    def _nodes(self) -> Iterable[str]:
        for host in self._hosts:
            at = self._at[host.host]
            colour, state = _state(host)
            dashes = ' stroke-dasharray="4 3"' if state else ""
            ring = svg.circle(at, NODE, f'fill="#fff" stroke="{colour}" stroke-width="2.5"{dashes}')
            here = [agent for agent, place in self._explained.present.items() if place == host.host]
            goes = [agent for agent, place in self._explained.chosen.items() if place == host.host]
            if goes:
                ring = svg.circle(at, NODE + 4, f'fill="none" stroke="{GREEN}" stroke-width="2.5"') + ring
            if here:
                ring += svg.circle(at, NODE / 2, f'fill="{INK}"')
            yield svg.told(ring, "\n".join(self._about(host, state)))
            yield from self._label(host.host, at, colour if state else INK, svg.short(state, NAME + 4), here)

    def _label(self, host: str, at: Point, colour: str, state: str, here: Sequence[str]) -> Iterable[str]:
        lines = [(svg.short(host, NAME), 13.0, colour, True)]
        if state:
            lines.append((state, 10.0, colour, False))
        names = [svg.short(name, NAME) for name in plain_names(here)]
        lines += [(name, 11.0, INK, False) for name in (names if len(names) < 4 else [*names[:3], f"+{len(here) - 3}"])]
        sideways, down = (at[0] - self._middle[0]) / self._radius, (at[1] - self._middle[1]) / self._radius
        anchor = "middle" if abs(sideways) < (0.1 if self._crowded else 0.35) else "start" if sideways > 0 else "end"
        x = at[0] if anchor == "middle" else at[0] + math.copysign(NODE + 9, sideways)
        tall = 15.0 * len(lines)
        y = at[1] + 5 - (tall - 15) / 2 if anchor != "middle" else at[1] + (30 if down > 0 else 12 - NODE - tall)
        for number, (words, size, ink, bold) in enumerate(lines):
            yield svg.text((x, y + 15 * number), words, size, ink, anchor, bold)

    def _about(self, host: Host, state: str) -> Iterable[str]:
        yield host.host + (f": {state}" if state else "")
        yield host.verdict.reason
        if host.resources is not None:
            free = (
                f"{host.resources.cpu_free:.0%} of the processors, {host.resources.memory_free_part:.0%} of the memory"
            )
            yield f"free: {free}; experience {host.experience:.2f}, task weight {host.task_weight:g}"
        yield from (_worth(place) for place in self._explained.candidates if place.host == host.host)


def _state(host: Host) -> tuple[str, str]:
    """Its colour, and in a word what is wrong with it ("": nothing)."""
    if not host.verdict.trusted:
        return RED, "not trusted"
    if host.closed:
        return AMBER, host.closed
    if host.resources is None:
        return GREY, "no fresh advert"
    return BLUE, ""


def _worth(place: Candidate) -> str:
    where = " > ".join(place.path)
    return f"{plain(place.agent)}: {where}, Q {place.score:.4g}" + (f" ({place.note})" if place.note else "")


def _measured(rtt_ms: float, loss: float) -> str:
    return f"{rtt_ms:.1f} ms, loss {loss:.1%}"


def _towards(start: Point, end: Point, distance: float) -> Point:
    length = math.dist(start, end)
    return start if length == 0 else svg.between(start, end, min(1.0, distance / length))
