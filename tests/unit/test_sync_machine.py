"""Catching up from peers of whom some lie: never an undecided block, and always to the end while one is honest."""

from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from ledger import snapshot
from ledger.block import Block, transactions_root
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.consensus import messages, normal_case
from ledger.consensus.catch_up import CatchUp
from ledger.consensus.engine import Decide, Effect, Send, Serve
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Blocks, Fetch, Status
from ledger.consensus.normal_case import NormalCase
from ledger.consensus.pbft import Pbft
from ledger.consensus.settings import Settings
from ledger.errors import PeerFault
from ledger.light import LightClient
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members
from tests.helpers.mutations import bend
from tests.helpers.shown_chain import ShownChain

Pair = tuple[Block, Certificate]
HONEST, LIARS = "c", ("a", "b", "d", "e")
SETTINGS = Settings(batch=8)
QUICK = settings(
    derandomize=True, database=None, deadline=None, max_examples=12, stateful_step_count=40,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=100, stateful_step_count=60)


class History:
    """A chain that was decided; some blocks change the members."""

    def __init__(self, names: str = "abcd") -> None:
        self.chain = TwinChain(make_members(4, names=names))
        self.members = [self.chain.members()]  # who decide the next height, by how many there are
        self.pairs: list[Pair] = []

    def grow(self, change: bool = False) -> None:
        height, members = len(self.pairs) + 1, self.chain.members()
        joins = next(name for name in "de" if all(member.host != name for member in members.members))
        text = f"members a b c {joins}={height}" if change else f"pay {height}"
        block = self.chain.block((text.encode(),), self.chain.best.header.timestamp + 1, "a")
        certificate = signed(members, block, [member.host for member in members.members[: members.quorum]])
        self.chain.append(block, certificate)
        self.members.append(self.chain.members())
        self.pairs.append((block, certificate))


def signed(members: Members, block: Block, hosts: list[str], kind: str = COMMIT) -> Certificate:
    ballot = Ballot(block.header.chain, members.version, kind, block.header.height, 0, block.digest())
    signatures = ((host, FastKey(host).sign(VOTE_DOMAIN, ballot.encode())) for host in sorted(hosts))
    return Certificate(ballot, tuple(signatures))


def lies(members: Members, pair: Pair, foreign: Pair) -> dict[str, list[Pair]]:
    """What may stand in the place of `pair`, the next decided block, by who has no more than one member's key."""
    block, certificate = pair
    header = block.header
    other = Block(replace(header, timestamp=header.timestamp + 5), block.transactions)
    lonely = signed(members, other, ["a"])
    (first, *rest) = certificate.signatures
    return {
        "another block under the certificate of this": [(other, certificate)],
        "other transactions": [(Block(header, (b"steal",)), certificate)],
        "no transactions": [(Block(header, ()), certificate)],
        "one signature": [(other, lonely)],
        "one signature, many times": [(other, replace(lonely, signatures=lonely.signatures * 5))],
        "strangers": [(other, signed(members, other, ["x", "y", "z"]))],
        "signatures of something else": [(other, replace(lonely, signatures=certificate.signatures))],
        "too few": [(block, replace(certificate, signatures=tuple(rest)))],
        "prepared, not committed": [(block, signed(members, block, ["a", "b", "c"], PREPARE))],
        "another membership": [(block, replace(certificate, ballot=replace(certificate.ballot, members_version=77)))],
        "another chain": [foreign],
        "a gap": [(Block(replace(header, height=header.height + 1), block.transactions), certificate)],
        "another parent": [(Block(replace(header, parent=bytes(32)), block.transactions), certificate)],
        "a bent signature": [(block, replace(certificate, signatures=((first[0], bytes(64)), *rest)))],
        "a huge one": [huge(block, members)],
        "nothing": [],
    }


def huge(block: Block, members: Members) -> Pair:
    transactions = (bytes(300_000),)
    body = Block(replace(block.header, transactions_root=transactions_root(transactions)), transactions)
    return body, signed(members, body, ["a"])


