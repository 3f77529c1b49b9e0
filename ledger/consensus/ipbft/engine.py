"""Improved PBFT: one height at a time, three message delays, three durable writes. Pure.

Messages only add to what is known; `_advance` then takes every step that the rule allows, until none is
left. So each step is one method that reads like its clause, and no order of arrival is special.
"""

from collections.abc import Mapping
from contextlib import suppress

from ledger import identity
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Certificate, Verifier
from ledger.consensus.engine import Accuse, Admit, Chain, Decide, Effect, Send, Serve, WakeAt
from ledger.consensus.ipbft import messages
from ledger.consensus.ipbft.catch_up import CatchUp
from ledger.consensus.ipbft.held import Held
from ledger.consensus.ipbft.judge import check_proposal, check_vote
from ledger.consensus.ipbft.messages import (
    Blocks,
    ChangeView,
    Content,
    EnterView,
    Fetch,
    NewView,
    Propose,
    Relay,
    Status,
    Vote,
)
from ledger.consensus.ipbft.records import PREPARED_KEY, PROPOSAL_KEY
from ledger.consensus.ipbft.settings import Settings
from ledger.consensus.ipbft.standing import Signer, Standing
from ledger.consensus.ipbft.timers import Timers, is_past
from ledger.consensus.ipbft.view_change import (
    Received,
    check_body,
    check_claims,
    check_new_view,
    open_new_view,
    open_view_change,
)
from ledger.errors import PeerFault
from ledger.sync import check_next

VIEW_WINDOW = 8  # COMMITs of a view further than this from ours are ignored; it bounds what a member can make us keep


