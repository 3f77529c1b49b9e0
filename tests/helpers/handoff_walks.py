"""Walks at random through what two hosts can do to one agent (tests.helpers.handoff_explorer), further than a search
comes: several hops, several crashes, two changes of custody. At the end nothing crashes, and all must come well."""

from random import Random
from typing import NamedTuple

from tests.helpers.handoff_explorer import Explorer
from tests.helpers.walk_histories import Scribe

STEPS = 120  # with crashes
PATIENCE = 2_000  # steps without, in which nothing may stay in doubt
TRANSFERS, CRASHES, CHANGES = 4, 3, 2


class Walk(NamedTuple):
    completed_hops: int
    violation: str | None
    trace: list[str]


def walk(explorer: Explorer, seed: int, scribe: Scribe | None = None) -> Walk:
    """One schedule, which `scribe` writes down. What is likely is drawn with the seed too: some networks are slow, some
    hosts crash early."""
    random = Random(seed)  # noqa: S311  a simulation must be repeatable
    state, hops, trace = explorer.start, 0, list[str]()
    calm, rare = random.choice((0.3, 1.0, 3.0)), random.choice((0.02, 0.1, 0.5))
    for step in range(STEPS + PATIENCE):
        working = step < STEPS
        if not working and explorer.is_well(state):
            return Walk(hops, None, trace)
        most = (TRANSFERS, CRASHES, CHANGES) if working else (0, 0, 0)
        choices = list(explorer.possible(state, *most))
        weights = [
            rare if stimulus[0] in ("crash", "give up") else calm if stimulus[0] == "deliver" else 3.0
            for _, stimulus in choices
        ]
        for where, stimulus in random.choices(choices, weights, k=5) if choices else ():
            try:
                taken = explorer.take(state, where, stimulus)
            except (LookupError, AssertionError) as error:  # a broken machine may break down
                return Walk(hops, f"{type(error).__name__}: {error}", trace)
            if taken is None:
                continue  # a repeat that changes nothing
            following, hopped = taken
            trace.append(explorer.tell(state, following, where, stimulus))
            if scribe is not None:
                scribe.saw(state, following, where, stimulus)
            state, hops = following, hops + hopped
            if (broken := explorer.broken(state)) is not None:
                return Walk(hops, broken, trace)
            break
    return Walk(hops, "the agent is lost, or in doubt for ever", trace)