class CatchingUp(RuleBasedStateMachine):
    """An observer, z, which votes nothing: all it does is to follow."""

    engine_type: ClassVar[type[NormalCase[Any]]] = Ipbft

    def __init__(self) -> None:
        super().__init__()
        self.history, self.foreign = History(), History("stuv")
        self.chain = TwinChain(make_members(4, names="abcd"))
        self.engine = self.engine_type("z", FastKey("z"), self.chain, {}, SETTINGS, None, fast_verify)
        self.now = 0.0
        self.decided: list[Pair] = []
        self.asked: list[tuple[str, int]] = []
        self.perform(self.engine.start(self.now, self.wall))

    @property
    def wall(self) -> int:
        return 2_000_000 + int(self.now * 1000)

    @property
    def missing(self) -> list[Pair]:
        return self.history.pairs[len(self.decided) :]

    def perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Decide(block=block, certificate=certificate):
                    self.decided.append((block, certificate))
                case Send(to=str(to), message=message):
                    content = messages.decode(message, "z")
                    if isinstance(content, Fetch):
                        self.asked.append((to, content.first))
                case Serve():
                    raise AssertionError("z was asked for nothing")

    def hear(self, sender: str, content: messages.Content) -> str | None:
        """Whom it blames."""
        try:
            self.perform(self.engine.message(sender, messages.encode(content), self.now, self.wall))
        except PeerFault as fault:
            return fault.peer
        return None

    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.perform(self.engine.tick(self.now, self.wall))

    # What happens

    @rule(blocks=st.integers(1, 20), change=st.booleans())
    def others_decide(self, blocks: int, change: bool) -> None:
        for number in range(blocks):
            for history in (self.history, self.foreign):
                history.grow(change and number == blocks - 1)

    @rule()
    def the_honest_one_says_where_it_is(self) -> None:
        assert self.hear(HONEST, Status(len(self.history.pairs), 0, True)) is None

    @rule(seconds=st.sampled_from([0.01, 0.3, 0.6, 3.0]))
    def time_passes(self, seconds: float) -> None:
        self.tick(seconds)

    @rule()
    def the_honest_one_answers(self) -> None:
        asked, self.asked = self.asked, []
        for peer, first in asked:
            if peer == HONEST:
                self.answer(first)

    def answer(self, first: int) -> None:
        """Truly, with a batch: all of it is taken."""
        batch = self.history.pairs[first - 1 : first - 1 + SETTINGS.batch]
        assert self.hear(HONEST, Blocks(tuple(batch))) is None
        assert len(self.decided) >= first - 1 + len(batch)

    @rule(liar=st.sampled_from(LIARS), height=st.sampled_from([0, 1, 50, 2**40, 2**63 - 1]), times=st.integers(1, 5))
    def a_liar_claims(self, liar: str, height: int, times: int) -> None:
        for _ in range(times):
            assert self.hear(liar, Status(height, 0, True)) is None

    @precondition(lambda self: self.missing)
    @rule(liar=st.sampled_from(LIARS), number=st.integers(0, 63), true=st.sampled_from([0, 0, 0, 1, 2]))
    def a_liar_sends_blocks(self, liar: str, number: int, true: int) -> None:
        """Some true ones first, maybe."""
        true = min(true, len(self.missing) - 1)
        self.lie(liar, number, true)

    def lie(self, liar: str, number: int, true: int = 0) -> None:
        before = len(self.decided)
        choice = lies(self.history.members[before + true], self.missing[true], self.foreign.pairs[before + true])
        name = sorted(choice)[number % len(choice)]
        blamed = self.hear(liar, Blocks((*self.missing[:true], *choice[name])))
        assert len(self.decided) == before + true, name
        harmless = not choice[name] or name == "a gap"  # so may an old answer be
        assert blamed == (None if harmless or true else liar), name

    @precondition(lambda self: self.decided)
    @rule(liar=st.sampled_from(LIARS), count=st.integers(1, 5))
    def a_liar_sends_what_is_known(self, liar: str, count: int) -> None:
        before = len(self.decided)
        self.hear(liar, Blocks(tuple(self.history.pairs[:count])))
        assert len(self.decided) >= before

    @rule(liar=st.sampled_from(LIARS), first=st.sampled_from([0, 1, 7, 2**63 - 1]))
    def a_liar_asks(self, liar: str, first: int) -> None:
        if not 0 < first <= len(self.decided):
            assert self.hear(liar, Fetch(first)) is None

    # What holds

    @invariant()
    def it_has_what_was_decided_and_nothing_else(self) -> None:
        assert self.decided == self.history.pairs[: len(self.decided)]
        assert self.chain.best.header.height == len(self.decided)

    @invariant()
    def it_remembers_no_more_than_one_thing_of_each(self) -> None:
        catch_up = self.engine._catch_up
        assert len(catch_up._claims) <= 5 and len(catch_up._served) <= 5
        assert len(self.asked) < 1000

    def teardown(self) -> None:
        """From now on liars answer each request with a lie, and go on claiming; one peer is honest."""
        self.others_decide(1, False)
        random = Random(len(self.decided))  # noqa: S311
        rounds = 40 + 3 * len(self.missing)
        for _ in range(rounds):
            if not self.missing:
                break
            self.the_honest_one_says_where_it_is()
            for liar in LIARS:
                self.a_liar_claims(liar, 2**62, 1)
            self.tick(SETTINGS.resend_every)
            asked, self.asked = self.asked, []
            for peer, first in asked:
                if peer == HONEST:
                    self.answer(first)
                elif self.missing:
                    self.lie(peer, random.randrange(64))
        assert not self.missing, "one honest peer was not enough"
        self.it_has_what_was_decided_and_nothing_else()


