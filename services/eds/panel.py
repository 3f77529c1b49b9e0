"""The words beside the picture of a decision: why, who goes where, why not elsewhere, and what the signs mean. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from services.eds import svg
from services.eds.explain import Explanation
from services.eds.offers import Candidate
from services.eds.svg import AMBER, BLUE, GREEN, GREY, INK, RED, VIOLET

PANEL = 460.0  # width, in the picture's units
MOST_LINES = 60  # lines
LETTERS = 66  # in a line
_HEX = re.compile(r"-[0-9a-f]{16}\b")  # at the end of every agent's id


def plain(text: str) -> str:
    """Without the 16 hex digits of agents' ids."""
    return _HEX.sub("", text)


def plain_names(agents: Iterable[str]) -> list[str]:
    return [plain(agent) for agent in agents]


def panel(explained: Explanation, remarks: Sequence[str], left: float) -> tuple[list[str], float]:
    """The parts, from `left` on, and how far down they go. `remarks`: what is to be said of the picture itself."""
    at = datetime.fromtimestamp(explained.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [(line, 15.0, INK, True) for line in svg.wrapped(explained.why, 48)[:4]]
    policy = f"policy {explained.policy.get('name', '?')}, group {', '.join(explained.groups)}"
    lines += [(line, 11.0, GREY, False) for line in (at, *svg.wrapped(policy, LETTERS)[:3])]
    for title, rows in _sections(explained, remarks):
        lines += [("", 6.0, INK, False), (title, 12.0, INK, True)]
        lines += [(row, 11.0, colour, False) for words, colour in rows for row in svg.wrapped(plain(words), LETTERS)]
    if len(lines) > MOST_LINES:
        more = f"{len(lines) - MOST_LINES + 1} lines more: agentplatform why tells all of it"
        lines = [*lines[: MOST_LINES - 1], (more, 11.0, GREY, False)]
    parts, y = [], 20.0
    for words, size, colour, bold in lines:
        y += size + 6
        parts.append(svg.text((left, y), words, size, colour, bold=bold))
    return parts + _legend(left, y + 30), y + 200


def _sections(explained: Explanation, remarks: Sequence[str]) -> Iterable[tuple[str, list[tuple[str, str]]]]:
    places = {(place.agent, place.host): place for place in explained.candidates}
    yield "Where they run", [_fate(explained, places, agent) for agent in explained.present]
    if explained.rejected:
        out: dict[tuple[str, str], list[str]] = {}
        for place in explained.rejected:
            out.setdefault((place.host, place.reason), []).append(place.agent)
        everybody = len(explained.present)
        rows = [
            (
                host + ("" if len(who) >= everybody else f", for {', '.join(plain_names(who))}") + f": {why}",
                RED,
            )
            for (host, why), who in out.items()
        ]
        yield "Out of the question", rows
    said = [explained.remark] if explained.remark else []
    if explained.follows:
        said.append(f"attempt {explained.attempt}: it follows decision {explained.follows}, whose plan failed")
    if explained.outcome is not None and explained.chosen != explained.present:
        said.append(f"what became of it: {explained.ending}")
    said += remarks
    if said:
        yield "Remarks", [(words, AMBER) for words in said]


def _fate(explained: Explanation, places: Mapping[tuple[str, str], Candidate], agent: str) -> tuple[str, str]:
    before, after = explained.present[agent], explained.chosen.get(agent, "")
    name = plain(agent)
    there, here = places.get((agent, after)), places.get((agent, before))
    if not after or before == after:
        return f"{name} stays on {before}" + (f" (Q {here.score:.3g})" if here else ""), INK
    by = f" by {', '.join(there.path[1:-1])}" if there and len(there.path) > 2 else ""
    worth = f" (Q {there.score:.3g}" + (f", staying {here.score:.3g})" if here else ")") if there else ""
    return f"{name} goes from {before} to {after}{by}{worth}", GREEN


def _legend(left: float, top: float) -> list[str]:
    """What the signs mean."""
    signs = (
        (svg.circle((left + 8, top), 4, f'fill="{INK}"'), "an agent is there (its name beside the host)"),
        (svg.circle((left + 8, top + 20), 7, f'fill="none" stroke="{GREEN}" stroke-width="2.5"'), "chosen"),
        (
            svg.line((left, top + 40), (left + 16, top + 40), f'stroke="{GREEN}" stroke-width="4"'),
            "the way that is taken",
        ),
        (
            svg.line((left, top + 60), (left + 16, top + 60), f'stroke="{BLUE}"'),
            "a candidate, with its Q (larger is better)",
        ),
        (svg.line((left, top + 80), (left + 16, top + 80), f'stroke="{GREY}"'), "a link, with its round-trip time"),
        (
            svg.line((left, top + 100), (left + 16, top + 100), f'stroke="{VIOLET}" stroke-dasharray="2 4"'),
            "what the user's access point measured",
        ),
        (
            svg.circle((left + 8, top + 122), 7, f'fill="none" stroke="{RED}" stroke-width="2" stroke-dasharray="4 3"'),
            "out of the question; rest the pointer on it",
        ),
    )
    return [
        sign + svg.text((left + 26, top + 4 + 20 * number), words, 11, GREY)
        for number, (sign, words) in enumerate(signs)
    ]
