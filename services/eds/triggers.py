"""When a measurement becomes an event: rows of data, as host.toml gives them, and the machine that holds measurements
against them. Pure: times are arguments, in seconds of any steady clock."""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ledger.errors import Misuse
from services.eds.events import AgentTold, Event, LinkChanged, Name, Overload

MAX_ROWS = 100
MAX_SUBJECTS = 10_000  # hosts, links or agents that one row has something to remember of
Subject = tuple[str, ...]  # (host,), (who measured, other end) or (agent,)
Make = Callable[[Subject, str, float, float], Event]  # subject, measure, value, seconds


def _link(subject: Subject, measure: str, value: float, seconds: float) -> Event:
    host, peer = subject
    return LinkChanged(host, peer, measure, value)  # type: ignore[arg-type]


def _short(subject: Subject, measure: str, value: float, seconds: float) -> Event:
    (host,) = subject
    return Overload(host, measure.removesuffix("_free"), round(seconds, 1))


def _told(subject: Subject, measure: str, value: float, seconds: float) -> Event:
    (agent,) = subject
    return AgentTold(agent, measure.removeprefix(TOLD), value)


TOLD = "told:"  # what agents tell themselves is measured as "told:" and their word for it
MEASURES: dict[str, Make] = {
    "rtt_ms": _link,  # milliseconds, of a link of this host
    "loss": _link,  # 0 to 1
    "bandwidth": _link,  # Mbit/s, where it was measured
    "cpu_free": _short,  # 0 to 1, of any host that is heard
    "memory_free": _short,  # 0 to 1
    "disk_free": _short,  # bytes
    "gpu_free": _short,  # 0 to 1, of a host that has one
}