class Ipbft:
    """The engine of one replica; see ledger.consensus.engine.Engine.

    `chain` is shared with the edge, but only the engine appends to it. `certificate` decided `chain.best` (None
    at genesis); `recovered` is what was given to Persist and not forgotten.
    """

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
        self._at = Standing(host, signer, chain, certificate, recovered)
        self._held = Held()  # messages of heights and views that are not yet ours
        self._new_views: dict[str, tuple[NewView, EnterView]] = {}  # sender -> one that starts above our best block
        self._catch_up = CatchUp(self._settings.resend_every)
        self._waiting = True  # the chain may have transactions that can run
        self._timers = Timers(self._settings)
        self._wake: float | None = None
        self._now, self._wall = 0.0, 0
        self._effects: list[Effect] = []

    @property
    def view(self) -> int:
        return self._at.view

    # The contract

    def start(self, now: float, wall: int) -> list[Effect]:
        self._begin(now, wall)
        self._beat()
        return self._finish()

    def command(self, transaction: bytes, now: float, wall: int) -> list[Effect]:
        self._begin(now, wall)
        self._waiting = True
        if not self._at.leads:
            self._timers.relay_soon(now)
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
        if self._timers.beat_at <= now:
            self._beat()
        if is_past(self._timers.relay_at, now):
            self._relay()
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
        wake = self._timers.next(self._catch_up.at)
        if wake != self._wake:
            self._wake = wake
            self._effects.append(WakeAt(wake))
        return self._effects

    def _send(self, to: str | None, content: Content) -> None:
        if to != self._at.host:
            self._effects.append(Send(to, messages.encode(content)))

    # What arrives. Each handler refuses before it changes anything.

    def _receive(self, sender: str, content: Content) -> None:
        match content:
            case Propose():
                self._on_propose(sender, content)
            case Vote():
                self._on_vote(sender, content)
            case ChangeView():
                self._on_change_view(sender, content)
            case EnterView():
                self._on_enter_view(sender, content)
            case Status():
                self._on_status(sender, content)
            case Fetch():
                self._on_fetch(sender, content)
            case Blocks():
                self._on_blocks(sender, content)
            case Relay():
                self._effects += [Admit(sender, transaction) for transaction in content.transactions]

    def _on_propose(self, sender: str, propose: Propose) -> None:
        """Clause 2. The primary's signature under the proposal is its PREPARE."""
        at, header = self._at, propose.block.header
        if not self._is_timely(sender, propose, header.height, propose.view):
            return
        if sender != at.primary:
            raise PeerFault(sender, f"proposed in view {at.view}, which {at.primary} leads")
        digest = propose.block.digest()
        vote = Vote(at.ballot(PREPARE, propose.view, digest), propose.signature)
        if not self._is_first(sender, vote) or at.current is not None or not at.is_member:
            return
        if not check_proposal(at, sender, propose, self._wall + self._settings.allowed_drift_ms):
            return
        self._effects.append(at.promise_proposal(propose))
        self._send(None, at.own_vote(PREPARE, at.view, digest))
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
        if self._is_first(sender, vote):
            at.votes.add(sender, vote)

    def _is_first(self, sender: str, vote: Vote) -> bool:
        """Whether `vote` is good and not yet counted. A different one at the same place is evidence (clause 9)."""
        at = self._at
        earlier = at.votes.first(sender, vote.ballot)
        if earlier == vote:
            return False
        key = check_vote(at, sender, vote, self._verify)
        if earlier is None:
            return True
        if earlier.ballot != vote.ballot:
            self._effects.append(Accuse(sender, VOTE_DOMAIN, earlier.signed(key), vote.signed(key)))
        return False

    def _on_change_view(self, sender: str, message: ChangeView) -> None:
        """Clause 6: one is kept for each sender; again with a newer best block replaces it and is no evidence."""
        at = self._at
        earlier = at.changes.of(sender)
        if at.members.key_of(sender) is None or (earlier is not None and earlier.message == message):
            return
        change = open_view_change(message.signed, at.members, self._verify, sender)
        if change.host != sender or change.chain != at.best.header.chain:
            raise PeerFault(sender, "sent a VIEW-CHANGE of another host or chain")
        check_body(change, message.block, sender)
        if not self._is_ahead(change.view):
            if change.view == at.view and at.leads:
                self._send_view(sender)  # it missed our NEW-VIEW
            return
        height = change.committed.height
        if earlier is not None and (earlier.change.view, earlier.height) >= (change.view, height):
            if (earlier.change.view, earlier.height) == (change.view, height):
                both = earlier.message.signed, message.signed
                self._effects.append(Accuse(sender, messages.VIEW_CHANGE_DOMAIN, *both))
            return
        check_claims(change, at.best, at.members, self._verify, sender)
        at.changes.put(Received(change, message))
        self._catch_up.heard(sender, height, at.best.header.height, self._now)

    def _on_enter_view(self, sender: str, message: EnterView) -> None:
        at = self._at
        if all(message.signed.signer != member.key for member in at.members.members):
            return  # a former member, or a later one: once we are as high as the sender, it sends this again
        new_view = open_new_view(message.signed, at.members, self._verify, sender)
        if new_view.chain != at.best.header.chain:
            raise PeerFault(sender, "sent a NEW-VIEW of another chain")
        if not self._is_ahead(new_view.view):
            return
        if new_view.height > at.best.header.height:  # synchronise first (clause 8)
            self._new_views[sender] = (new_view, message)
            self._catch_up.heard(sender, new_view.height, at.best.header.height, self._now)
        else:
            self._try_to_enter(sender, new_view, message)

    def _on_status(self, sender: str, status: Status) -> None:
        best = self._at.best.header.height
        self._catch_up.heard(sender, status.height, best, self._now)
        if status.height < best:
            self._send(sender, self._status())
        if (status.view, status.active) < (self._at.view, self._at.active):
            self._send_view(sender)

    def _on_fetch(self, sender: str, fetch: Fetch) -> None:
        best = self._at.best.header.height
        if 0 < fetch.first <= best and self._catch_up.may_serve(sender, fetch.first, self._now):
            self._effects.append(Serve(sender, fetch.first, min(best, fetch.first + self._settings.batch - 1)))

    def _on_blocks(self, sender: str, blocks: Blocks) -> None:
        """Every block is verified with the members of its own height, which the one before may have changed."""
        at, first = self._at, self._at.height
        fault: PeerFault | None = None
        for block, certificate in blocks.blocks:
            if block.header.height >= at.height:
                try:
                    check_next(at.best, at.members, block, certificate, sender, self._verify)
                except PeerFault as error:
                    fault = error
                    break
                self._append(block, certificate)
        self._catch_up.answered(sender, at.best.header.height, self._now, useful=at.height > first)
        if fault and at.height == first:
            raise fault

    def _is_timely(self, sender: str, content: Propose | Vote, height: int, view: int) -> bool:
        """Whether it is about the height and view that we are in; what is of a later one is held back for then."""
        at = self._at
        if height == at.height and view == at.view and at.active:
            return True
        if height > at.height:
            self._catch_up.heard(sender, height - 1, at.best.header.height, self._now + self._settings.fetch_after)
        later = height > at.height or (height == at.height and self._is_ahead(view))
        if later and at.members.key_of(sender) is not None:
            self._held.put(sender, content, height - at.height)
        return False

    def _is_ahead(self, view: int) -> bool:
        return view > self._at.view or (view == self._at.view and not self._at.active)

    # What follows. Each step returns whether it was taken.

    def _advance(self) -> bool:
        return (
            self._commit()
            or self._decide()
            or self._join_view_change()
            or self._lead_new_view()
            or self._follow_new_view()
            or self._propose()
            or self._release_held()
        )

    def _propose(self) -> bool:
        """Clause 8: the forced block where there is one, else a fresh one if anything can run. No empty blocks."""
        at = self._at
        if not at.leads or not at.active or at.current is not None:
            return False
        if at.forced is not None:
            block = at.body(at.forced)
        else:
            block = at.chain.build(self._wall, at.host) if self._waiting else None
            self._waiting = block is not None
        if block is None:
            return False
        proposal = at.own_proposal(block)
        self._effects.append(at.promise_proposal(proposal))
        self._send(None, proposal)
        self._timers.beat_soon(self._now)
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
        self._effects.append(at.promise_prepared(current.block, certificate))
        self._send(None, at.own_vote(COMMIT, at.view, digest))
        return True

    def _decide(self) -> bool:
        """Clause 3: a commit certificate of any view, and the body."""
        at = self._at
        certificate = at.votes.commit_certificate(at.members.quorum)
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
        at.append(block, certificate)
        self._effects.append(Decide(block, certificate, forget=(PROPOSAL_KEY, PREPARED_KEY)))
        self._timers.decided()
        self._expect_more()
        for received in at.changes.all():
            host = received.change.host
            try:
                if at.members.key_of(host) is None:
                    raise PeerFault(host, "is no member any more")
                if received.height == at.best.header.height:  # its claims could not be judged from below
                    check_claims(received.change, at.best, at.members, self._verify, host)
            except PeerFault:
                at.changes.remove(host)

    def _join_view_change(self) -> bool:
        """Clause 6: f+1 hosts ask for a higher view."""
        view = self._at.changes.view_to_join(self._at.view, self._at.members.f)
        if view is None or not self._at.is_member:
            return False
        self._start_view_change(view)
        return True

    def _lead_new_view(self) -> bool:
        """Clause 7: q VIEW-CHANGEs, none of which is above our own best block, so we have synchronised."""
        at = self._at
        if at.active or not at.leads:
            return False
        others = [r for r in at.changes.for_view(at.view) if r.change.host != at.host]
        usable = [r for r in others if r.height <= at.best.header.height][: at.members.quorum - 1]
        if len(usable) < at.members.quorum - 1:
            return False
        self._renew_view_change()
        new_view, message = at.new_view([at.own_change, *usable])
        self._effects.append(at.enter_view(new_view, message))
        self._send(None, message)
        self._expect_more()
        return True

    def _follow_new_view(self) -> bool:
        """The NEW-VIEWs that waited for us to synchronise."""
        for sender, (new_view, message) in list(self._new_views.items()):
            if not self._is_ahead(new_view.view):
                del self._new_views[sender]
            elif new_view.height <= self._at.best.header.height:
                del self._new_views[sender]
                try:
                    self._try_to_enter(sender, new_view, message)
                except PeerFault:
                    continue
                return True
        return False

    def _try_to_enter(self, sender: str, new_view: NewView, message: EnterView) -> None:
        at, best = self._at, self._at.best.header.height
        try:
            check_new_view(new_view, at.best, at.members, self._verify, sender)
        except PeerFault:
            if best == new_view.height and sender == new_view.host:
                raise
            return  # not everything can be judged from above H*: neither by us, nor by who passed it on
        self._effects.append(at.enter_view(new_view, message))
        if best == new_view.height + 1:  # the new primary lacks our block
            self._effects.append(Serve(new_view.host, best, best))
        self._expect_more()

    def _release_held(self) -> bool:
        """Messages that have become timely."""
        at = self._at
        released = self._held.take(at.height, at.view if at.active else at.view - 1)
        for sender, content in released:
            with suppress(PeerFault):
                self._receive(sender, content)
        return bool(released)

    # Time

    def _beat(self) -> None:
        """Everything that is undecided goes out again, with longer and longer pauses; when idle, just Status."""
        at = self._at
        self._send(None, self._status())
        if at.is_member and not at.active and not self._renew_view_change():
            self._send(None, at.own_change.message)
        if at.current is not None and at.leads:
            self._send(None, at.current)
        elif at.current is not None:
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
        self._timers.relay_soon(self._now)
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
            self._send(at.primary, Relay(block.transactions))
            self._timers.expect_decision(self._now)

    def _fetch(self) -> None:
        if peer := self._catch_up.ask(self._at.best.header.height, self._now):
            self._send(peer, Fetch(self._at.height))

    def _set_deadline(self) -> None:
        """It runs while there is something to decide; without a view, once q hosts ask for one (clause 6)."""
        at = self._at
        if at.active:
            due = at.current is not None or at.forced is not None
        else:
            due = at.changes.count_from(at.view) >= at.members.quorum
        if due:
            self._timers.expect_decision(self._now)

    def _suspect(self) -> None:
        """The deadline has passed."""
        at = self._at
        self._timers.deadline = None
        if not at.is_member:
            return
        due = not at.active or at.current is not None or at.forced is not None
        if due or at.chain.build(self._wall, at.host) is not None:
            self._start_view_change(at.view + 1)

    def _start_view_change(self, view: int) -> None:
        self._timers.view_failed()
        self._effects.append(self._at.promise_view(view))
        self._send(None, self._at.own_change.message)
        self._timers.beat_soon(self._now)

    def _renew_view_change(self) -> bool:
        """Our VIEW-CHANGE tells our best block; when that has changed, it is made again."""
        at = self._at
        own = at.changes.of(at.host)
        if own is not None and own.height == at.best.header.height:
            return False
        self._effects.append(at.promise_view(at.view))
        self._send(None, at.own_change.message)
        return True

    def _status(self) -> Status:
        return Status(self._at.best.header.height, self._at.view, self._at.active)

    def _send_view(self, to: str) -> None:
        """What brings a replica into our view: the NEW-VIEW, or our VIEW-CHANGE while we have none."""
        message = self._at.record.new_view if self._at.active else self._at.record.view_change
        if message is not None:
            self._effects.append(Send(to, message))
