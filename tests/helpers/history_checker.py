"""Judges histories (docs/custody-tests.md). It knows their lines and nothing of the code that wrote them.

A line of `running` opens a stay of an agent in a process; `frozen` closes it, and so does the next life of its host, or
the driver's word that the host was killed. Nothing runs on a host that the driver has stopped: a stay that another one
followed meanwhile is over, and its process may say so when it wakes, if nothing of it acts. Everything is compared by
`t`, which all processes of a machine share.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

# rule -> what a violation of it means, in the words of the chaos driver's result
RULES = {
    "two copies run": "duplicated",
    "one epoch on two hosts": "duplicated",
    "an old copy runs": "duplicated",
    "an old copy acts": "duplicated",
    "it runs after its departure was committed": "duplicated",
    "it ran while its departure was committed": "duplicated",
    "a notice before its commit": "duplicated",
    "it runs without a notice": "duplicated",
    "lost": "lost",
    "acknowledged, not handled": "messages_lost",
    "acknowledged before it was handled": "messages_lost",
    "handled out of order": "messages_lost",
    "handled twice": "messages_doubled",
    "an effect twice": "messages_doubled",
}


@dataclass(frozen=True, eq=False)
class Line:
    where: str  # file and number
    data: dict[str, Any]

    @property
    def t(self) -> float:
        return float(self.data["t"])

    @property
    def event(self) -> str:
        return str(self.data["event"])

    @property
    def host(self) -> str:
        return str(self.data["host"])

    def __getitem__(self, field: str) -> Any:
        return self.data[field]

    def __str__(self) -> str:
        return f"{self.where}: {json.dumps(self.data)}"


@dataclass(frozen=True)
class Violation:
    rule: str
    what: str
    lines: tuple[Line, ...]

    def __str__(self) -> str:
        return "\n".join([f"{self.rule}: {self.what}", *(f"    {line}" for line in self.lines)])


@dataclass(eq=False)
class Stay:
    """A time in which a copy of an agent ran in one process."""

    begin: Line
    end: float = inf
    frozen: Line | None = None

    @property
    def epoch(self) -> int:
        return int(self.begin["epoch"])


class Malformed(Exception):
    """A file that is no history."""


def read(folder: Path) -> list[Line]:
    """All lines of `*.jsonl`, by time. The last line of a file may be cut: its writer was killed. Raises Malformed."""
    lines = []
    for file in sorted(folder.glob("*.jsonl")):
        for number, text in enumerate(file.read_text().splitlines(keepends=True), 1):
            where = f"{file.name}:{number}"
            if not text.endswith("\n"):
                break
            try:
                line = Line(where, json.loads(text))
                assert line.t >= 0 and line.event and line.host and line["incarnation"] >= 0
            except (ValueError, KeyError, TypeError, AssertionError) as error:
                raise Malformed(f"{where} is no line of a history: {error!r}") from None
            lines.append(line)
    return sorted(lines, key=lambda line: line.t)


def check(lines: Iterable[Line], at_rest: bool = True) -> list[Violation]:
    """What is wrong, in a history that is sorted by time. `at_rest`: at its end all hosts ran and nothing was under
    way, so that every agent must be at home somewhere."""
    lines = list(lines)
    lives = _lives(lines)
    by_agent: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        if "agent" in line.data:
            by_agent[line["agent"]].append(line)
    violations = []
    for agent, its in by_agent.items():
        stays = _stays(its, lives)
        _overtake(stays, lives)
        violations += _old_copies(agent, its)
        violations += _one_copy(agent, stays)
        violations += _one_host_each_epoch(agent, its)
        violations += _epochs_rise(agent, stays)
        violations += _commits(agent, its, stays)
        violations += _notices(agent, its)
        if at_rest:
            violations += _at_home(agent, its, stays, lives)
    return [*violations, *_messages(lines), *_effects(lines)]


def summary(violations: Iterable[Violation]) -> dict[str, int]:
    counts = Counter(RULES[each.rule] for each in violations)
    return {name: counts[name] for name in ("lost", "duplicated", "messages_lost", "messages_doubled")}


# Stays


@dataclass
class Lives:
    """When each life of a host ended, as far as the lines show it."""

    ends: dict[tuple[str, int], float]
    last: dict[str, int]  # host -> its last incarnation
    stops: list[tuple[str, float, float]]  # host, and from when to when nothing of it ran

    def end(self, line: Line) -> float:
        return self.ends.get((line.host, line["incarnation"]), inf)

    def running(self, line: Line) -> bool:
        """Whether the life that wrote `line` went on to the end of the history."""
        return self.end(line) == inf


def _lives(lines: list[Line]) -> Lives:
    ends: dict[tuple[str, int], float] = {}
    last: dict[str, int] = {}
    stopped: dict[str, float] = {}
    stops = []
    for line in lines:
        if line.event == "fault":
            if line.data.get("fault") == "stop":
                stopped[line["on"]] = line.t
            elif line.data.get("fault") == "wake" and line.data.get("on") in stopped:
                stops.append((line["on"], stopped.pop(line["on"]), line.t))
            if line.data.get("fault") == "kill" and line.data.get("on") in last:
                ends.setdefault((line["on"], last[line["on"]]), line.t)
            continue
        before, now = last.get(line.host), line["incarnation"]
        if before is None or now > before:
            last[line.host] = now
            if before is not None:
                ends.setdefault((line.host, before), line.t)
    stops += [(host, since, inf) for host, since in stopped.items()]
    return Lives(ends, last, stops)


def _stays(its: list[Line], lives: Lives) -> list[Stay]:
    stays: list[Stay] = []
    here: dict[str, Stay] = {}  # file -> the one that is open in its process
    for line in its:
        process = line.where.rpartition(":")[0]
        if line.event == "running":
            here[process] = Stay(line, lives.end(line))
            stays.append(here[process])
        elif line.event == "frozen":
            for other in _closed(line, process, here):
                stay = here.pop(other)
                stay.end, stay.frozen = min(stay.end, line.t), line
    return stays


def _closed(line: Line, process: str, here: dict[str, Stay]) -> list[str]:
    """A process speaks for itself; one that never ran the agent, for those of its host that ended without a word."""
    if process in here:
        return [process]
    return [other for other, stay in here.items() if stay.begin.host == line.host]


def _overtake(stays: list[Stay], lives: Lives) -> None:
    """Ends those in which the host was stopped when the next one began, if they are over since."""
    for number, stay in enumerate(stays):
        for host, since, until in lives.stops:
            followed = any(since < later.begin.t < until for later in stays[number + 1 :])
            if stay.begin.host == host and stay.begin.t < since < stay.end < inf and followed:
                stay.end = since


def _old_copies(agent: str, its: list[Line]) -> Iterator[Violation]:
    for line in its:
        if line.event == "fault" and line["fault"] == "refused":  # by the receiver of effects
            yield Violation("an old copy acts", f"{agent} of epoch {line['epoch']}", (line,))


def _one_copy(agent: str, stays: list[Stay]) -> Iterator[Violation]:
    open_: list[Stay] = []
    for stay in stays:
        open_ = [earlier for earlier in open_ if stay.begin.t < earlier.end]
        for earlier in open_:
            ends = () if earlier.frozen is None else (earlier.frozen,)
            where = f"{earlier.begin.host} and {stay.begin.host}"
            yield Violation("two copies run", f"{agent} on {where} at once", (earlier.begin, stay.begin, *ends))
        open_.append(stay)


def _one_host_each_epoch(agent: str, its: list[Line]) -> Iterator[Violation]:
    first: dict[int, Line] = {}
    told = set()
    for line in its:
        if line.event in ("running", "active"):
            before = first.setdefault(line["epoch"], line)
            if before.host != line.host and (line["epoch"], line.host) not in told:
                told.add((line["epoch"], line.host))
                what = f"epoch {line['epoch']} of {agent} on {before.host} and {line.host}"
                yield Violation("one epoch on two hosts", what, (before, line))


def _epochs_rise(agent: str, stays: list[Stay]) -> Iterator[Violation]:
    highest: Stay | None = None
    for stay in stays:
        if highest is None or stay.epoch >= highest.epoch:
            highest = stay
        else:
            what = f"{agent} of epoch {stay.epoch} after epoch {highest.epoch}"
            yield Violation("an old copy runs", what, (highest.begin, stay.begin))


# The handoff


def _commits(agent: str, its: list[Line], stays: list[Stay]) -> Iterator[Violation]:
    """From its commit on the source's copy never runs again."""
    first: dict[int, Line] = {}
    for line in its:
        if line.event == "commit":
            first.setdefault(line["epoch"], line)
    for stay in stays:
        later = [line for epoch, line in first.items() if epoch > stay.epoch]
        if (commit := next((line for line in later if line.t <= stay.begin.t), None)) is not None:
            what = f"{agent} of epoch {stay.epoch}"
            yield Violation("it runs after its departure was committed", what, (commit, stay.begin))
        elif (commit := next((line for line in later if stay.begin.t < line.t < stay.end), None)) is not None:
            what = f"{agent} of epoch {stay.epoch}"
            yield Violation("it ran while its departure was committed", what, (stay.begin, commit))