class Trigger(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row. It fires once when the measurement has been `above`, or `below`, the threshold for `for` seconds, and
    can fire again when it has been back at `clear`, and `debounce` seconds have passed."""

    measure: str  # one of MEASURES, or "told:KIND" for what agents tell
    above: float | None = None  # exactly one of both
    below: float | None = None
    clear: float | None = None  # how far back it must come; left out: to the threshold
    lasting: float = msgspec.field(default=0.0, name="for")  # seconds
    debounce: float = 10.0  # seconds between two firings for one host, link or agent
    groups: Literal["there", "all"] | Annotated[tuple[Name, ...], msgspec.Meta(max_length=100)] = "there"
    """Who is decided about: all groups, those with an agent on that host (or of which that agent is), or these."""

    def __post_init__(self) -> None:
        told = self.measure.startswith(TOLD) and len(self.measure) > len(TOLD)
        if self.measure not in MEASURES and not told:
            raise ValueError(f"`measure` is {self.measure!r}; there are {', '.join(MEASURES)}, and {TOLD}KIND")
        if (self.above is None) == (self.below is None):
            raise ValueError(f"the trigger of {self.measure} needs either `above` or `below`")
        for name, value in (("above", self.above), ("below", self.below), ("clear", self.clear)):
            if value is not None and not math.isfinite(value):
                raise ValueError(f"`{name}` is {value}; it must be a finite number")
        for name, value in (("for", self.lasting), ("debounce", self.debounce)):
            if not 0.0 <= value <= 86_400.0:  # also true for NaN
                raise ValueError(f"`{name}` is {value}; it is 0 to 86400 seconds")
        if self.clear is not None and self._past(self.clear):
            raise ValueError(f"`clear` is {self.clear:g}, which is not on the other side of the threshold")

    @property
    def threshold(self) -> float:
        value = self.above if self.above is not None else self.below
        assert value is not None
        return value

    def holds(self, value: float, on: bool) -> bool:
        """Whether it is past the threshold; for one that was already (`on`), whether it is not back at `clear`."""
        if not on or self.clear is None:
            return self._past(value)
        return value > self.clear if self.above is not None else value < self.clear

    def _past(self, value: float) -> bool:
        return value > self.threshold if self.above is not None else value < self.threshold


DEFAULTS: tuple[dict[str, Any], ...] = (
    {"measure": "rtt_ms", "above": 150.0, "clear": 100.0, "for": 5.0, "debounce": 30.0},
    {"measure": "loss", "above": 0.1, "clear": 0.05, "for": 5.0, "debounce": 30.0},
    {"measure": "cpu_free", "below": 0.05, "clear": 0.2, "for": 5.0, "debounce": 60.0},
    {"measure": "memory_free", "below": 0.05, "clear": 0.1, "for": 5.0, "debounce": 60.0},
    {"measure": "disk_free", "below": 1e9, "clear": 2e9, "for": 5.0, "debounce": 60.0},
)


def read(rows: Sequence[Mapping[str, Any]]) -> tuple[Trigger, ...]:
    """Triggers from plain data, as TOML gives it. Raises Misuse naming the row, the key and what is allowed."""
    if len(rows) > MAX_ROWS:
        raise Misuse(f"decisions.triggers has {len(rows)} rows; at most {MAX_ROWS} are taken")
    known = [field.encode_name for field in msgspec.structs.fields(Trigger)]
    triggers = []
    for number, row in enumerate(rows, 1):
        try:
            triggers.append(msgspec.convert(row, Trigger))
        except msgspec.ValidationError as error:
            raise Misuse(f"decisions.triggers, row {number}: {error}; a row has {', '.join(known)}") from None
    return tuple(triggers)


class Fired(NamedTuple):
    event: Event
    trigger: Trigger
    subject: Subject


class _Episode(msgspec.Struct):
    """What a row remembers of one subject."""

    since: float | None = None  # it has been past the threshold
    told: bool = False  # and has fired since then
    fired: float = -math.inf  # when it fired last


class Triggers:
    def __init__(self, rows: Iterable[Trigger]) -> None:
        self._rows: dict[str, list[tuple[Trigger, dict[Subject, _Episode]]]] = {}
        for row in rows:
            self._rows.setdefault(row.measure, []).append((row, {}))
        self._now = -math.inf

    def __len__(self) -> int:
        """Subjects that something is remembered of."""
        return sum(len(episodes) for rows in self._rows.values() for _, episodes in rows)

    @property
    def told(self) -> list[str]:
        """The measures of what agents report."""
        return [measure for measure in self._rows if measure.startswith(TOLD)]

    def measured(self, measure: str, subject: Subject, value: float, now: float) -> list[Fired]:
        """One measurement. What is no number is no measurement, and a clock that goes back stands still."""
        if not math.isfinite(value) or not math.isfinite(now):
            return []
        now = self._now = max(self._now, now)
        return [
            Fired(self._event(measure, subject, value, seconds), row, subject)
            for row, episodes in self._rows.get(measure, ())
            if (seconds := self._step(row, episodes, subject, value, now)) is not None
        ]

    def keep(self, measures: Collection[str], subjects: Collection[Subject]) -> None:
        """Of these measures only these subjects are measured any more: what is remembered of others goes."""
        for measure in measures:
            for _, episodes in self._rows.get(measure, ()):
                for gone in episodes.keys() - subjects:
                    del episodes[gone]

    def _step(
        self, row: Trigger, episodes: dict[Subject, _Episode], subject: Subject, value: float, now: float
    ) -> float | None:
        """For how many seconds it has been past the threshold, if the row fires now."""
        episode = episodes.get(subject)
        if not row.holds(value, on=episode is not None and episode.since is not None):
            if episode is not None:
                episode.since, episode.told = None, False
                if now - episode.fired >= row.debounce:
                    del episodes[subject]
            return None
        if episode is None:
            if len(episodes) >= MAX_SUBJECTS:
                return None  # one of those that are known must end first
            episode = episodes[subject] = _Episode()
        if episode.since is None:
            episode.since = now
        if episode.told or now - episode.since < row.lasting or now - episode.fired < row.debounce:
            return None
        seconds = now - episode.since
        episode.told, episode.fired = True, now
        if row.measure.startswith(TOLD):  # an agent that reports again says that it is so again
            episode.since, episode.told = None, False
        return seconds

    def _event(self, measure: str, subject: Subject, value: float, seconds: float) -> Event:
        return MEASURES.get(measure, _told)(subject, measure, value, seconds)
