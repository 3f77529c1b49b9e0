"""What an agent keeps: `self.data`. Values by key, blobs by their hash, and snapshots of all of it. Pure.

It is a part of the agent's state, beside its attributes: it goes where the agent goes, and is written in the same
transaction as the message that put it there. What it costs follows what changes. Keys are spread over pages, and a
page, or a large value, is a piece of the state by itself that never changes: a put makes one new page, and the host
gets and writes that page and that value alone. A snapshot is the list of pages of its time, shared with the others.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from agentplatform.messages import PLAIN_DATA
from ledger import codec
from ledger.errors import Misuse, PeerFault
from services.dms.store import blob_digest

MAX_KEY_CHARACTERS = 256
MAX_VALUE_BYTES = 16 << 20  # of one value, encoded
MAX_ENTRIES = 10_000  # keys and blobs of one agent
MAX_DATA_BYTES = 64 << 20  # of one agent with its snapshots; a quarter of what held custody takes of a state
MAX_SNAPSHOTS = 100
KEPT_SNAPSHOTS = 10  # unless the agent says otherwise
LARGE_BYTES = 4096  # from here on a value is a piece by itself (parcel.state.IN_BAND_BYTES)
PAGES = 256  # that keys are spread over: states that travel are laid out so
BLOB = "\0blob/"  # begins the keys of blobs: no key of an agent does
Keys = list[str]


class Large:
    """One large value."""

    __slots__ = ("raw",)

    def __init__(self, raw: Any) -> None:
        self.raw = bytes(raw)


class Page:
    """Some of the entries as of one moment: small values as they are encoded, and large ones. Never changed."""

    __slots__ = ("_raw", "entries", "large")

    def __init__(self, entries: Mapping[str, bytes | Large]) -> None:
        self.entries = entries
        self.large = tuple(value for value in entries.values() if isinstance(value, Large))
        self._raw: bytes | None = None

    @property
    def small_bytes(self) -> int:
        """Of the keys, and of the values that lie in the page."""
        return sum(len(key) + (len(value) if isinstance(value, bytes) else 0) for key, value in self.entries.items())

    @property
    def raw(self) -> bytes:
        """The entries as bytes, where a large value is its place among those."""
        if self._raw is None:
            place = {id(value): number for number, value in enumerate(self.large)}
            self._raw = codec.encode({key: place.get(id(value), value) for key, value in self.entries.items()})
        return self._raw

    @classmethod
    def of(cls, raw: Any, large: tuple[Large, ...]) -> "Page":
        """That of these bytes, and of the large values in their places: which need not be those of the keys."""
        page = cls.__new__(cls)
        page._raw, page.large = bytes(raw), large
        entries = codec.decode(page._raw, dict[str, bytes | int])
        page.entries = {key: large[value] if isinstance(value, int) else value for key, value in entries.items()}
        return page


Pages = dict[int, Page]  # by number; those without entries are left out


class Snapshot(msgspec.Struct, frozen=True, array_like=True):
    """What a snapshot is, for its agent and its owner."""

    number: int  # from 1; never used again
    at: float  # seconds since 1970, by the clock of the host on which it was made
    note: str
    entries: int
    size: int  # bytes of its values


class Data:
    """`self.data` of one agent. What a handler puts is kept with the handler's own end (`Agent.checkpoint`)."""

    def __init__(self) -> None:
        self._pages: Pages = {}
        self._snapshots: dict[int, tuple[Snapshot, Pages]] = {}  # by number, the oldest first
        self._last = 0  # the highest number of a snapshot
        self._keep, self._seconds = KEPT_SNAPSHOTS, None
        self._spent = 0  # bytes, at least as many as there are: what is overwritten is counted until it matters
        self._touch: Callable[[], None] = lambda: None
        self._now: Callable[[], float] = lambda: 0.0

    _keep: int
    _seconds: float | None

    def live(self, touch: Callable[[], None], now: Callable[[], float]) -> None:
        """It belongs to an agent that runs: `touch` is told before each change, and refuses it by raising Misuse."""
        self._touch, self._now = touch, now

    def __reduce__(self) -> Any:
        return _data, (self._pages, self._snapshots, self._last, self._keep, self._seconds)

    @property
    def untouched(self) -> bool:
        """It is as a new one."""
        return not (self._pages or self._last) and (self._keep, self._seconds) == (KEPT_SNAPSHOTS, None)

    # Values by key

    def put(self, key: str, value: Any) -> None:
        """Keeps plain data under a key, in the place of what was there. What becomes of `value` afterwards changes
        nothing of what is kept. Raises Misuse for what no key or value can be, or when there is too much."""
        self.write({key: value})

    def get(self, key: str, default: Any = None) -> Any:
        """A copy of the value: tuples come back as lists."""
        _check_key(key)
        found = self._find(key)
        return default if found is None else codec.decode(found, object)

    def delete(self, key: str) -> bool:
        """Whether there was such a key."""
        there = key in self
        if there:
            self.write({}, [key])
        return there

    def write(self, values: Mapping[str, Any], delete: Iterable[str] = ()) -> None:
        """Many at once: all of it, or with Misuse nothing. A key that is in both is put."""
        entries = {_check_key(key): _encoded(value, f"the value of {key!r:.80}") for key, value in values.items()}
        self._change(entries, [_check_key(key) for key in delete])

    def list(self, prefix: str = "") -> Keys:
        """The keys that begin with `prefix`, sorted."""
        return sorted(key for key in self._keys() if key.startswith(prefix) and not key.startswith(BLOB))

    def size(self, key: str) -> int:
        """Bytes of its value; 0 when there is none."""
        return len(self._find(_check_key(key)) or b"")

    def __contains__(self, key: str) -> bool:
        return self._find(_check_key(key)) is not None

    def __len__(self) -> int:
        """The number of keys."""
        return len(self.list())

    # Blobs by hash

    def put_blob(self, blob: bytes) -> str:
        """Keeps bytes under their own hash, and returns that: 64 hexadecimal digits. The same bytes are kept once."""
        if not isinstance(blob, bytes | bytearray | memoryview):
            raise Misuse(f"a blob is bytes, not {blob!r:.80}")
        raw = _encoded(bytes(blob), "the blob")
        digest = blob_digest(blob).hex()
        if self._find(BLOB + digest) != raw:
            self._change({BLOB + digest: raw}, [])
        return digest

    def get_blob(self, digest: str) -> bytes | None:
        """None when it is not kept. Raises Misuse when what is kept is not that: its state came from another host."""
        found = self._find(BLOB + digest)
        if found is None:
            return None
        blob = codec.decode(found, bytes)
        if blob_digest(blob).hex() != digest:
            raise Misuse(f"the blob {digest:.64} was changed on a host where the agent was; put it again")
        return blob

    def delete_blob(self, digest: str) -> bool:
        """Whether there was such a blob."""
        there = self._find(BLOB + digest) is not None
        if there:
            self._change({}, [BLOB + digest])
        return there

    # Snapshots

    def snapshot(self, note: str = "") -> int:
        """Remembers all values and blobs as they are now, and returns the snapshot's number. Older ones go as
        `retention` says. A handler that must run again after a crash gets the same number."""
        if not isinstance(note, str) or len(note) > MAX_KEY_CHARACTERS or not (note.isprintable() or not note):
            raise Misuse(f"a snapshot's note is a text of at most {MAX_KEY_CHARACTERS} characters, not {note!r:.80}")
        self._spent = self._bytes(self._pages, 0)
        self._check_bytes(self._spent)
        self._touch()
        self._last += 1
        values = [value for page in self._pages.values() for value in page.entries.values()]
        size = sum(len(value if isinstance(value, bytes) else value.raw) for value in values)
        made = Snapshot(self._last, self._now(), note, len(values), size)
        self._snapshots[self._last] = made, dict(self._pages)
        self._retain()
        return self._last

    def snapshots(self) -> tuple[Snapshot, ...]:
        """All that are kept, the oldest first."""
        return tuple(snapshot for snapshot, _ in self._snapshots.values())

    def restore(self, number: int) -> None:
        """All values and blobs are as they were at that snapshot; the snapshots themselves stay. Raises Misuse."""
        pages = self._kept(number)
        self._touch()
        self._pages = dict(pages)

    def forget(self, number: int) -> None:
        """That snapshot goes. Raises Misuse when there is none."""
        self._kept(number)
        self._touch()
        del self._snapshots[number]

    def retention(self, keep: int = KEPT_SNAPSHOTS, seconds: float | None = None) -> None:
        """From now on the newest `keep` snapshots stay (at most MAX_SNAPSHOTS), and of these, when a further one is
        made, those that are not older than so many `seconds`. The newest always stays."""
        whole = isinstance(keep, int) and not isinstance(keep, bool) and 1 <= keep <= MAX_SNAPSHOTS
        timed = isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds > 0
        if not whole or not (timed or seconds is None):
            raise Misuse(
                f"1 to {MAX_SNAPSHOTS} snapshots are kept, for a number of seconds above 0 or for ever, "
                f"not {keep!r:.20} for {seconds!r:.20}"
            )
        self._touch()
        self._keep, self._seconds = keep, None if seconds is None else float(seconds)
        self._retain()

    # Within

    def _find(self, key: str) -> bytes | None:
        page = self._pages.get(_page_of(key))
        found = None if page is None else page.entries.get(key)
        return found.raw if isinstance(found, Large) else found

    def _keys(self) -> Iterator[str]:
        for page in self._pages.values():
            yield from page.entries

    def _change(self, entries: Mapping[str, bytes], gone: Iterable[str]) -> None:
        fresh: dict[int, dict[str, bytes | Large]] = {}

        def of(key: str) -> dict[str, bytes | Large]:
            number = _page_of(key)
            if number not in fresh:
                fresh[number] = dict(self._pages[number].entries) if number in self._pages else {}
            return fresh[number]

        for key in gone:
            of(key).pop(key, None)
        for key, raw in entries.items():
            of(key)[key] = raw if len(raw) < LARGE_BYTES else Large(raw)
        pages = {number: Page(each) for number, each in fresh.items()}
        after = {number: page for number, page in (self._pages | pages).items() if page.entries}
        large = sum(len(raw) for raw in entries.values() if len(raw) >= LARGE_BYTES)
        spent = self._bytes(after, large + sum(page.small_bytes for page in pages.values()))
        if entries:  # what only deletes is never refused
            _check_count(sum(len(page.entries) for page in after.values()))
            self._check_bytes(spent)
        self._touch()
        self._pages, self._spent = after, spent

    def _bytes(self, pages: Pages, more: int) -> int:
        """At least what there is with `more` bytes; exactly that, when it would be too much."""
        spent = self._spent + more
        return spent if spent <= MAX_DATA_BYTES else _bytes_of([pages, *(kept for _, kept in self._snapshots.values())])

    def _check_bytes(self, spent: int) -> None:
        if spent > MAX_DATA_BYTES:
            raise Misuse(
                f"self.data would have {spent} bytes with its {len(self._snapshots)} snapshots; at most "
                f"{MAX_DATA_BYTES} are kept: delete values, or forget snapshots"
            )

    def _kept(self, number: int) -> Pages:
        found = self._snapshots.get(number)
        if found is None:
            there = f"there are: {', '.join(map(str, self._snapshots))}" if self._snapshots else "none is kept"
            raise Misuse(f"there is no snapshot {number!r:.20}; {there}")
        return found[1]

    def _retain(self) -> None:
        now = self._now()
        for number, (made, _) in list(self._snapshots.items()):
            if number == self._last:
                break
            old = self._seconds is not None and made.at < now - self._seconds
            if old or len(self._snapshots) > self._keep:
                del self._snapshots[number]