def _notices(agent: str, its: list[Line]) -> Iterator[Violation]:
    """Only a destination that had a notice runs an agent, and there is none before the commit is durable."""
    from_birth = any(line.event in ("running", "active") and line["epoch"] == 0 for line in its)
    held = any(line.data.get("custody") == "held" for line in its)
    if not from_birth or held:  # where the beginning was not seen, or the ledger gives the word
        return
    committed, noticed, told = set(), {0}, set()
    for line in its:
        if line.event == "commit":
            committed.add(line["transfer"])
        elif line.event == "notice":
            noticed.add(line["epoch"])
            if line["transfer"] not in committed and line["transfer"] not in told:
                told.add(line["transfer"])
                yield Violation("a notice before its commit", f"{agent}, epoch {line['epoch']}", (line,))
        elif line.event in ("declared", "confirmed"):  # by all other hosts: no source will give notice
            noticed.add(line["epoch"])
        elif line.event in ("running", "active") and line["epoch"] not in noticed:
            noticed.add(line["epoch"])
            yield Violation("it runs without a notice", f"{agent}, epoch {line['epoch']}", (line,))


def _at_home(agent: str, its: list[Line], stays: list[Stay], lives: Lives) -> Iterator[Violation]:
    if not any(line.event == "active" for line in its):
        return  # its creation was never confirmed
    ended = any(line.event == "frozen" and line.data.get("ended") for line in its)
    if not ended and not any(stay.frozen is None and lives.running(stay.begin) for stay in stays):
        yield Violation("lost", f"{agent} runs nowhere at the end", tuple(its[-3:]))


