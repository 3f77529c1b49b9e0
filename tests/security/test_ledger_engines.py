"""A Byzantine member sends an engine whatever it likes, well signed: a fault that names it, or no harm at all."""

from random import Random
from typing import Any

import pytest
from msgspec.structs import replace

from ledger import codec
from ledger.certificate import VOTE_DOMAIN, Ballot
from ledger.consensus import messages
from ledger.consensus.engine import Admit, Decide, Effect, Send, Serve
from ledger.consensus.held import VOTES
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import NEW_VIEW_DOMAIN, ChangeView, Content, EnterView, Vote
from ledger.consensus.normal_case import NormalCase
from ledger.consensus.pbft import Pbft
from ledger.consensus.settings import Settings
from ledger.errors import Misuse, PeerFault
from ledger.identity import Signed
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members
from tests.helpers.mutations import bend

Kind = type[NormalCase[Any]]
HOSTS = "abcd"
SETTINGS = Settings(checkpoint_every=2)
ROUNDS = 120  # of one life


class Group:
    """Four members; the messages of `liar` are bent on their way, and sent again later."""

    def __init__(self, kind: Kind, seed: int) -> None:
        self.random = Random(f"{kind.__name__} {seed}")  # noqa: S311
        self.liar = self.random.choice(HOSTS)
        self.now = 0.0
        self.post: list[tuple[str, str, bytes]] = []
        self.heard = [messages.encode(messages.Status(1, 0, True))]  # what was ever sent
        self.votes: dict[tuple[str, str, int, int], bytes] = {}  # of honest ones: sender, kind, height, view
        self.faults = self.taken = 0
        members = make_members(4, names=HOSTS)
        self.chains = {host: TwinChain(members) for host in HOSTS}
        self.engines = {
            host: kind(host, FastKey(host), self.chains[host], {}, SETTINGS, None, fast_verify) for host in HOSTS
        }
        self.blocks: dict[str, list[Any]] = {host: [] for host in HOSTS}
        for host, engine in self.engines.items():
            self.perform(host, engine.start(self.now, self.wall))

    @property
    def wall(self) -> int:
        return 2_000_000 + int(self.now * 1000)

    @property
    def honest(self) -> list[str]:
        return [host for host in HOSTS if host != self.liar]

    def perform(self, host: str, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(to=to, message=message):
                    self.heard.append(message)
                    self.note(host, messages.decode(message, host))
                    self.post += [(host, each, message) for each in HOSTS if each != host and to in (None, each)]
                case Decide(block=block, certificate=certificate):
                    self.blocks[host].append((block, certificate))
                case Serve(to=to, first=first, last=last):
                    served = self.blocks[host][first - 1 : last]
                    self.post.append((host, to, messages.encode_blocks(served)))
                case Admit(transaction=raw):
                    self.tell(raw, host)

    def note(self, host: str, content: Content) -> None:
        if isinstance(content, Vote) and host != self.liar:
            ballot = content.ballot
            place = host, ballot.kind, ballot.height, ballot.view
            assert self.votes.setdefault(place, ballot.digest) == ballot.digest, f"{place} voted twice"

    def tell(self, raw: bytes, host: str) -> None:
        try:
            new = self.chains[host].take(raw)
        except (UnicodeDecodeError, ValueError):
            return  # the twin's transactions are words
        if new and raw.isascii() and raw.split():
            self.perform(host, self.engines[host].command([raw], self.now, self.wall))
        elif new:
            del self.chains[host].waiting[raw]

    def hand(self, sender: str, to: str, raw: bytes) -> None:
        engine = self.engines[to]
        before = kept(engine)
        try:
            effects = engine.message(sender, raw, self.now, self.wall)
        except PeerFault as fault:
            assert sender == self.liar, f"{to} blames {fault}"
            assert fault.peer == sender, f"{to} blames {fault.peer} for what {sender} sent"
            assert kept(engine) == before, f"{to} refuses it, and yet it changed: {fault}"
            self.faults += 1
            return
        self.taken += sender == self.liar
        self.perform(to, effects)

    def lie(self) -> None:
        """To everybody the same, or not."""
        sample = self.random.choice(self.heard[-40:] if self.random.random() < 0.7 else self.heard)
        raw = self.bent(sample)
        for to in self.random.sample(self.honest, self.random.randint(1, 3)):
            self.hand(self.liar, to, raw)

    def bent(self, sample: bytes) -> bytes:
        """With the liar's own signature where it can give one."""
        if self.random.random() < 0.3:
            return bend(sample, self.random)
        content, key = messages.decode(sample, "a sample"), FastKey(self.liar)
        match content:
            case Vote(ballot=ballot):
                other = self.changed(ballot, Ballot)
                return messages.encode(Vote(other, key.sign(VOTE_DOMAIN, other.encode())))
            case ChangeView(signed=signed, block=block):
                return messages.encode(ChangeView(self.resigned(signed), block if self.random.random() < 0.8 else None))
            case EnterView(signed=signed):
                return messages.encode(EnterView(self.resigned(signed)))
        return bend(sample, self.random)

    def changed(self, value: Any, kind: type) -> Any:
        """A value of the same kind; the same when no good one was found."""
        for _ in range(5):
            try:
                return codec.decode_canonical(bend(codec.encode(value), self.random), kind)
            except PeerFault:
                continue
        return value

    def resigned(self, signed: Signed) -> Signed:
        key, standing = FastKey(self.liar), self.engines[self.liar]._at
        domains = (standing.view_change_domain, NEW_VIEW_DOMAIN)
        domain = next(each for each in domains if fast_verify(signed.signer, each, signed.body, signed.signature))
        kind = messages.NewView if domain == NEW_VIEW_DOMAIN else standing.view_change
        body = codec.decode(signed.body, kind)
        if self.random.random() < 0.7:
            body = replace(body, host=self.liar)
        if self.random.random() < 0.7:
            body = self.changed(body, kind)
        raw = codec.encode(body)
        return Signed(key.public, raw, key.sign(domain, raw))

    def live(self, rounds: int, lies: bool = True) -> None:
        for number in range(rounds):
            if self.random.random() < 0.1:
                raw = f"pay {number} {self.random.random()}".encode()
                for host in HOSTS:
                    self.tell(raw, host)
            for _ in range(self.random.randrange(12)):
                if self.post:
                    sender, to, message = self.post.pop(self.random.randrange(len(self.post)))
                    if sender != self.liar or self.random.random() < 0.5:
                        self.hand(sender, to, message)
            if lies:
                self.lie()
            if self.random.random() < 0.15:
                self.now += self.random.choice((0.1, 0.6, 2.5))
                for host, engine in self.engines.items():
                    self.perform(host, engine.tick(self.now, self.wall))

    def settle(self) -> None:
        """The liar is silent from now on: what waits is decided by the others."""
        self.post = [letter for letter in self.post if letter[0] != self.liar]
        for host in self.honest:
            self.tell(b"pay at last", host)
        for _ in range(4000):
            if all(b"pay at last" in self.chains[host].decided for host in self.honest):
                return
            while self.post:
                sender, to, message = self.post.pop(0)
                if self.liar not in (sender, to):
                    self.hand(sender, to, message)
            self.now += 0.5
            for host in self.honest:
                self.perform(host, self.engines[host].tick(self.now, self.wall))
        raise AssertionError("the honest members decide nothing any more")

    def check(self) -> None:
        """One chain, and no more kept than the bounds allow."""
        longest = max((self.blocks[host] for host in self.honest), key=len)
        for host in self.honest:
            own = [block.digest() for block, _ in self.blocks[host]]
            assert own == [block.digest() for block, _ in longest[: len(own)]]
            engine = self.engines[host]
            assert all(len(votes) <= VOTES for votes in engine._held._votes.values())
            assert len(engine._held._proposals) <= 4 and len(engine._at.changes.all()) <= 4
            assert len(engine._at.new_views) <= 4 and len(engine._catch_up._claims) <= 4
            assert len(repr(kept(engine))) < 2_000_000


def kept(engine: NormalCase[Any]) -> str:
    """All that its votes depend on, promises and what it counts."""
    at, held = engine._at, engine._held
    return repr(
        (at.record, at.proposal, at.prepared, at.fence, at.votes._first, at.late._first, at.changes._latest,
         at.new_views, held._proposals, {sender: votes for sender, votes in held._votes.items() if votes}, at.height)
    )  # fmt: skip


def life(kind: Kind, seed: int, rounds: int = ROUNDS) -> Group:
    group = Group(kind, seed)
    group.live(rounds)
    group.check()
    group.settle()
    group.check()
    return group


@pytest.mark.parametrize("kind", [Ipbft, Pbft])
def test_whatever_a_member_sends_it_is_named_or_does_no_harm(kind: Kind) -> None:
    groups = [life(kind, seed) for seed in range(4)]
    assert min(group.faults for group in groups) > 20 and min(group.taken for group in groups) > 20
    assert any(group.engines[group.honest[0]].view > 0 for group in groups)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Ipbft, Pbft])
