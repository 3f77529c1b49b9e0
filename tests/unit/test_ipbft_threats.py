"""What a Byzantine member may try, each in a few lines. docs/ledger-tests.md says where the others are shown."""

import msgspec
import pytest

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, Certificate
from ledger.consensus.ipbft.view_change import VIEW_CHANGE_DOMAIN, ViewChange
from ledger.consensus.messages import (
    NEW_VIEW_DOMAIN,
    Blocks,
    ChangeView,
    Content,
    EnterView,
    Fetch,
    NewView,
    Propose,
    Status,
    Vote,
)
from tests.helpers.ipbft_handmade import fresh_block, propose, sign, support, view_change, vote
from tests.helpers.ipbft_script import WALL, Script
from tests.helpers.ipbft_stories import a_decides_alone, suspect

MINUTE = 60


def votes_of(script: Script, host: str) -> list[Vote]:
    return [letter.content for letter in script.waiting(Vote) if letter.sender == host]


def decide(script: Script, text: bytes, hosts: str = "abcd") -> None:
    script.tell(text, *hosts)
    script.settle(hosts)


# The primary


@pytest.mark.parametrize(("height", "view"), [(1, 1), (1, 10**9), (0, 0), (3, 0), (10**9, 0), (2**63, 2**63)])
def test_a_proposal_for_another_height_or_view_gets_no_vote(height: int, view: int) -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "a")
    moved = msgspec.structs.replace(block.header, height=height)
    propose(script, "a", Block(moved, block.transactions), view, "b")
    assert votes_of(script, "b") == []
    propose(script, "a", block, 0, "b")
    assert len(votes_of(script, "b")) == 3


@pytest.mark.parametrize("transactions", [(b"old",), (b"new", b"old"), (b"new", b"new"), ()])
def test_a_block_with_a_transaction_that_has_run_or_stands_in_it_twice_is_refused(transactions: tuple[bytes]) -> None:
    script = Script(4)
    decide(script, b"old")
    propose(script, "a", script.nodes["a"].chain.block(transactions, WALL + 1, "a"), 0, "b")
    assert "b blames a: proposed block 2 that is not valid" in script.blamed[0]
    assert votes_of(script, "b") == []


def test_a_body_that_only_one_was_sent_is_carried_on_or_given_up_by_the_next_primary() -> None:
    script = Script(4)
    propose(script, "a", fresh_block(script, b"one", "a"), 0, "c")
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    assert [script.decided(host) for host in "bcd"] == [[(b"two",)]] * 3
    assert script.checker.faults == script.blamed == []


# Votes


def test_votes_for_different_blocks_do_not_add_up() -> None:
    script = Script(4)
    one, two = fresh_block(script, b"one", "a"), fresh_block(script, b"two", "a")
    propose(script, "a", one, 0, "b")
    support(script, "a", one, 0, "prepare", "b")
    support(script, "c", two, 0, "prepare commit", "b")
    support(script, "d", two, 0, "prepare commit", "b")
    assert {each.ballot.kind for each in votes_of(script, "b")} == {PREPARE}
    assert script.height("b") == 0


# The view change


def test_one_that_asks_for_a_far_view_moves_nobody() -> None:
    script = Script(4)
    for view in (1, 7, 10**9, 2**62):
        for host in "abc":
            script.hand("d", host, view_change(script, "d", view))
    assert [script.nodes[host].engine.view for host in "abc"] == [0, 0, 0]
    decide(script, b"one")
    assert [script.height(host) for host in "abc"] == [1, 1, 1]


def test_f_plus_1_move_everybody_to_a_view_that_an_honest_one_asks_for() -> None:
    script = Script(4)
    script.hand("d", "b", view_change(script, "d", 10**9))
    script.hand("c", "b", view_change(script, "c", 2))
    assert script.nodes["b"].engine.view == 2


def changed(script: Script, host: str, **changes: object) -> ChangeView:
    genesis = script.nodes[host].chain.best.header
    change = msgspec.structs.replace(ViewChange(genesis.chain, 0, 1, host, genesis, None, None), **changes)
    return ChangeView(sign(host, VIEW_CHANGE_DOMAIN, change), None)


