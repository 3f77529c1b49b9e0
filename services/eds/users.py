"""Where users are, by what their access points measured last, and who told of it. Pure."""

from collections import Counter

from services.eds.events import UserMoved
from services.eds.snapshot import Access

MAX_USERS = 10_000  # whose access is remembered; the one heard least lately is forgotten
MAX_FROM_ONE = 1_000  # users that one host told of last: it cannot make this host forget those that others tell of
MAX_MEASURED = 200_000  # numbers of their access, of one host's users: it cannot fill this one's memory


class Users:
    def __init__(self) -> None:
        self._access: dict[str, tuple[str, tuple[Access, ...]]] = {}  # user -> who told, and what was measured
        self._told: dict[str, dict[str, None]] = {}  # host -> users that it told of last, the oldest first
        self._measured: Counter[str] = Counter()  # host -> numbers that are remembered of its users

    def moved(self, event: UserMoved, teller: str) -> None:
        """`teller`: the host that tells; the newest word counts, whosever it is."""
        self._forget(event.user)
        self._access[event.user] = teller, event.access
        told = self._told.setdefault(teller, {})
        told[event.user] = None
        self._measured[teller] += len(event.access)
        while len(told) > MAX_FROM_ONE or self._measured[teller] > MAX_MEASURED:
            self._forget(next(iter(told)))
        if len(self._access) > MAX_USERS:
            self._forget(next(iter(self._access)))

    def access(self, user: str) -> tuple[Access, ...] | None:
        """None: it was not heard of, or long ago."""
        known = self._access.get(user)
        return None if known is None else known[1]

    def _forget(self, user: str) -> None:
        known = self._access.pop(user, None)
        if known is not None:
            teller, access = known
            told = self._told[teller]
            del told[user]
            self._measured[teller] -= len(access)
            if not told:
                del self._told[teller], self._measured[teller]