@pytest.mark.parametrize("part", range(2))
def test_the_same_for_longer(kind: Kind, part: int) -> None:
    for seed in range(100 + 10 * part, 110 + 10 * part):
        life(kind, seed, 3 * ROUNDS)


# Broken ones


class CountsBeforeItLooks(Ipbft):
    def _on_vote(self, sender: str, vote: Vote) -> None:
        self._at.votes.add(sender, vote)
        super()._on_vote(sender, vote)


class Fragile(Ipbft):
    """Does not expect names that it does not know."""

    def _on_vote(self, sender: str, vote: Vote) -> None:
        {"prepare": 1, "commit": 2}[vote.ballot.kind]
        super()._on_vote(sender, vote)


class Hoards(Ipbft):
    """Remembers all that was ever claimed."""

    def _on_status(self, sender: str, status: messages.Status) -> None:
        self._catch_up.heard(f"{sender} {status.height}", status.height, self._at.best.header.height, self._now)
        super()._on_status(sender, status)


@pytest.mark.parametrize(
    ("kind", "error"), [(CountsBeforeItLooks, Misuse), (Fragile, KeyError), (Hoards, AssertionError)]
)
def test_a_broken_engine_is_found(kind: Kind, error: type[Exception]) -> None:
    with pytest.raises(error):
        for seed in range(10):
            life(kind, seed)
