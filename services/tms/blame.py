"""What other hosts did wrong towards this one: counted by kind, the newest kept with time and reason. Pure.

It counts only what a link's authenticated sender did itself, so no host can have another blamed. What is kept of one
host is bounded, whatever that host sends. It is this host's own book: proof for others is on the ledger
(ledger.contracts.records).
"""

from collections import deque

import msgspec

MAX_NEWEST = 20  # faults kept of each host
MAX_KINDS = 16  # channels that faults come by; there are fewer
MAX_REASON = 240  # characters
SUSPECT_AFTER = 10  # faults of one host within WINDOW: more than a race or a restart makes
WINDOW = 60.0  # seconds
QUIET = 600.0  # seconds for which a host that is suspected is not told of again


class Fault(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    kind: str  # the channel: "handoff", "mail", "ledger"
    reason: str
    first: float  # seconds since 1970
    last: float
    times: int  # in a row


class Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """All that is kept of one host."""

    host: str
    kinds: dict[str, int]  # how many there were ever, by kind
    newest: tuple[Fault, ...]  # the newest first
    suspected: float | None = None  # when it last was, in seconds since 1970

    @property
    def total(self) -> int:
        return sum(self.kinds.values())


class Book:
    def __init__(self, records: tuple[Record, ...] = ()) -> None:
        self._records = {record.host: record for record in records}
        self._times: dict[str, deque[float]] = {}  # host -> when its last SUSPECT_AFTER faults were
        self._fresh: set[str] = set()

    def add(self, host: str, kind: str, reason: str, now: float) -> str | None:
        """A fault of `host`. Why it is to be suspected, when this one was one too many; not again for QUIET seconds.

        `now` in seconds since 1970.
        """
        record = self._records.get(host) or Record(host, {}, ())
        kinds = record.kinds
        if kind in kinds or len(kinds) < MAX_KINDS:
            kinds = kinds | {kind: kinds.get(kind, 0) + 1}
        short = reason[:MAX_REASON]
        newest = record.newest
        if newest and (newest[0].kind, newest[0].reason) == (kind, short):
            same = newest[0]
            newest = (Fault(kind, short, same.first, now, same.times + 1), *newest[1:])
        else:
            newest = (Fault(kind, short, now, now, 1), *newest)[:MAX_NEWEST]
        why = self._too_many(host, now, record.suspected)
        self._records[host] = Record(host, kinds, newest, record.suspected if why is None else now)
        self._fresh.add(host)
        return None if why is None else f"{why}, the last by {kind}: {short}"

    def _too_many(self, host: str, now: float, suspected: float | None) -> str | None:
        times = self._times.setdefault(host, deque(maxlen=SUSPECT_AFTER))
        times.append(now)
        quiet = suspected is not None and 0 <= now - suspected < QUIET
        if quiet or len(times) < SUSPECT_AFTER or now - times[0] > WINDOW:
            return None
        return f"{SUSPECT_AFTER} faults within {now - times[0]:.0f} s"

    def records(self) -> list[Record]:
        """Of all hosts, those with the newest faults first."""
        return sorted(self._records.values(), key=lambda record: -record.newest[0].last)

    def fresh(self) -> list[Record]:
        """Those that have changed since this was asked last."""
        fresh, self._fresh = [self._records[host] for host in sorted(self._fresh)], set()
        return fresh

    def again(self, records: list[Record]) -> None:
        """These could not be written: they are fresh still."""
        self._fresh |= {record.host for record in records}