def _data(
    pages: Pages, snapshots: dict[int, tuple[Snapshot, Pages]], last: int, keep: int, seconds: float | None
) -> Data:
    data = Data()
    data._pages, data._snapshots, data._last, data._keep, data._seconds = pages, snapshots, last, keep, seconds
    data._spent = _bytes_of([pages, *(kept for _, kept in snapshots.values())])
    return data


def _bytes_of(all_pages: "Iterable[Pages]") -> int:
    """Each page and each large value once, however many share it."""
    pages = {id(page): page for pages in all_pages for page in pages.values()}
    values = {id(value): value for page in pages.values() for value in page.entries.values()}
    large = sum(len(value.raw) for value in values.values() if isinstance(value, Large))
    return large + sum(page.small_bytes for page in pages.values())


def _page_of(key: str) -> int:
    return zlib.crc32(key.encode()) % PAGES


def _check_key(key: str) -> str:
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARACTERS or not key.isprintable():
        raise Misuse(f"a key is a text of 1 to {MAX_KEY_CHARACTERS} printable characters, not {key!r:.80}")
    return key


def _check_count(entries: int) -> None:
    if entries > MAX_ENTRIES:
        raise Misuse(f"an agent keeps at most {MAX_ENTRIES} keys and blobs; delete some, or put several in one value")


def _encoded(value: Any, what: str) -> bytes:
    try:
        raw = codec.encode(value)
        if not isinstance(value, bytes | str):
            codec.decode(raw, object)  # a key of a dictionary may be what none can be when it is read
    except (TypeError, ValueError, OverflowError, RecursionError, PeerFault) as error:
        raise Misuse(f"{what} must be {PLAIN_DATA}: {error}") from None
    if len(raw) > MAX_VALUE_BYTES:
        raise Misuse(f"{what} has {len(raw)} bytes; at most {MAX_VALUE_BYTES} are kept as one")
    return raw
