"""How much of a picture is delivered, and Falcon's policy for it. Pure.

Falcon, section 5.3: a user who comes to another edge node and may not stay gets the low resolution first, one who stays
long the high one, so that nobody waits for what is not used.
"""

from typing import Literal

from ledger.errors import Misuse

Quality = Literal["high", "medium", "low"]
Wish = Literal["high", "medium", "low", "auto"]

QUALITIES: tuple[Quality, ...] = ("high", "medium", "low")
DIVISOR: dict[Quality, int] = {"high": 1, "medium": 2, "low": 4}
"""Of both sides of a picture, where one medium serves all three."""

SHORT_STAY = 30.0
LONG_STAY = 300.0
"""Seconds. The paper names no numbers; a stay is short below the first, and long from the second on."""


def quality_for(expected: float | None, stayed: float) -> Quality:
    """By Falcon's policy: `expected` is how long the user will stay here, in seconds, None when nobody knows; `stayed`
    is how long that has lasted. Who stays longer than expected is believed by what he did."""
    stay = max(expected or 0.0, stayed)
    return "low" if stay < SHORT_STAY else "medium" if stay < LONG_STAY else "high"


def size_of(quality: Quality, width: int, height: int) -> tuple[int, int]:
    """Of one medium's picture in that quality: even numbers, as pictures with halved colours need, unless it is
    whole."""
    divisor = DIVISOR[quality]
    if divisor == 1:
        return width, height
    return max(2, width // divisor // 2 * 2), max(2, height // divisor // 2 * 2)


def checked_stay(seconds: float | None) -> float | None:
    """Raises Misuse for what is no length of time."""
    if seconds is not None and not 0 <= seconds < 1e9:
        raise Misuse(f"a stay lasts 0 seconds or more, or None for one of which nothing is known, not {seconds!r}")
    return seconds
