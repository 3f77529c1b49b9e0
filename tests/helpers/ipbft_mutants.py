"""The rule of improved PBFT with one clause left out each: what the simulator and the stories must catch."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from ledger.certificate import COMMIT, PREPARE, Certificate, Members
from ledger.consensus import view_changes
from ledger.consensus.engine import Effect
from ledger.consensus.ipbft import Ipbft, view_change
from ledger.consensus.ipbft.standing import PREPARED_KEY, PROPOSAL_KEY, VIEW_KEY, Standing
from ledger.consensus.messages import Blocks, EnterView, NewView, Propose, Vote
from ledger.consensus.records import ViewRecord
from ledger.consensus.votes import Votes
from ledger.simulation import Mutant

PACKAGE = "ledger.consensus"


class SmallQuorum(Members, frozen=True, array_like=True):
    @property
    def quorum(self) -> int:
        return 2 * self.f + 1


class RepeatedVotes(Votes):
    """Counts messages, not signers."""

    def first(self, host: str, ballot: Any) -> Vote | None:
        return None

    def add(self, host: str, vote: Vote) -> None:
        self._all = [*getattr(self, "_all", []), (host, vote)]

    def certificate(self, ballot: Any, quorum: int) -> Certificate | None:
        signatures = sorted((host, vote.signature) for host, vote in getattr(self, "_all", []) if vote.ballot == ballot)
        return Certificate(ballot, tuple(signatures[:quorum])) if len(signatures) >= quorum else None

    def certificate_of(self, kind: str, quorum: int) -> Certificate | None:
        ballots = {vote.ballot for _, vote in getattr(self, "_all", []) if vote.ballot.kind == kind}
        return next((c for ballot in ballots if (c := self.certificate(ballot, quorum))), None)


def _forgets(key: str) -> type[Ipbft]:
    class Forgets(Ipbft):
        """Does not get `key` back after a restart."""

        def __init__(self, host: Any, signer: Any, chain: Any, recovered: Mapping[str, bytes], *rest: Any) -> None:
            super().__init__(host, signer, chain, {k: v for k, v in recovered.items() if k != key}, *rest)

    return Forgets


class ClearsByClock(Ipbft):
    """Clears the prepared certificate when a second has passed, not when a block is added."""

    def tick(self, now: float, wall: int) -> list[Effect]:
        self._at.prepared = None
        return super().tick(now, wall)


class ClearsByMessageTime(Ipbft):
    """Clears votes and prepared certificate when it hears of a block with a later timestamp, not when one is added."""

    def _on_propose(self, sender: str, propose: Propose) -> None:
        prepared = self._at.prepared
        if prepared is not None and propose.block.header.timestamp > prepared.block.header.timestamp:
            self._at.prepared, self._at.votes = None, Votes()
        super()._on_propose(sender, propose)


class Credulous(Ipbft):
    """Decides what one peer says that is decided, when it has the body."""

    def _on_vote(self, sender: str, vote: Vote) -> None:
        super()._on_vote(sender, vote)
        ballot, at = vote.ballot, self._at
        block = at.body(ballot.digest)
        if ballot.kind == COMMIT and ballot.height == at.height and block is not None:
            self._append(block, Certificate(ballot, ((sender, vote.signature),)))


class Unsynchronised(Ipbft):
    """Leads and follows a NEW-VIEW without fetching the blocks that it starts from."""

    def _lead_new_view(self) -> bool:
        at = self._at
        changes = at.changes.for_view(at.view)
        if at.active or not at.leads or len(changes) < at.members.quorum:
            return False
        others = [received for received in changes if received.change.host != at.host]
        chosen = [at.own_change, *others[: at.members.quorum - 1]]
        height = max(received.height for received in chosen)
        with patch.object(at, "best", _AtHeight(at.best, height)):
            new_view, message = at.new_view(chosen)
        self._enter(new_view, message)
        self._send(None, message)
        return True

    def _on_enter_view(self, sender: str, message: EnterView) -> None:
        at = self._at
        new_view = view_changes.open_new_view(message.signed, at.members, self._verify, sender)
        if self._is_ahead(new_view.view):
            self._try_to_enter(sender, new_view, message)


class _AtHeight:
    """A block that says it is at another height."""

    def __init__(self, block: Any, height: int) -> None:
        self.header = _Header(block.header.chain, height)


class _Header:
    def __init__(self, chain: bytes, height: int) -> None:
        self.chain, self.height = chain, height


class GoesBack(Ipbft):
    """Still votes for a proposal of a view that it has left."""

    def _is_timely(self, sender: str, content: Propose | Vote, height: int, view: int) -> bool:
        at = self._at
        if isinstance(content, Propose) and height == at.height and view < at.view:
            self._send(None, at.own_vote(PREPARE, view, content.block.digest()))
        return super()._is_timely(sender, content, height, view)


class GoesBackToFetched(Ipbft):
    """Takes the view of the blocks that it catches up with for its own."""

    def _on_blocks(self, sender: str, blocks: Blocks) -> None:
        before = self._at.height
        super()._on_blocks(sender, blocks)
        if self._at.height > before and blocks.blocks:
            self._at.record = ViewRecord(blocks.blocks[-1][1].ballot.view)


def _choose_any(changes: Any, height: int) -> Certificate | None:
    found = [c.prepared for c in changes if c.prepared is not None and c.committed.height == height]
    return min(found, key=lambda certificate: certificate.ballot.view, default=None)


def _no_choice(new_view: Any, best: Any, members: Any, verify: Any, sender: str) -> None:
    with patch(f"{PACKAGE}.ipbft.view_change.choose", lambda changes, height: _chosen(new_view)):
        view_change.check_new_view(new_view, best, members, verify, sender)


def _chosen(new_view: NewView) -> Any:
    """Whatever the NEW-VIEW says."""
    for _, digest in new_view.forced:
        return SimpleNamespace(ballot=SimpleNamespace(digest=digest))
    return None


def _carries_nothing(self: Standing, view: int) -> Any:
    prepared, self.prepared = self.prepared, None
    try:
        return _promise_view(self, view)
    finally:
        self.prepared = prepared


_promise_view = Standing.promise_view


def _anything(*_: object) -> None:
    return None


MUTANTS: dict[str, tuple[Mutant, dict[str, Any]]] = {
    # name: (classes, what is patched)
    "quorum-2f+1": (Mutant(members=SmallQuorum), {}),
    "signer-counted-twice": (Mutant(), {"standing.Votes": RepeatedVotes}),
    "forgotten-votes": (Mutant(engine=_forgets(PROPOSAL_KEY)), {}),
    "forgotten-certificate": (Mutant(engine=_forgets(PREPARED_KEY)), {}),
    "forgotten-view": (Mutant(engine=_forgets(VIEW_KEY)), {}),
    "decided-on-a-word": (Mutant(engine=Credulous), {}),
    "cleared-by-clock": (Mutant(engine=ClearsByClock), {}),
    "cleared-by-message-time": (Mutant(engine=ClearsByMessageTime), {}),
    "certificates-not-carried": (Mutant(), {"standing.Standing.promise_view": _carries_nothing}),
    "no-sync": (Mutant(engine=Unsynchronised), {}),
    "choice-not-recomputed": (Mutant(), {"ipbft.engine.check_new_view": _no_choice}),
    "any-certificate-chosen": (
        Mutant(),
        {"ipbft.view_change.choose": _choose_any, "ipbft.standing.choose": _choose_any},
    ),
    "certificates-not-verified": (Mutant(), {"ipbft.view_change.check_certificate": _anything}),
    "sync-without-certificates": (Mutant(), {"normal_case.check_next": _anything}),
    "view-goes-back": (Mutant(engine=GoesBack), {}),
    "view-goes-back-catching-up": (Mutant(engine=GoesBackToFetched), {}),
}


@contextmanager
def mutant(name: str) -> Iterator[Mutant]:
    """The mutant of that name, in force within the block."""
    classes, patches = MUTANTS[name]
    with ExitStack() as stack:
        for place, replacement in patches.items():
            stack.enter_context(patch(f"{PACKAGE}.{place}", replacement))
        yield classes
