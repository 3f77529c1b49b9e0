"""How bad the safety phase of a life is; drawn anew for each seed: some mistakes only show in a lopsided world."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random

from ledger.certificate import COMMIT, PREPARE
from ledger.consensus.messages import Content, Vote

DECIDE = "decide"
KINDS = (PREPARE, COMMIT, "propose", "view-change", "new-view", "status", "fetch", "blocks", "relay")


def kind_of(content: Content) -> str:
    """One of KINDS."""
    return content.ballot.kind if isinstance(content, Vote) else str(content.__struct_config__.tag)


@dataclass(frozen=True)
class Faults:
    """Rates are a second; probabilities are for each message."""

    loss: float = 0.0  # probability
    lost: Mapping[str, float] = field(default_factory=dict)  # probability by kind of message, beside `loss`
    doubling: float = 0.0  # probability
    replays: float = 0.0  # probability that it comes again, seconds later, when its view may be long over
    delay: float = 0.01  # seconds, at most; one in twenty takes ten times that
    cuts: float = 0.0  # rate; see ledger.simulation.cuts
    crashes: float = 0.0  # rate, over all hosts
    deaths: Mapping[str, float] = field(default_factory=dict)  # probability by kind of message sent, and of DECIDE
    crowds: float = 0.0  # rate: f+1 hosts at once
    power_loss: float = 0.0  # rate: all hosts at once
    loops: float = 0.0  # rate: a host that dies again and again
    jumps: float = 0.0  # rate: a clock is set anew, up to half a second wrong
    view_timeout: float = 2.0  # seconds
    transactions: int = 30  # at most


def any_weather(random: Random) -> Faults:
    """A bit of everything, with the timers of production."""
    return Faults(
        loss=random.choice((0.0, 0.0, 0.02, 0.1, 0.3)),
        lost={random.choice(KINDS): random.choice((0.0, 0.3, 0.7))},
        doubling=random.choice((0.0, 0.1)),
        replays=random.choice((0.0, 0.0, 0.02)),
        delay=random.choice((0.01, 0.05, 0.3)),
        cuts=random.choice((0.0, 0.1, 0.5)),
        crashes=random.choice((0.0, 0.1, 0.5, 1.0)),
        deaths={random.choice((*KINDS, DECIDE)): random.choice((0.0, 0.1))},
        crowds=random.choice((0.0, 0.0, 0.1)),
        power_loss=random.choice((0.0, 0.0, 0.1)),
        loops=random.choice((0.0, 0.0, 0.1)),
        jumps=random.choice((0.0, 0.5)),
    )


def storm(random: Random) -> Faults:
    """View changes without end: timers are short, votes get through to some, and who decides likes to die."""
    return Faults(
        lost={PREPARE: random.choice((0.0, 0.3, 0.5)), COMMIT: random.choice((0.3, 0.5, 0.7))},
        delay=random.choice((0.01, 0.05)),
        cuts=random.choice((0.0, 0.3, 1.0)),
        crashes=random.choice((0.0, 0.0, 0.5)),
        deaths={DECIDE: random.choice((0.0, 0.3, 0.6)), COMMIT: random.choice((0.0, 0.0, 0.3))},
        view_timeout=random.choice((0.2, 0.4)),
        transactions=60,
    )


def brownouts(random: Random) -> Faults:
    """A storm in which hosts restart all the time."""
    return Faults(
        lost={PREPARE: random.choice((0.0, 0.3)), COMMIT: random.choice((0.3, 0.5, 0.7))},
        cuts=random.choice((0.0, 0.3)),
        crashes=random.choice((0.5, 1.0)),
        deaths={random.choice((PREPARE, COMMIT, DECIDE, "view-change")): random.choice((0.1, 0.3))},
        crowds=random.choice((0.1, 0.3)),
        power_loss=random.choice((0.0, 0.2)),
        view_timeout=random.choice((0.2, 0.4)),
        transactions=60,
    )


def squalls(random: Random) -> Faults:
    """One has prepared and is gone, the next one decides and is gone: several blocks are prepared for one height."""
    return Faults(
        lost={PREPARE: random.choice((0.3, 0.5)), COMMIT: random.choice((0.2, 0.4))},
        deaths={COMMIT: random.choice((0.1, 0.3)), DECIDE: random.choice((0.5, 0.9))},
        view_timeout=random.choice((0.1, 0.2)),
        transactions=100,
    )


WEATHERS: dict[str, Callable[[Random], Faults]] = {
    "any": any_weather,
    "storm": storm,
    "brownouts": brownouts,
    "squalls": squalls,
}
