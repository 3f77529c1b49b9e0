"""What an agent needs where it goes, by name, against what a host says that it has. Pure.

A need is a Python module or a device ("cv2", "gpu"), or an amount of what is free, in the units of
services.rms.resources.Minima ("memory>=1000000000", "cpu_cores>=0.5").
"""

from collections.abc import Iterable

import msgspec

from ledger.errors import Misuse
from services.rms.adverts import Advert
from services.rms.resources import Minima


def missing(needs: Iterable[str], advert: Advert) -> tuple[str, ...]:
    """What of it is missing there, in words; empty when nothing is. Raises Misuse for an amount of nothing known."""
    lacking: list[str] = []
    for need in needs:
        name, is_amount, amount = need.partition(">=")
        if is_amount:
            lacking += advert.resources.shortages(_minimum(name, amount))
        elif name not in advert.offers:
            lacking.append(name)
    return tuple(lacking)


def _minimum(name: str, amount: str) -> Minima:
    kinds = {field.name: type(field.default) for field in msgspec.structs.fields(Minima)}
    if name not in kinds:
        raise Misuse(f"nobody measures {name!r}; amounts are of {', '.join(kinds)}")
    try:
        return Minima(**{name: kinds[name](float(amount))})
    except ValueError as error:
        raise Misuse(f"{name}>={amount} is no amount: {error}") from None
