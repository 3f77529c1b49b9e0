"""When held agents run, stop and act, by a clock that counts suspended time: docs/custody.md, "Held custody"."""

from collections.abc import Iterator
from itertools import product

import pytest

from agentplatform.custody.lease import MARGIN, Freeze, Run, Watch

LEASE = 4.0


def test_agents_run_from_the_first_lease_to_just_before_its_end() -> None:
    watch = Watch()
    assert watch.look(None, 0.0) == [] and not watch.may_leave(0.0)
    assert watch.look(10.0, 1.0) == [Run(10.0 - MARGIN)]
    assert watch.look(10.0, 2.0) == [] and watch.may_leave(2.0)
    assert watch.look(12.0, 3.0) == [Run(12.0 - MARGIN)]  # renewed
    assert watch.look(None, 12.0 - MARGIN) == [Freeze()]
    assert not watch.may_leave(12.0 - MARGIN)
    assert watch.look(None, 20.0) == []
    assert watch.look(30.0, 21.0) == [Run(30.0 - MARGIN)] and watch.may_leave(21.0)


def test_nothing_leaves_after_a_suspension_that_outlived_the_lease() -> None:
    """No look came between: the timers stood still."""
    watch = Watch()
    watch.look(10.0, 1.0)
    assert watch.may_leave(9.9) and not watch.may_leave(10.0) and not watch.may_leave(1e9)


def test_a_lease_that_is_told_late_takes_nothing_back() -> None:
    watch = Watch()
    watch.look(10.0, 1.0)
    assert watch.look(8.0, 2.0) == [] and watch.may_leave(9.0)


# Everything, in a small scope: a host that looks, acts, is renewed, or is suspended at any time, and what became of its
# lease. The agent has a new home as soon as the last lease is over, and must not act here from then on.


class NoCheckAfterWaking(Watch):
    def may_leave(self, now: float) -> bool:
        return self.running


class StopsAtTheEnd(Watch):
    """Without the margin a worker that is told to stop at the very end acts after it."""

    def look(self, until: float | None, now: float) -> list[Run | Freeze]:
        return [Run(each.until + MARGIN) if isinstance(each, Run) else each for each in super().look(until, now)]


def breaches(make: type[Watch]) -> Iterator[str]:
    """All histories of eight steps: renew the lease, look, or let one or five seconds pass."""
    for history in product(("renew", "look", "1 s", "5 s"), repeat=7):
        watch, now, lease, worker = make(), 100.0, None, float("-inf")
        for step in history:
            if step == "renew":
                lease = now + LEASE
            elif step == "look":
                for effect in watch.look(lease, now):
                    worker = effect.until if isinstance(effect, Run) else float("-inf")
            else:
                now += float(step[0])
            over = lease is None or now >= lease
            if over and watch.may_leave(now):
                yield f"{history}: it acts without a lease"
            if lease is not None and worker > lease - MARGIN:
                yield f"{history}: its worker runs up to the end of the lease"


def test_no_history_lets_an_agent_act_without_a_lease() -> None:
    assert next(breaches(Watch), None) is None


@pytest.mark.parametrize("mutant", [NoCheckAfterWaking, StopsAtTheEnd])
def test_a_missing_check_is_found(mutant: type[Watch]) -> None:
    assert next(breaches(mutant), None) is not None
