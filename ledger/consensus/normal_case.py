"""The normal case of the PBFT family: one height at a time, three message delays, three durable writes. Pure.

Castro and Liskov, "Practical Byzantine Fault Tolerance", OSDI '99, with blocks for requests. Messages only add to
what is known; `_advance` then takes every step that the rule allows, until none is left. So each step is one method
that reads like its clause, and no order of arrival is special. The clauses are those of improved PBFT.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Generic

from ledger import identity
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, Certificate, Verifier
from ledger.consensus import counting, messages
from ledger.consensus.catch_up import CatchUp
from ledger.consensus.censorship import ENOUGH, Overlooked
from ledger.consensus.engine import Admit, Chain, Effect, Send, Serve, WakeAt
from ledger.consensus.held import Held
from ledger.consensus.judge import check_proposal
from ledger.consensus.linger import Linger
from ledger.consensus.messages import Blocks, Content, Fetch, Propose, Relay, Status, Vote
from ledger.consensus.settings import Settings
from ledger.consensus.standing import Signer, Standing
from ledger.consensus.timers import Timers, is_past
from ledger.consensus.view_changes import C
from ledger.errors import PeerFault
from ledger.sync import check_next

VIEW_WINDOW = 8  # COMMITs of a view further than this from ours are ignored; it bounds what a member can make us keep


class NormalCase(ABC, Generic[C]):
    """One replica; see ledger.consensus.engine.Engine. `agreement` adds the view change.

    `chain` is shared with the edge, but only the engine appends to it. `certificate` decided `chain.best` (None
    at genesis); `recovered` is what was given to Persist and not forgotten.
    """

    standing: type[Standing[C]]

    def __init__(
        self,
        host: str,
        signer: Signer,
        chain: Chain,
        recovered: Mapping[str, bytes],
        settings: Settings | None = None,
        certificate: Certificate | None = None,
        verify: Verifier = identity.verify,
    ) -> None:
        self._settings = settings or Settings()
        self._verify = verify
        self._at = self.standing(host, signer, chain, certificate, recovered)
        self._held = Held()  # messages of heights and views that are not yet ours
        self._catch_up = CatchUp(self._settings.resend_every)
        self._waiting = True  # the chain may have transactions that can run
        self._timers = Timers(self._settings)
        self._overlooked = Overlooked(self._settings.view_timeout)
        self._linger = Linger(self._settings)
        self._wake: float | None = None
        self._now, self._wall = 0.0, 0
        self._effects: list[Effect] = []

    @property
    def view(self) -> int:
        return self._at.view

    # The contract

    @property
    def votes(self) -> bool:
        return self._at.is_member

    @property
    def pledged(self) -> Block | None:
        return self._at.prepared.block if self._at.prepared else None

    def start(self, now: float, wall: int) -> list[Effect]:
        self._begin(now, wall)
        self._beat()
        return self._finish()

    def command(self, transactions: Sequence[bytes], now: float, wall: int) -> list[Effect]:
        self._begin(now, wall)
        self._waiting = True
        self._linger.came(now, self._at.chain.backlog())
        self._timers.look_later(now)
        self._requested(transactions)
        return self._finish()

    def message(self, sender: str, message: bytes, now: float, wall: int) -> list[Effect]:
        """Raises PeerFault for what no honest member sends; then nothing has changed."""
        if len(message) > self._settings.max_message_bytes:
            raise PeerFault(sender, f"sent {len(message)} bytes; at most {self._settings.max_message_bytes} are taken")
        content = messages.decode(message, sender)
        self._begin(now, wall)
        self._receive(sender, content)
        return self._finish()

    def tick(self, now: float, wall: int) -> list[Effect]:
        self._begin(now, wall)
        self._wake = None  # whoever calls early is told the time again
        self._linger.tick(now)
        if self._timers.beat_at <= now:
            self._beat()
        if is_past(self._timers.relay_at, now):
            self._relay()
        if is_past(self._timers.look_at, now):
            self._look()
        if is_past(self._catch_up.at, now):
            self._fetch()
        if is_past(self._timers.deadline, now):
            self._suspect()
        return self._finish()

    def _begin(self, now: float, wall: int) -> None:
        self._now, self._wall = now, wall
        self._effects = []

    def _finish(self) -> list[Effect]:
        while self._advance():
            pass
        self._set_deadline()
        wake = self._timers.next(self._catch_up.at, self._linger.until)
        if wake != self._wake:
            self._wake = wake
            self._effects.append(WakeAt(wake))
        return self._effects

    def _send(self, to: str | None, content: Content) -> None:
        if to != self._at.host:
            self._effects.append(Send(to, messages.encode(content)))

    # What others fill in

    @abstractmethod
    def _requested(self, transactions: Sequence[bytes]) -> None:
        """Clients' transactions came into the mempool: how the primary hears of them."""

    @abstractmethod
    def _change_view(self) -> bool:
        """Takes a step of the view change that is due; whether there was one."""

    @abstractmethod
    def _set_deadline(self) -> None:
        """The primary's time runs while there is something to decide."""

    @abstractmethod
    def _suspect(self) -> None:
        """The deadline has passed."""

    # What arrives. Each handler refuses before it changes anything.

    def _receive(self, sender: str, content: Content) -> None:
        match content:
            case Propose():
                self._on_propose(sender, content)
            case Vote():
                self._on_vote(sender, content)
            case Status():
                self._on_status(sender, content)
            case Fetch():
                self._on_fetch(sender, content)
            case Blocks():
                self._on_blocks(sender, content)
            case Relay():
                self._effects += [Admit(sender, transaction) for transaction in content.transactions]

    def _on_propose(self, sender: str, propose: Propose) -> None:
        """Clause 2. The first proposal of a view is taken."""
        at, header = self._at, propose.block.header
        if not self._is_timely(sender, propose, header.height, propose.view):
            return
        if sender != at.primary:
            raise PeerFault(sender, f"proposed in view {at.view}, which {at.primary} leads")
        if at.current is not None or not at.is_member:
            return
        if check_proposal(at, sender, propose, self._wall + self._settings.allowed_drift_ms):
            self._prepare(propose)

    def _prepare(self, propose: Propose) -> None:
        at = self._at
        self._effects += at.promise_proposal(propose)
        self._send(None, at.own_vote(PREPARE, at.view, propose.block.digest()))
        self._timers.beat_soon(self._now)

    def _on_vote(self, sender: str, vote: Vote) -> None:
        at, ballot = self._at, vote.ballot
        if ballot.kind not in (PREPARE, COMMIT):
            raise PeerFault(sender, f"voted {ballot.kind!r}; there are {PREPARE} and {COMMIT}")
        if ballot.kind == COMMIT and ballot.height == at.height:  # counts in any view (clause 3)
            if abs(ballot.view - at.view) > VIEW_WINDOW:
                return
        elif not self._is_timely(sender, vote, ballot.height, ballot.view):
            return
        self._effects += counting.count(at, sender, vote, self._verify)

    def _on_status(self, sender: str, status: Status) -> None:
        best = self._at.best.header.height
        self._catch_up.heard(sender, status.height, best, self._now)
        if status.height < best:
            self._send(sender, self._status())

    def _on_fetch(self, sender: str, fetch: Fetch) -> None:
        best = self._at.best.header.height
        if 0 < fetch.first <= best and self._catch_up.may_serve(sender, fetch.first, self._now):
            self._effects.append(Serve(sender, fetch.first, min(best, fetch.first + self._settings.batch - 1)))

    def _on_blocks(self, sender: str, blocks: Blocks) -> None:
        """Every block is verified with the members of its own height, which the one before may have changed."""
        at, first = self._at, self._at.height
        fault: PeerFault | None = None
        for block, certificate in blocks.blocks:
            if block.header.height > at.height:
                break  # an answer to what we asked before a restart
            if block.header.height == at.height:
                try:
                    check_next(at.best, at.members, block, certificate, sender, self._verify)
                except PeerFault as error:
                    fault = error
                    break
                self._effects += counting.compare(at, certificate)
                self._append(block, certificate)
        self._catch_up.answered(sender, at.best.header.height, self._now, useful=at.height > first)
        if fault and at.height == first:
            raise fault

    def _is_timely(self, sender: str, content: Propose | Vote, height: int, view: int) -> bool:
        """Whether it is about the height and view that we are in; what is of a later one is held back for then."""
        at = self._at
        if height == at.height and view == at.view and self._may_vote():
            return True
        if height > at.height:
            self._catch_up.heard(sender, height - 1, at.best.header.height, self._now + self._settings.fetch_after)
        later = height > at.height or (height == at.height and view > self._past_view())
        if later and at.members.key_of(sender) is not None:
            self._held.put(sender, content, height - at.height)
        return False

    def _may_vote(self) -> bool:
        """In our view, at our height (clause 2)."""
        return self._at.active

    def _past_view(self) -> int:
        """Messages of our height and a view up to this one need not be held back."""
        return self._at.view if self._may_vote() else self._at.view - 1

    # What follows. Each step returns whether it was taken.

    def _advance(self) -> bool:
        return self._commit() or self._decide() or self._change_view() or self._propose() or self._release_held()

    def _propose(self) -> bool:
        """Clause 8: the forced block where there is one, else a fresh one if anything can run. No empty blocks."""
        at = self._at
        if not at.leads or not self._may_vote() or at.current is not None:
            return False
        if at.forced is not None:
            block = at.body(at.forced)
        else:
            if not self._waiting or self._linger.until is not None:
                return False
            block = at.chain.build(self._wall, at.host)
            self._waiting = block is not None
        if block is None:
            return False
        self._linger.proposed(self._now)
        proposal = Propose(at.view, block)
        self._send(None, proposal)
        self._prepare(proposal)
        return True

    def _commit(self) -> bool:
        """Clause 3: the pre-prepare and q PREPAREs are a prepared certificate; only then COMMIT."""
        at = self._at
        current, prepared = at.current, at.prepared
        if current is None or (prepared is not None and prepared.certificate.ballot.view == at.view):
            return False
        digest = current.block.digest()
        certificate = at.votes.certificate(at.ballot(PREPARE, at.view, digest), at.members.quorum)
        if certificate is None:
            return False
        self._effects.append(at.promise_prepared(current, certificate))
        self._send(None, at.own_vote(COMMIT, at.view, digest))
        return True

    def _decide(self) -> bool:
        """Clause 3: a commit certificate of any view, and the body."""
        at = self._at
        certificate = at.votes.certificate_of(COMMIT, at.members.quorum)
        if certificate is None:
            return False
        block = at.body(certificate.ballot.digest)
        if block is None:  # whoever voted for it will have it
            for host, _ in certificate.signatures:
                self._catch_up.heard(host, at.height, at.best.header.height, self._now + self._settings.fetch_after)
            return False
        self._append(block, certificate)
        return True

    def _append(self, block: Block, certificate: Certificate) -> None:
        at = self._at
        if at.current is not None and at.current.block == block and at.chain.has_room(block):
            self._overlooked.passed()
        self._effects += at.append(block, certificate)
        self._timers.decided()
        if self._at.leads:
            self._linger.decided(self._now, self._at.chain.backlog())
        self._expect_more()

    def _release_held(self) -> bool:
        """Messages that have become timely."""
        released = self._held.take(self._at.height, self._past_view())
        for sender, content in released:
            with suppress(PeerFault):
                self._receive(sender, content)
        return bool(released)

    # Time

    def _beat(self) -> None:
        """Everything that is undecided goes out again, with longer and longer pauses; when idle, just Status."""
        at = self._at
        self._send(None, self._status())
        if at.current is not None:
            if at.leads:
                self._send(None, at.current)
            self._send(None, at.own_vote(PREPARE, at.view, at.current.block.digest()))
        if at.prepared is not None:
            ballot = at.prepared.certificate.ballot
            self._send(None, at.own_vote(COMMIT, ballot.view, ballot.digest))
        if self._timers.relay_at is None:
            self._relay()
        undecided = self._waiting or not at.active or at.current is not None
        self._timers.beat_done(self._now, undecided)

    def _expect_more(self) -> None:
        """At a new height or view other transactions may be able to run."""
        self._waiting = True
        self._overlooked.led_by(self._at.view, self._at.primary)
        self._timers.relay_soon(self._now)
        self._timers.look_later(self._now)
        self._timers.beat_soon(self._now)

    def _relay(self) -> None:
        """Clause 10: the primary is suspected only for a transaction that can run, after it was told of it."""
        at = self._at
        self._timers.relay_at = None
        if not self._waiting or not at.active or at.leads or at.current is not None:
            return
        block = at.chain.build(self._wall, at.host)
        self._waiting = block is not None
        if block is not None:
            self._tell(block.transactions)
            self._timers.expect_decision(self._now)

    def _look(self) -> None:
        """Clause 10, on a busy chain: the primary that decides other things is suspected too (censorship)."""
        at = self._at
        self._timers.look_at = None
        waiting = at.chain.first_in_line() if at.active and not at.leads else ()
        if waiting:
            self._timers.look_later(self._now)
        able = tuple(islice(filter(at.chain.can_run, self._overlooked.look(waiting)), ENOUGH))
        if any(self._overlooked.is_censored(transaction, self._now) for transaction in able):
            self._suspect()
        else:
            self._tell(able)

    def _tell(self, transactions: tuple[bytes, ...]) -> None:
        if transactions:
            self._send(self._at.primary, Relay(transactions))
        self._overlooked.told(transactions, self._now)

    def _fetch(self) -> None:
        if peer := self._catch_up.ask(self._at.best.header.height, self._now):
            self._send(peer, Fetch(self._at.height))

    def _status(self) -> Status:
        return Status(self._at.best.header.height, self._at.view, self._at.active)
