"""What an agent needs where it goes, by name, against what a host says that it has. Pure.

A need is a Python module or a device ("cv2", "gpu"), or an amount of what is free, in the units of
services.rms.resources.Minima ("memory>=1000000000", "cpu_cores>=0.5").
"""

from collections.abc import Iterable, Sequence

import msgspec

from ledger.errors import Misuse
from services.rms.adverts import Advert
from services.rms.resources import Minima, Needs, Resources


def absent(needs: Iterable[Needs], has: Iterable[str]) -> tuple[str, ...]:
    """The modules and devices that are not among `has`, in words."""
    return tuple(f"no {name}" for name in sorted({name for each in needs for name in each.has}.difference(has)))


def lacking(needs: Sequence[Needs], has: frozenset[str], left: Resources) -> tuple[str, ...]:
    """What is missing for agents together where `has` is there and `left` is free, in words; empty when nothing is."""
    total = sum((each.least for each in needs), Minima())
    return (*absent(needs, has), *left.shortages(total))


def missing(needs: Iterable[str], advert: Advert) -> tuple[str, ...]:
    """What of it is missing there, in words; empty when nothing is. Raises Misuse for an amount of nothing known."""
    short: list[str] = []
    for need in needs:
        name, is_amount, amount = need.partition(">=")
        if is_amount:
            short += advert.resources.shortages(_minimum(name, amount))
        elif name not in advert.offers:
            short.append(name)
    return tuple(short)


def _minimum(name: str, amount: str) -> Minima:
    kinds = {field.name: type(field.default) for field in msgspec.structs.fields(Minima)}
    if name not in kinds:
        raise Misuse(f"nobody measures {name!r}; amounts are of {', '.join(kinds)}")
    try:
        return Minima(**{name: kinds[name](float(amount))})
    except ValueError as error:
        raise Misuse(f"{name}>={amount} is no amount: {error}") from None
