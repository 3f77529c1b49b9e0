"""Where users are, by what their access points measured last, and who told of it. Pure."""

from services.eds.events import UserMoved
from services.eds.snapshot import Access

MAX_USERS = 10_000  # whose access is remembered; the one heard least lately is forgotten
MAX_FROM_ONE = 1_000  # users that one host told of last: it cannot make this host forget those that others tell of


class Users:
    def __init__(self) -> None:
        self._access: dict[str, tuple[str, tuple[Access, ...]]] = {}  # user -> who told, and what was measured
        self._told: dict[str, dict[str, None]] = {}  # host -> users that it told of last, the oldest first

    def moved(self, event: UserMoved, teller: str) -> None:
        """`teller`: the host that tells; the newest word counts, whosever it is."""
        self._forget(event.user)
        self._access[event.user] = teller, event.access
        told = self._told.setdefault(teller, {})
        told[event.user] = None
        if len(told) > MAX_FROM_ONE:
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
            told = self._told[known[0]]
            del told[user]
            if not told:
                del self._told[known[0]]
