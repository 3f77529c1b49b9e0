"""How decisions look to people: what was decided, what each place was worth, and why not the others."""

from collections.abc import Iterable, Sequence

import msgspec
from rich.console import Console
from rich.text import Text

from agentplatform.console.render import Row, at, blocked, say, show, table, visible
from services.eds.explain import Explanation
from services.eds.panel import plain

MOST_PLACES = 30  # of one agent that are shown; --json has all
MOST_ALIKE = 20  # agents that are told of in a line each
MOST_DIFFERENCES = 40  # rows of what changes make of a decision


def why(console: Console, rows: list[Row]) -> None:
    if not rows:
        say(console, "it waits for nobody, and nothing was decided about it on the hosts that were asked")
        say(console, "where it went by its own wish, or its owner's, is in its log: agentplatform logs")
    for row in rows:
        if "waits_for" in row:
            blocked(console, row)
        elif "file" in row:
            _file(console, row)
        else:
            decision(console, msgspec.convert(row, Explanation), row.get("asked"))


def decided(console: Console, data: Row) -> None:
    """A decision that moves nothing, and what is not as it was."""
    decision(console, msgspec.convert(data["decision"], Explanation), ending=False)
    if data["changed"]:
        rows = [(plain(row["agent"]), row["what"], row["before"], row["after"]) for row in data["differs"]]
        if rows:
            columns = ("agent", "what", "before", "after")
            show(console, table("What your changes make of it", columns, rows[:MOST_DIFFERENCES]))
        if len(rows) > MOST_DIFFERENCES:
            say(console, f"and {len(rows) - MOST_DIFFERENCES} rows more; --json tells of all")
        if all(row["what"] != "host" for row in data["differs"]):
            say(console, "your changes move nobody")
    for remark in data["remarks"]:
        say(console, remark)
    for each in data["files"]:
        _file(console, each)


def _file(console: Console, row: Row) -> None:
    say(console, f"{row['what']}: {row['file']}")


def decision(console: Console, explained: Explanation, only: str | None = None, *, ending: bool = True) -> None:
    """Everything that it rested on. `only`: the places of one agent; of the others what was decided alone. `ending`:
    what became of it, too."""
    console.print(Text(f"{at(explained.at)}  {visible(plain(explained.why))}", style="bold"))
    if explained.follows:
        say(console, f"attempt {explained.attempt}: it follows decision {explained.follows}, whose plan failed")
    places: dict[str, list[tuple[str, ...]]] = {agent: [] for agent in explained.present}
    for agent, *row in explained.rows():
        places.setdefault(agent, []).append(tuple(row))
    alike: dict[tuple[tuple[str, ...], ...], list[str]] = {}  # those to whom all places are worth the same
    for agent in sorted(explained.present, key=lambda agent: (agent != only, agent)):
        alike.setdefault(tuple(places[agent]) if only in (None, agent) else (), []).append(agent)
    for rows, some in alike.items():
        for agent in some[:MOST_ALIKE]:
            say(console, fate(explained, agent))
        if len(some) > MOST_ALIKE:
            say(console, f"and {len(some) - MOST_ALIKE} agents more; --json tells of all")
        _places(console, explained.columns[1:-1], rows)
    _reading(console, explained)
    for user, access in explained.inputs.get("access", {}).items():
        near = sorted(access, key=lambda each: (each["rtt_ms"], each["host"]))
        links = "; ".join(f"{a['host']} {a['rtt_ms']:.1f} ms, loss {a['loss']:.1%} ({a['source']})" for a in near)
        say(console, f"the access point of {user} measured {links}")
    if explained.remark:
        say(console, plain(explained.remark))
    if explained.chosen != explained.present and ending:
        say(console, f"what became of it: {plain(explained.ending)}")


def fate(explained: Explanation, agent: str) -> str:
    """What was decided about one agent."""
    before, after = explained.present[agent], explained.chosen.get(agent)
    if after in (None, before):
        return f"{plain(agent)} stays on {before}"
    return f"{plain(agent)} goes from {before} to {after}"


def _places(console: Console, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    shown = rows[:MOST_PLACES]
    # A rejection has no numbers, and its reason is too long for a column.
    worth = [row[:-1] for row in shown if row[1] != "rejected"]
    if worth:
        show(console, table("", columns, map(_marked, worth)))
    for host, decided, *_, remark in shown:
        if remark:
            say(console, f"{'not ' if decided == 'rejected' else ''}{host}: {plain(remark)}")
    if len(rows) > len(shown):
        say(console, f"and {len(rows) - len(shown)} places more; --json tells of all")


def _marked(row: Iterable[str]) -> Iterable[object]:
    host, decided, *numbers = row
    colour = {"goes": "green", "stays": "green", "leaves": "yellow"}.get(decided, "")
    return (host, Text(decided, style=colour), *numbers)


def _reading(console: Console, explained: Explanation) -> None:
    """What the numbers are, for who sees them the first time."""
    weights = explained.weights()
    largest = sorted(weights.items(), key=lambda each: (-each[1], each[0]))  # the store keeps no order
    parts = ", ".join(f"{name} {weight:g}" for name, weight in largest if weight)
    name = explained.policy.get("name", "?")
    said = f"Q is what a place is worth to the agent by the policy {name}, larger is better"
    groups = f"decided together: {', '.join(explained.groups)}"
    say(console, f"{said}" + (f"; it weighs {parts}, each from 0 to 1" if parts else "") + f"; {groups}")