def test_one_that_says_that_it_is_higher_must_show_it() -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "d")
    ballot = vote(script, "d", COMMIT, 0, block).ballot
    short = Certificate(ballot, (("d", vote(script, "d", COMMIT, 0, block).signature),))
    forged = Certificate(ballot, tuple((host, bytes(64)) for host in "abd"))
    other = Certificate(msgspec.structs.replace(ballot, digest=bytes(32)), forged.signatures)
    for certificate, reason in (
        (None, "no certificate of its best block"),
        (short, "1 signatures; 3 are needed"),
        (forged, "does not hold"),
        (other, "of another block"),
    ):
        script.blamed.clear()
        script.hand("d", "b", changed(script, "d", committed=block.header, certificate=certificate))
        assert reason in script.blamed[0]
        assert script.nodes["b"].engine._at.changes.of("d") is None


@pytest.mark.parametrize(
    ("kind", "height", "view", "reason"),
    [
        (PREPARE, 2, 0, "not of a prepare at height 1"),
        (PREPARE, 0, 0, "not of a prepare at height 1"),
        (COMMIT, 1, 0, "not of a prepare at height 1"),
        (PREPARE, 1, 1, "no earlier view"),
        (PREPARE, 1, 0, "false certificate"),
    ],
)
def test_a_prepared_certificate_of_something_else_or_with_one_name_twice_is_refused(
    kind: str, height: int, view: int, reason: str
) -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "d")
    good = vote(script, "d", PREPARE, 0, block)
    ballot = msgspec.structs.replace(good.ballot, kind=kind, height=height, view=view)
    certificate = Certificate(ballot, (("d", good.signature),) * 3)
    message = changed(script, "d", prepared=certificate)
    script.hand("d", "b", msgspec.structs.replace(message, block=block))
    assert reason in script.blamed[0]
    assert script.nodes["b"].engine._at.changes.of("d") is None


def test_one_that_shows_each_host_another_view_change_for_one_view_gains_nothing() -> None:
    """d has prepared "one" with b and c, and a has decided it: d shows that to b, and hides it from c."""
    script = Script(4)
    script.tell(b"one", "a")
    script.deliver(Propose)
    script.deliver(Vote, vote=PREPARE)
    script.deliver(Vote, to="a", vote=COMMIT)
    script.crash("a")
    script.drop()
    script.tell(b"two", "b", "c")
    suspect(script, "b", "c")
    script.hand("d", "b", view_change(script, "d", 1))
    script.hand("d", "c", view_change(script, "d", 1))
    script.nodes["d"].up = False
    script.mingle("bc")
    block = script.nodes["a"].disk.blocks[0][0]
    support(script, "d", block, 1, "prepare commit", "b", "c")
    script.mingle("bc")
    assert [script.decided(host)[0] for host in "abc"] == [(b"one",)] * 3
    assert script.checker.faults == []


def test_a_bad_new_view_is_refused_and_its_maker_named() -> None:
    script = Script(4)
    a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.deliver(ChangeView, to="b")
    honest = codec.decode(script.waiting(EnterView)[0].content.signed.body, NewView)
    script.drop()
    three = honest.view_changes
    other_view = view_change(script, "d", 2).signed
    for host, changes, reason in (
        ("b", {"view_changes": three[:2]}, "of 2 members; 3 are needed"),
        ("b", {"view_changes": (three[0], three[0], three[1])}, "of 2 members; 3 are needed"),
        ("b", {"view_changes": (*three[:2], other_view)}, "VIEW-CHANGE for another view"),
        ("b", {"forced": ()}, "another choice"),
        ("b", {"forced": ((1, bytes(32)),)}, "another choice"),
        ("b", {"members_version": 1}, "another membership version"),
        ("d", {"host": "d"}, "who does not lead view 1"),
    ):
        script.blamed.clear()
        bad = msgspec.structs.replace(honest, **changes)
        script.hand(host, "c", EnterView(sign(host, NEW_VIEW_DOMAIN, bad)))
        assert reason in script.blamed[0]
        assert not script.nodes["c"].engine._at.active
    higher = msgspec.structs.replace(honest, height=1)
    script.hand("b", "c", EnterView(sign("b", NEW_VIEW_DOMAIN, higher)))
    assert "b" in script.nodes["c"].engine._at.new_views  # it can be judged when block 1 is here
    assert not script.nodes["c"].engine._at.active


