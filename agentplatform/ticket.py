"""A ticket says where an agent wants to go, and on what terms. Plain data; pure.

agent.dispatch(Ticket("east", deadline=5.0, retries=3, needs=("cv2", "gpu")))
"""

import re
from typing import Self

import msgspec

from ledger.errors import Misuse

MAX_HOST = 256  # characters
MAX_RETRIES = 100
MAX_NEEDS = 64
MAX_DEADLINE = 7 * 24 * 3600.0  # seconds: who wants to wait longer than a week asks again
_NEED = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}(?:>=[0-9]+(?:\.[0-9]+)?)?")


class Ticket(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Raises ValueError for terms that nobody can keep."""

    host: str
    """The destination, by its name."""

    deadline: float | None = None
    """Seconds from the wish: the agent that has not left by then stays, and hears it in `on_move_failed`. None: the
    host's own deadline for each try."""

    retries: int = 0
    """How often it is tried again, after growing pauses, when the destination could not take the agent just then. A
    refusal is final, whoever gave it."""

    needs: tuple[str, ...] = ()
    """What the destination must advertise: a Python module or a device by its name ("cv2", "gpu"), or an amount
    ("cpu>=0.5", "memory>=1000000000"). Asked for before the agent is stopped."""

    def __post_init__(self) -> None:
        if not isinstance(self.host, str) or not 1 <= len(self.host) <= MAX_HOST:
            raise ValueError(f"a ticket names a host, in 1 to {MAX_HOST} characters")
        if self.deadline is not None and not (_is_number(self.deadline) and 0 < self.deadline <= MAX_DEADLINE):
            most = f"{MAX_DEADLINE:.0f} seconds"
            raise ValueError(f"a ticket's deadline is above 0 and at most {most}, not {self.deadline!r:.60}")
        if not isinstance(self.retries, int) or not 0 <= self.retries <= MAX_RETRIES:
            raise ValueError(f"a ticket allows 0 to {MAX_RETRIES} retries, not {self.retries!r:.60}")
        if not isinstance(self.needs, tuple | list):
            raise ValueError(f"a ticket's needs are a tuple of texts, such as ('gpu',), not {self.needs!r:.60}")
        if len(self.needs) > MAX_NEEDS:
            raise ValueError(f"a ticket has at most {MAX_NEEDS} needs, not {len(self.needs)}")
        for need in self.needs:
            if not isinstance(need, str) or _NEED.fullmatch(need) is None:
                raise ValueError(f"{need!r:.80} is no need: give a name (cv2), or an amount (memory>=1000000000)")

    @property
    def terms(self) -> bool:
        """Whether it says more than where to."""
        return self.deadline is not None or self.retries > 0 or bool(self.needs)

    @classmethod
    def to(cls, where: "str | Ticket") -> Self:
        """What an agent gave to `dispatch`, as a ticket. Raises Misuse for what is neither."""
        if not isinstance(where, str | Ticket):
            raise Misuse(f"an agent goes to a host, by its name or with a Ticket; {where!r:.60} is neither")
        try:
            return cls(where) if isinstance(where, str) else msgspec.convert(msgspec.to_builtins(where), cls)
        except (ValueError, TypeError) as error:  # a Ticket's fields may hold anything
            raise Misuse(f"that is no ticket: {error}") from None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
