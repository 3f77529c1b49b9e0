"""Shapes of a broken network. A link has a direction: a host may be heard that hears nobody."""

from collections.abc import Callable
from random import Random

Link = tuple[str, str]  # sender, receiver


def split(hosts: list[str], random: Random) -> frozenset[Link]:
    """Two sides that hear nothing of each other."""
    side = set(random.sample(hosts, random.randint(1, len(hosts) - 1)))
    return frozenset((one, other) for one in hosts for other in hosts if (one in side) != (other in side))


def deaf(hosts: list[str], random: Random) -> frozenset[Link]:
    """One hears nobody."""
    host = random.choice(hosts)
    return frozenset((other, host) for other in hosts)


def mute(hosts: list[str], random: Random) -> frozenset[Link]:
    """One is heard by nobody."""
    host = random.choice(hosts)
    return frozenset((host, other) for other in hosts)


def star(hosts: list[str], random: Random) -> frozenset[Link]:
    """All links are down but those of one host: maybe the primary, maybe the next one."""
    centre = random.choice(hosts[:2])
    return frozenset((one, other) for one in hosts for other in hosts if centre not in (one, other))


def holes(hosts: list[str], random: Random) -> frozenset[Link]:
    """Single links, in one direction each."""
    links = [(one, other) for one in hosts for other in hosts if one != other]
    return frozenset(random.sample(links, random.randint(1, len(links) // 2)))


SHAPES: tuple[Callable[[list[str], Random], frozenset[Link]], ...] = (split, split, deaf, mute, star, holes)