# Catching up


def served(script: Script, *pairs: tuple[Block, Certificate]) -> str:
    script.blamed.clear()
    script.hand("d", "b", Blocks(pairs))
    return script.blamed[0] if script.blamed else ""


def test_blocks_that_were_not_decided_are_not_appended() -> None:
    script = Script(4)
    decide(script, b"one", "acd")
    decide(script, b"two", "acd")
    (one, proof), (two, _) = script.nodes["a"].disk.blocks
    other = msgspec.structs.replace(one.header, timestamp=one.header.timestamp + 1)
    foreign = msgspec.structs.replace(one.header, chain=bytes(32))
    assert "2 signatures" in served(script, (one, Certificate(proof.ballot, proof.signatures[:2])))
    assert "twice" in served(script, (one, Certificate(proof.ballot, (proof.signatures[0],) * 3)))
    assert "something else" in served(script, (Block(other, one.transactions), proof))
    assert "something else" in served(script, (Block(foreign, one.transactions), proof))
    assert "other transactions" in served(script, (Block(one.header, (b"more",)), proof))
    assert "something else" in served(script, (one, script.nodes["a"].disk.blocks[1][1]))
    assert served(script, (two, proof)) == ""  # from above: it may answer what was asked before a restart
    assert script.height("b") == 0
    assert served(script, (one, proof), (two, proof)) == ""  # a good beginning is kept
    assert script.height("b") == 1
    assert served(script, (one, proof)) == ""  # old ones are no harm
    assert script.checker.faults == []


def test_who_says_that_it_is_higher_and_serves_nothing_costs_one_question_in_turn() -> None:
    script = Script(4)
    decide(script, b"one", "acd")
    asked: list[str] = []
    for tip in range(12):
        script.hand("d", "b", Status(1000 + tip, 0, True))  # and its tip moves on all the time
        script.hand("a", "b", Status(1, 0, True))
        script.wait(1, "b")
        asked += [letter.to for letter in script.waiting(Fetch)]
        script.drop()
    assert asked.count("d") <= asked.count("a") + 1 and len(asked) <= 12
    script.hand("a", "b", Status(1, 0, True))
    for _ in range(3):
        script.wait(1, "b")
        script.mingle("abc")
    assert script.height("b") == 1


def test_one_that_asks_for_the_same_blocks_again_and_again_is_served_now_and_then() -> None:
    script = Script(4)
    decide(script, b"one")
    for _ in range(100):
        script.hand("d", "b", Fetch(1))
    assert len(script.waiting(Blocks)) == 1
    script.hand("d", "b", Fetch(0))
    script.hand("d", "b", Fetch(2**63))
    assert len(script.waiting(Blocks)) == 1
    script.wait(MINUTE)
    script.hand("d", "b", Fetch(1))
    assert len(script.waiting(Blocks)) == 2


def test_all_that_was_said_comes_again_and_changes_nothing() -> None:
    script = Script(4)
    said: list[tuple[str, str, Content]] = []
    hand = script.hand

    def recorded(sender: str, to: str, content: Content | bytes) -> None:
        assert not isinstance(content, bytes)
        said.append((sender, to, content))
        hand(sender, to, content)

    script.hand = recorded  # type: ignore[method-assign]
    a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    before = [(script.height(host), script.nodes[host].engine.view) for host in "bcd"]
    assert before == [(2, 1)] * 3 and len(said) > 30
    for each in said:
        if each[1] in "bcd":
            hand(*each)
    script.settle("bcd")
    assert [(script.height(host), script.nodes[host].engine.view) for host in "bcd"] == before
    assert script.checker.faults == script.blamed == script.accused == []