class CatchingUpWithPbft(CatchingUp):
    engine_type = Pbft


@pytest.mark.parametrize("machine", [CatchingUp, CatchingUpWithPbft])
def test_random_lives_of_a_follower(machine: type[CatchingUp]) -> None:
    run_state_machine_as_test(machine, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("machine", [CatchingUp, CatchingUpWithPbft])
def test_many_of_them(machine: type[CatchingUp]) -> None:
    run_state_machine_as_test(machine, settings=LONG)


# Broken ones


def believe(best: Block, members: Members, block: Block, *_: object) -> None:
    """A peer's word is enough."""
    if block.header.height != best.header.height + 1 or block.header.parent != best.digest():
        raise PeerFault("nobody", "does not fit")


class AsksTheHighest(CatchUp):
    """Whoever claims most."""

    def _higher(self, best: int) -> list[str]:
        return sorted(super()._higher(best), key=lambda host: -self._claims[host])[:1]


class NeverAsksAgain(CatchUp):
    def ask(self, best: int, now: float) -> str | None:
        return super().ask(best, now) if not self._asked else None


class OldMembers(Ipbft):
    """Verifies all blocks with the members that decide the first one."""

    def _on_blocks(self, sender: str, blocks: Blocks) -> None:
        members, check = self._at.members, normal_case.check_next
        normal_case.check_next = lambda best, _, *rest: check(best, members, *rest)
        try:
            super()._on_blocks(sender, blocks)
        finally:
            normal_case.check_next = check


@pytest.mark.parametrize("twin", ["a peer's word", "blames itself", "asks the highest", "asks once", "old members"])
def test_a_broken_follower_is_found(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = CatchingUp
    match twin:
        case "a peer's word":
            monkeypatch.setattr(normal_case, "check_next", believe)
        case "blames itself":
            check = normal_case.check_next
            monkeypatch.setattr(normal_case, "check_next", lambda *args: check(*args[:4], "z", args[5]))
        case "asks the highest":
            monkeypatch.setattr(normal_case, "CatchUp", AsksTheHighest)
        case "asks once":
            monkeypatch.setattr(normal_case, "CatchUp", NeverAsksAgain)
        case _:
            machine = type("Broken", (CatchingUp,), {"engine_type": OldMembers})
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=LONG)


# A state instead of blocks

SHOWN = ShownChain()
COPY = SHOWN.chain.copy()
OFFER = snapshot.Offer(COPY.block, COPY.certificate, COPY.state.level(snapshot.LEVEL), tuple(SHOWN.changes))


def test_a_bent_offer_is_true_or_its_sender_is_named() -> None:
    raw, random, refused = snapshot.encode(OFFER), Random(3), 0  # noqa: S311
    for _ in range(400):
        try:
            offer = snapshot.decode(bend(raw, random), "liar")
            assert isinstance(offer, snapshot.Offer | snapshot.Ask)
            if isinstance(offer, snapshot.Offer):
                offer.check("liar", LightClient(SHOWN.genesis))
                assert (offer.block, offer.nodes) == (OFFER.block, OFFER.nodes)
        except PeerFault as fault:
            assert fault.peer == "liar"
            refused += 1
    assert refused > 300


def test_nodes_of_other_lengths_are_no_offer() -> None:
    """Moved by a byte they would hash to the same."""
    one, two, *rest = OFFER.nodes
    for nodes in ((one + two[:1], two[1:], *rest), (one[:-1], one[-1:] + two, *rest), (one + two, b"", *rest)):
        with pytest.raises(PeerFault, match="liar: offers pieces"):
            replace(OFFER, nodes=nodes).check("liar", LightClient(SHOWN.genesis))
