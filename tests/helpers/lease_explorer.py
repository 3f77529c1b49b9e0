"""Breadth-first search through what can happen to a lease, in seconds: a host with a held agent, and a member on whose
heartbeats its lease rests.

ledger.heartbeats.Giver and agentplatform.custody.lease.Watch are those of production. The host asks, looks at its
lease, or is suspended and wakes; the member is started again, forgetting all but its promises, or votes for a new home
as soon as it may. From that vote on the agent runs elsewhere: nothing of it may leave the old host.
"""

from collections import deque
from collections.abc import Iterator
from copy import copy
from typing import NamedTuple

from agentplatform.custody.lease import MARGIN, Run, Watch
from ledger.heartbeats import LEASE, NONCE_BYTES, Ask, Giver, Promise

HOST, SUBJECT = "home", b"the agent"
STEPS = (4.0, 10.25)  # seconds that pass at a time
UNTIL = 28.5  # seconds from the start: room for a lease, its end, and a vote


class Lease(NamedTuple):
    now: float
    giver: Giver
    watch: Watch
    until: float | None  # of the host's lease
    worker: float  # until when the agent's worker runs
    rehomed: bool

    def key(self) -> tuple[object, ...]:
        giver = (self.giver._since, *sorted(self.giver._given.items()), bool(self.giver.promises))
        return (self.now, giver, self.watch.until, self.watch.running, self.until, self.worker, self.rehomed)

    def broken(self) -> str | None:
        if self.rehomed and self.watch.may_leave(self.now):
            return "an effect leaves the old host, and the agent has a new home"
        if self.rehomed and self.now < self.worker:
            return "the agent runs on the old host, and has a new home"
        return None


class Result(NamedTuple):
    states: int
    violation: str | None
    trace: list[str]


def explore(giver: type[Giver] = Giver, watch: type[Watch] = Watch) -> Result:
    start = Lease(0.0, giver(0.0, 0), watch(), None, float("-inf"), False)
    came: dict[tuple[object, ...], tuple[tuple[object, ...], str] | None] = {start.key(): None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        if (broken := state.broken()) is not None:
            return Result(len(came), broken, _trace(came, state))
        for what, following in _following(state, giver):
            if following.key() not in came:
                came[following.key()] = (state.key(), what)
                queue.append(following)
    return Result(len(came), None, [])


def _following(state: Lease, kind: type[Giver]) -> Iterator[tuple[str, Lease]]:
    giver = _copied(state.giver)
    if giver.give(HOST, Ask(1, bytes(NONCE_BYTES)), state.now):  # counted from when it asked
        yield "the host asks, and gets a heartbeat", state._replace(giver=giver, until=state.now + LEASE)
    watch, worker = copy(state.watch), state.worker
    for effect in watch.look(state.until, state.now):
        worker = effect.until if isinstance(effect, Run) else float("-inf")
    yield "the host looks at its lease", state._replace(watch=watch, worker=worker)
    if not state.rehomed and state.giver.wait(HOST, state.now) == 0:
        giver = _copied(state.giver)
        giver.promise(Promise(HOST, SUBJECT, 1, 0, 0))
        yield "the member votes: the agent has a new home", state._replace(giver=giver, rehomed=True)
    yield "the member is started again", state._replace(giver=kind(state.now, 0, state.giver.promises.values()))
    for seconds in STEPS:
        if state.now + seconds <= UNTIL:
            yield f"{seconds:g} s pass", state._replace(now=state.now + seconds)


def _copied(giver: Giver) -> Giver:
    other = copy(giver)
    other.promises, other._given, other._incarnations = dict(giver.promises), dict(giver._given), {}
    return other


def _trace(came: dict[tuple[object, ...], tuple[tuple[object, ...], str] | None], state: Lease) -> list[str]:
    lines, key = list[str](), state.key()
    while (origin := came[key]) is not None:
        key, what = origin
        lines.append(what)
    return lines[::-1]


# Without a rule


class VotesThenGives(Giver):
    """[H1] A heartbeat after the vote."""

    def give(self, host: str, ask: Ask, now: float) -> bool:
        self._given[host] = now
        return True


class ForgetsAtStart(Giver):
    """[H1] A member that was started again votes at once: it may have given a heartbeat just before."""

    def wait(self, host: str, now: float) -> float:
        return super().wait(host, now) if host in self._given else 0.0


class NoCheckAfterWaking(Watch):
    """What leaves rests on the last look at the lease."""

    def may_leave(self, now: float) -> bool:
        return self.running


class RunsToTheNextLook(Watch):
    """The worker does not know when the lease ends: it stops when it is told to."""

    def look(self, until: float | None, now: float) -> list[Run]:  # type: ignore[override]
        return [Run(now + 10 * LEASE + MARGIN) for each in super().look(until, now) if isinstance(each, Run)]


LEASE_MUTANTS: dict[str, tuple[type[Giver], type[Watch]]] = {
    "H1": (VotesThenGives, Watch),
    "H1-forgets-at-start": (ForgetsAtStart, Watch),
    "no-lease-check-after-waking": (Giver, NoCheckAfterWaking),
    "runs-to-the-next-look": (Giver, RunsToTheNextLook),
}
