"""Where one replica stands: its best block, its view, what it has promised. Every promise is a Persist first."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, NamedTuple, Protocol

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.consensus import messages
from ledger.consensus.engine import RESTORED, Chain, Decide, Effect, Persist
from ledger.consensus.leaders import primary
from ledger.consensus.messages import NEW_VIEW_DOMAIN, ChangeView, EnterView, NewView, Propose, Vote
from ledger.consensus.records import PreparedRecord, ViewRecord
from ledger.consensus.restored import Fence
from ledger.consensus.view_changes import C, Changes, Received
from ledger.consensus.votes import Votes
from ledger.errors import Misuse
from ledger.identity import Signed

OWN = "this replica's own records"


class Signer(Protocol):
    """The host's key: ledger.identity.Identity, and in the simulator a fast twin."""

    @property
    def public(self) -> bytes: ...

    def sign(self, domain: str, body: bytes) -> bytes: ...


class Prepared(NamedTuple):
    """A block, and the q PREPAREs for it."""

    block: Block
    certificate: Certificate


class Standing(ABC, Generic[C]):
    """The state that votes depend on. It decides nothing: the engine calls it when the rule allows the step."""

    view_key: str  # of a ViewRecord
    proposal_key: str  # of the Propose that this replica gave its PREPARE to
    prepared_key: str  # of the PreparedRecord that it gave its COMMIT to
    view_change: type[C]
    view_change_domain: str

    fence: Fence | None = None  # we are an old copy: below it nothing is signed

    def __init__(
        self,
        host: str,
        signer: Signer,
        chain: Chain,
        certificate: Certificate | None,
        recovered: Mapping[str, bytes],
    ) -> None:
        if (certificate is None) != (chain.best.header.height == 0):
            raise Misuse(f"{host}: give the engine the commit certificate of the best block (None at genesis alone)")
        self.host = host
        self.chain = chain
        self.certificate = certificate  # of the best block
        self.record = ViewRecord()
        self.proposal: Propose | None = None  # for the next height, that we gave our PREPARE; of any view so far
        self.prepared: Prepared | None = None  # for the next height, that we gave our COMMIT; of the highest view
        self.votes = Votes()  # for the next height
        self.late = Votes()  # for the next height, not verified: they came when there were enough
        self.changes: Changes[C] = Changes()
        self.new_views: dict[str, tuple[NewView, EnterView]] = {}  # sender -> one that we cannot judge yet
        self._signer = signer
        self._look_around()
        self._restore(recovered)
        self._count_own()

    def _restore(self, recovered: Mapping[str, bytes]) -> None:
        raw = recovered.get(RESTORED)
        if raw is not None:
            self.put_fence(codec.decode(raw, Fence, OWN) if raw else Fence())
            recovered = {self.view_key: recovered[self.view_key]} if self.view_key in recovered else {}
        if raw := recovered.get(self.view_key):
            self.record = codec.decode(raw, ViewRecord, OWN)
        if raw := recovered.get(self.proposal_key):
            proposal = codec.decode(raw, Propose, OWN)
            self.proposal = proposal if self._is_open(proposal.block) else None
        if raw := recovered.get(self.prepared_key):
            record = codec.decode(raw, PreparedRecord, OWN)
            block = record.block or (self.proposal.block if self.proposal else None)
            if block is not None and self._is_open(block) and block.digest() == record.certificate.ballot.digest:
                self.prepared = Prepared(block, record.certificate)  # else it is of a height that was leapt over
        if self.record.view_change and not self.record.active:
            content = messages.decode(self.record.view_change, OWN)
            if isinstance(content, ChangeView):
                self.changes.put(Received(codec.decode(content.signed.body, self.view_change, OWN), content))

    def _is_open(self, block: Block) -> bool:
        """Whether a vote on `block` still matters. A vote beyond the next height means that blocks are missing."""
        if block.header.height > self.height:
            raise Misuse(
                f"{self.host} has voted on block {block.header.height}, but its chain ends at {self.height - 1}:"
                " the data is older than its votes (a restored backup?). It must not sign; let it start anew"
            )
        return block.header.height == self.height

    def _look_around(self) -> None:
        self.best = self.chain.best
        self.best_digest = self.best.digest()
        self.height = self.best.header.height + 1  # the one that is being decided
        self.members: Members = self.chain.members()  # who decide it
        self.has_seat = self.members.key_of(self.host) == self._signer.public
        self.is_member = self.has_seat and self.fence is None

    # What is derived

    @property
    def view(self) -> int:
        return self.record.view

    @property
    def active(self) -> bool:
        """Votes may be given in this view."""
        return self.record.active

    @property
    def primary(self) -> str:
        return primary(self.members, self.view)

    @property
    def leads(self) -> bool:
        return self.is_member and self.primary == self.host

    @property
    def own_change(self) -> Received[C]:
        """Our last VIEW-CHANGE. Only while we wait for a NEW-VIEW."""
        own = self.changes.of(self.host)
        if own is None or own.change.view != self.view:
            raise Misuse(f"{self.host} has not asked for view {self.view}")
        return own

    @property
    def current(self) -> Propose | None:
        """What this replica voted for in the view that it is in."""
        proposal = self.proposal
        return proposal if proposal is not None and self.active and proposal.view == self.view else None

    @property
    def forced(self) -> bytes | None:
        """The digest that alone may be proposed now."""
        return dict(self.record.forced).get(self.height)

    @property
    @abstractmethod
    def shown(self) -> int:
        """Up to which height our VIEW-CHANGE shows that all is decided, if it is made now."""

    def entered(self) -> EnterView | None:
        """The NEW-VIEW by which we came into our view."""
        content = messages.decode(self.record.new_view, OWN) if self.record.new_view else None
        return content if isinstance(content, EnterView) else None

    def body(self, digest: bytes) -> Block | None:
        """The block of that digest for the next height, if anything that we hold has it."""
        known = [self.proposal.block] if self.proposal else []
        known += [self.prepared.block] if self.prepared else []
        known += [received.message.block for received in self.changes.all() if received.message.block]
        return next((block for block in known if block.digest() == digest), None)

    def ballot(self, kind: str, view: int, digest: bytes) -> Ballot:
        return Ballot(self.best.header.chain, self.members.version, kind, self.height, view, digest)

    def own_vote(self, kind: str, view: int, digest: bytes) -> Vote:
        """Signed once and counted among the votes; only for what has been promised."""
        ballot = self.ballot(kind, view, digest)
        vote = self.votes.first(self.host, ballot)
        if vote is None:
            vote = self._voted(ballot)
            self.votes.add(self.host, vote)
        return vote

    # The durable steps, in the order of the rule

    def promise_proposal(self, proposal: Propose) -> list[Effect]:
        """We give our PREPARE to it, and so never to another at this height and view."""
        effects: list[Effect] = []
        if self.prepared is not None and self.prepared.block != proposal.block:
            effects.append(self._keep_prepared(*self.prepared))  # its body was that of the proposal before
        self.proposal = proposal
        self._count_own()
        return [*effects, Persist(self.proposal_key, codec.encode(proposal))]

    def promise_prepared(self, current: Propose, certificate: Certificate) -> Persist:
        """We give our COMMIT to the proposal, and carry its certificate through every view change."""
        self.prepared = Prepared(current.block, certificate)
        self._count_own()
        return self._keep_prepared(None, certificate)

    def _keep_prepared(self, block: Block | None, certificate: Certificate) -> Persist:
        """The block, which may be large, is left out while it is that of the proposal, which is kept too."""
        return Persist(self.prepared_key, codec.encode(PreparedRecord(block, certificate)))

    def promise_view(self, view: int) -> Persist:
        """VIEW-CHANGE(view): no vote in a lower view from now on. Again for the same view: we can show more."""
        change = self._change_to(view)
        signed = self._signed(self.view_change_domain, codec.encode(change))
        message = ChangeView(signed, self.prepared.block if self.prepared else None)
        self.changes.put(Received(change, message))
        self.record = ViewRecord(view, active=False, view_change=messages.encode(message))
        return Persist(self.view_key, codec.encode(self.record))

    def enter_view(self, new_view: NewView, message: EnterView) -> Persist:
        self.record = ViewRecord(
            new_view.view,
            active=True,
            height=new_view.height,
            forced=new_view.forced,
            view_change=self.record.view_change,
            new_view=messages.encode(message),
        )
        return Persist(self.view_key, codec.encode(self.record))

    def put_fence(self, fence: Fence | None) -> Persist:
        """Whoever is behind a fence has no vote; it follows like a host without a seat."""
        self.fence = fence
        if fence is not None:
            self.proposal = self.prepared = None
        self._look_around()
        return Persist(RESTORED, None if fence is None else codec.encode(fence))

    def has_forgotten(self, certificate: Certificate) -> bool:
        """Whether it has a COMMIT of ours, of which we know nothing. (Its signatures have been verified.)"""
        own = any(host == self.host for host, _ in certificate.signatures)
        known = self.prepared is not None and self.prepared.block.digest() == certificate.ballot.digest
        return own and not known and self.is_member

    def append(self, block: Block, certificate: Certificate) -> list[Effect]:
        """The height is decided: its votes and prepared certificate are cleared (clause 4)."""
        self.chain.append(block, certificate)
        self.certificate = certificate
        self.proposal = self.prepared = None
        self.votes, self.late = Votes(), Votes()
        self._look_around()
        return [Decide(block, certificate, forget=(self.proposal_key, self.prepared_key))]

    def new_view(self, received: list[Received[C]]) -> tuple[NewView, EnterView]:
        """NEW-VIEW of our view, from VIEW-CHANGEs of which one is our own."""
        height, forced = self._choose([each.change for each in received])
        new_view = NewView(
            self.best.header.chain,
            self.members.version,
            self.view,
            self.host,
            height,
            forced,
            tuple(each.message.signed for each in received),
        )
        return new_view, EnterView(self._signed(NEW_VIEW_DOMAIN, codec.encode(new_view)))

    @abstractmethod
    def _change_to(self, view: int) -> C:
        """What we can show now."""

    @abstractmethod
    def _choose(self, changes: list[C]) -> tuple[int, tuple[tuple[int, bytes], ...]]:
        """The height that a view of these starts from, and what is forced above it."""

    def _count_own(self) -> None:
        """Own promises count like others' votes. A signature made again, after a restart, is the same."""
        if not self.is_member:
            return
        if current := self.current:
            self.own_vote(PREPARE, self.view, current.block.digest())
        if self.prepared:
            ballot = self.prepared.certificate.ballot
            self.own_vote(COMMIT, ballot.view, ballot.digest)

    def _voted(self, ballot: Ballot) -> Vote:
        return Vote(ballot, self._signer.sign(VOTE_DOMAIN, ballot.encode()))

    def _signed(self, domain: str, body: bytes) -> Signed:
        return Signed(self._signer.public, body, self._signer.sign(domain, body))
