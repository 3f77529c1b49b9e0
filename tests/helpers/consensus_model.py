"""One honest replica of the consensus explorer: the production engine between a disk and what it has said.

Between two steps it is nothing but what is durable: each step begins with a fresh engine, made from the records as
after a crash, and every write of the step may be the last one. What an engine only holds in memory is messages that it
has heard, and a network that never forgets can bring them again when they matter. So crashes need no step of their own,
and votes that are not yet a quorum need no states of their own. tests.helpers.consensus_walks checks that
engines which are kept running come to nothing else.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Certificate
from ledger.consensus import messages
from ledger.consensus.engine import RESTORED, Decide, Effect, Persist, Send
from ledger.consensus.ipbft.standing import PREPARED_KEY, PROPOSAL_KEY, VIEW_KEY
from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange
from ledger.consensus.messages import NEW_VIEW_DOMAIN, Blocks, ChangeView, EnterView, NewView, Propose, Vote
from ledger.consensus.records import PreparedRecord, ViewRecord
from ledger.consensus.settings import Settings
from ledger.errors import PeerFault
from ledger.identity import Signed
from ledger.simulation import Mutant
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members

HOSTS = "abcd"  # a leads view 0, b leads view 1
WALLS = (2_000_000, 2_000_001)  # milliseconds: an honest primary may build one block or another
NONE = ""  # no block

Stimulus = tuple[Any, ...]


class Say(NamedTuple):
    """A proposal or a vote, without its sender; blocks go by name."""

    kind: str  # propose | PREPARE | COMMIT
    view: int
    block: str


class Change(NamedTuple):
    """A VIEW-CHANGE(1), without its sender."""

    committed: str  # the block that is decided, or NONE
    prepared: str  # in view 0, or NONE
    forged: bool = False  # its certificates have bad signatures


class Enter(NamedTuple):
    """A NEW-VIEW(1). What an honest primary says of its VIEW-CHANGEs is true, so they are not told apart."""

    height: int
    decided: str  # at that height, by the VIEW-CHANGEs of an honest one
    forced: str
    changes: tuple[tuple[str, Change], ...] = ()  # of a Byzantine one


Said = Say | Change | Enter


class Local(NamedTuple):
    """All of a replica that lasts."""

    records: tuple[tuple[str, bytes], ...]
    decided: tuple[Block, Certificate] | None
    said: frozenset[Said]  # and sent: the network has it for good


class Model:
    """The members, the blocks, and the messages about them. `byzantine`: which host is."""

    def __init__(self, byzantine: str, mutant: Mutant | None = None) -> None:
        self.mutant = mutant or Mutant()
        self.byzantine = byzantine
        self.members = make_members(len(HOSTS), self.mutant.members, names=HOSTS)
        self.quorum = self.members.quorum
        chain = TwinChain(self.members)
        self.genesis = chain.best
        self.blocks: dict[str, Block] = {}
        for view, leader in enumerate(HOSTS[:2]):
            for number, wall in enumerate(WALLS[: 2 if view == 0 or leader == byzantine else 1]):
                self.blocks[f"{leader}{number}"] = chain.block((b"x",), wall, leader)
        self._names = {block.digest(): name for name, block in self.blocks.items()}
        self.raw: dict[Said, bytes] = {}  # NEW-VIEWs that the honest primary has made
        self._signed: dict[tuple[str, Change], Signed] = {}

    # From messages to names

    def name(self, digest: bytes) -> str:
        return self._names.get(digest, "another height's")

    def said(self, host: str, raw: bytes) -> Said | None:
        """What a message says about height 1 and the first two views; None for any other."""
        match messages.decode(raw, host):
            case Propose(view, block) if block.header.height == 1:
                return Say("propose", view, self.name(block.digest()))
            case Vote(ballot) if ballot.height == 1:
                return Say(ballot.kind, ballot.view, self.name(ballot.digest))
            case ChangeView(signed):
                return self._change(signed.body)
            case EnterView(signed) if signed.signer == FastKey(host).public:
                new_view = codec.decode(signed.body, NewView)
                decided = max(self._change(each.body).committed for each in new_view.view_changes)
                said = Enter(new_view.height, decided, self._forced(new_view.forced))
                self.raw.setdefault(said, raw)
                return said
        return None

    def _change(self, body: bytes) -> Change:
        change = codec.decode(body, ViewChange)
        committed = self.name(change.committed.digest()) if change.height else NONE
        return Change(committed, self.name(change.prepared.ballot.digest) if change.prepared else NONE)

    def _forced(self, forced: tuple[tuple[int, bytes], ...]) -> str:
        return self.name(forced[0][1]) if forced else NONE

    def key(self, local: Local) -> tuple[object, ...]:
        """What tells two replicas apart. Certificates are as good as their ballots, whoever signed them."""
        records = dict(local.records)
        view = codec.decode(records[VIEW_KEY], ViewRecord) if VIEW_KEY in records else ViewRecord()
        own = NONE if view.view_change is None else self.said("", view.view_change)
        proposal = prepared = None
        if local.decided is None and PROPOSAL_KEY in records:
            proposed = codec.decode(records[PROPOSAL_KEY], Propose)
            proposal = proposed.view, self.name(proposed.block.digest())
        if local.decided is None and PREPARED_KEY in records:
            ballot = codec.decode(records[PREPARED_KEY], PreparedRecord).certificate.ballot
            prepared = ballot.view, self.name(ballot.digest)
        in_view = (view.view, view.active, view.height, self._forced(view.forced), own)
        return (in_view, proposal, prepared, records.get(RESTORED), self.decided(local), local.said)

    def decided(self, local: Local) -> str:
        return self.name(local.decided[0].digest()) if local.decided else NONE

    # From names to messages. Keys are fast twins, so that the model can sign for everybody.

    def ballot(self, kind: str, view: int, block: str) -> Ballot:
        return Ballot(self.genesis.header.chain, 0, kind, 1, view, self.blocks[block].digest())

    def certificate(self, kind: str, view: int, block: str, signers: Iterable[str], forged: bool) -> Certificate:
        ballot = self.ballot(kind, view, block)
        body = b"" if forged else ballot.encode()
        return Certificate(ballot, tuple((host, FastKey(host).sign(VOTE_DOMAIN, body)) for host in signers))

    def message(self, host: str, said: Said) -> bytes:
        match said:
            case Say("propose", view, block):
                return messages.encode(Propose(view, self.blocks[block]))
            case Say(kind, view, block):
                ballot = self.ballot(kind, view, block)
                return messages.encode(Vote(ballot, FastKey(host).sign(VOTE_DOMAIN, ballot.encode())))
            case Change():
                body = self.blocks[said.prepared] if said.prepared else None
                return messages.encode(ChangeView(self._signed_change(host, said), body))
            case Enter(height, _, forced, changes):
                if not changes:
                    return self.raw[said]
                signed = tuple(self._signed_change(*each) for each in changes)
                choice = ((height + 1, self.blocks[forced].digest()),) if forced else ()
                new_view = NewView(self.genesis.header.chain, 0, 1, host, height, choice, signed)
                return messages.encode(EnterView(_sign(host, NEW_VIEW_DOMAIN, codec.encode(new_view))))

    def _signed_change(self, host: str, change: Change) -> Signed:
        if (host, change) not in self._signed:
            self._signed[host, change] = self._sign_change(host, change)
        return self._signed[host, change]

    def _sign_change(self, host: str, change: Change) -> Signed:
        committed = commit = prepared = None
        quorum = HOSTS[: self.quorum]
        if change.committed:
            committed = self.blocks[change.committed].header
            commit = self.certificate(COMMIT, 0, change.committed, quorum, change.forged)
        if change.prepared:
            prepared = self.certificate(PREPARE, 0, change.prepared, quorum, change.forged)
        genesis = self.genesis.header
        body = codec.encode(ViewChange(genesis.chain, 0, 1, host, committed or genesis, commit, prepared))
        return _sign(host, VIEW_CHANGE_DOMAIN, body)

    def decision(self, block: str, view: int, signers: Iterable[str], forged: bool) -> bytes:
        certificate = self.certificate(COMMIT, view, block, signers, forged)
        return messages.encode(Blocks(((self.blocks[block], certificate),)))


def _sign(host: str, domain: str, body: bytes) -> Signed:
    key = FastKey(host)
    return Signed(key.public, body, key.sign(domain, body))


class Running:
    """The engine of one host, at work."""

    def __init__(self, model: Model, host: str, local: Local) -> None:
        self.blamed: list[tuple[str, str]] = []  # who, and for what
        self._model, self._host = model, host
        self._now = 0.0
        self._chain = TwinChain(model.members)
        certificate = None
        if local.decided:
            self._chain.append(*local.decided)
            certificate = local.decided[1]
        key, records = FastKey(host), dict(local.records)
        self._engine = model.mutant.engine(host, key, self._chain, records, Settings(), certificate, fast_verify)

    def take(self, stimulus: Stimulus) -> list[Effect]:
        """("start",), ("build", number of the wall), ("suspect",) or ("hear", (sender, message), ..)."""
        effects: list[Effect] = []
        match stimulus:
            case ("start",):
                effects += self._engine.start(self._now, WALLS[0])
            case ("build", wall):
                effects += self._demand(WALLS[wall])
            case ("suspect",):
                effects += self._demand(WALLS[0])
                for _ in range(2):  # the primary is told of what waits, and then its time is over
                    self._now += 1000.0
                    effects += self._engine.tick(self._now, WALLS[0])
            case ("hear", *heard):
                for sender, raw in heard:
                    effects += self._hear(sender, raw)
        return effects

    def _demand(self, wall: int) -> list[Effect]:
        """A client wants something to be decided, whatever has been."""
        self._chain.take(b"y" if b"x" in self._chain.decided else b"x")
        return self._engine.command([b"x"], self._now, wall)

    def _hear(self, sender: str, raw: bytes) -> list[Effect]:
        try:
            return self._engine.message(sender, raw, self._now, WALLS[0])
        except PeerFault as fault:
            self.blamed.append((sender, str(fault)))
            return []


def outcomes(model: Model, host: str, local: Local, effects: list[Effect]) -> Iterator[Local]:
    """What is left when all of `effects` are done, or when the host dies just before any of the writes."""
    records, decided, said = dict(local.records), local.decided, set(local.said)
    for place, effect in enumerate(effects):
        if place and isinstance(effect, Persist | Decide):
            yield Local(tuple(sorted(records.items())), decided, frozenset(said))
        match effect:
            case Persist(key, None):
                records.pop(key, None)
            case Persist(key, value):
                records[key] = value
            case Decide(block, certificate, forget):
                decided = decided or (block, certificate)
                for key in forget:
                    records.pop(key, None)
            case Send(_, raw):
                if (message := model.said(host, raw)) is not None:
                    said.add(message)
    yield Local(tuple(sorted(records.items())), decided, frozenset(said))