# Messages and effects


def _messages(lines: list[Line]) -> Iterator[Violation]:
    handled: dict[tuple[str, str, int], Line] = {}
    newest: dict[tuple[str, str], Line] = {}
    acked: dict[tuple[str, str, int], Line] = {}
    for line in lines:
        if line.event not in ("handled", "acked"):
            continue
        pair = line["sender"], line["receiver"]
        key = *pair, line["sequence"]
        what = f"message {line['sequence']} from {pair[0]} to {pair[1]}"
        if line.event == "acked":
            acked.setdefault(key, line)
        elif key in handled:
            yield Violation("handled twice", what, (handled[key], line))
        else:
            handled[key] = line
            if pair in newest and newest[pair]["sequence"] > line["sequence"]:
                yield Violation("handled out of order", what, (newest[pair], line))
            else:
                newest[pair] = line
    for key, line in acked.items():
        what = f"message {key[2]} from {key[0]} to {key[1]}"
        if key not in handled:
            yield Violation("acknowledged, not handled", what, (line,))
        elif handled[key].t > line.t:
            yield Violation("acknowledged before it was handled", what, (line, handled[key]))


def _effects(lines: list[Line]) -> Iterator[Violation]:
    first: dict[Any, Line] = {}
    for line in lines:
        if line.event == "effect" and first.setdefault(line["effect"], line) is not line:
            yield Violation("an effect twice", str(line["effect"]), (first[line["effect"]], line))
