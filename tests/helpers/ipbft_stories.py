"""Schedules in which one clause of the rule decides whether the chain forks. Each takes the rule, whole or broken.

In all of them `a` alone decides a block, and must not be contradicted by the others.
"""

from collections.abc import Callable

from ledger.certificate import COMMIT, PREPARE, Certificate
from ledger.consensus.messages import Blocks, ChangeView, EnterView, Propose, Vote
from ledger.simulation import Mutant
from tests.helpers.ipbft_handmade import fresh_block, new_view, propose, support, view_change, vote
from tests.helpers.ipbft_script import Script


def a_decides_alone(script: Script) -> None:
    """Block 1 with "one": prepared by a, b and c, decided by a. d has heard of nothing."""
    script.tell(b"one", "a")
    script.deliver(Propose, to="bc")
    script.deliver(Vote, to="abc", vote=PREPARE)
    script.deliver(Vote, to="a", vote=COMMIT)
    script.drop()
    assert [script.height(host) for host in "abcd"] == [1, 0, 0, 0]


def suspect(script: Script, *hosts: str) -> None:
    """They wait until they ask for the next view. Their messages wait."""
    script.wait(1, *hosts)
    script.wait(9, *hosts)


def carried(mutant: Mutant) -> Script:
    """Clause 6: the VIEW-CHANGEs of b and c carry what they have prepared."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    return script


def carried_across_restarts(mutant: Mutant) -> Script:
    """Clause 2: the prepared certificate is durable."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.crash("a", "b", "c")
    script.boot("b")
    script.boot("c")
    script.drop()
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    return script


def synchronised_first(mutant: Mutant) -> Script:
    """Clause 7: b learns from a's VIEW-CHANGE that block 1 is decided, and cannot reach a again."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.tell(b"two", "a", "b", "c")
    suspect(script, "a", "b", "c")
    script.deliver(ChangeView, to="b", sender="ac")
    script.settle("bcd")
    return script


def highest_view_wins(mutant: Mutant) -> Script:
    """Clause 7: c has prepared "one" in view 0; a decided "two" in view 1; c leads view 2."""
    script = Script(4, mutant)
    script.tell(b"one", "a")
    script.deliver(Propose, to="cd")
    script.deliver(Vote, to="c", vote=PREPARE)
    script.drop()
    script.tell(b"two", "b", "d")
    suspect(script, "a", "b", "d")
    script.deliver(ChangeView, to="abd", sender="abd")
    script.deliver(EnterView, to="ad")
    script.deliver(Propose, to="ad")
    script.deliver(Vote, to="abd", vote=PREPARE)
    script.deliver(Vote, to="a", vote=COMMIT)
    assert script.decided("a") == [(b"two",)]
    script.drop()
    script.crash("a")
    suspect(script, "b", "d")
    script.settle("bcd")
    return script


def recomputed_by_followers(mutant: Mutant) -> Script:
    """Clause 8: b is Byzantine and leads view 1 with a NEW-VIEW that hides what c has prepared."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "c", "d")
    suspect(script, "c", "d")
    theirs = {letter.sender: letter.content for letter in script.waiting(ChangeView) if letter.to == "b"}
    script.drop()
    own = view_change(script, "b", view=1)
    lie = new_view(script, "b", 1, [own.signed, *(theirs[host].signed for host in "cd")])
    block = fresh_block(script, b"two", "b")
    for host in "cd":
        script.hand("b", host, lie)
    propose(script, "b", block, 1, "c", "d")
    support(script, "b", block, 1, "prepare commit", "c", "d")
    script.settle("cd")
    return script


def forged_certificate_refused(mutant: Mutant) -> Script:
    """Clause 7: d is Byzantine and claims to have prepared another block in view 1."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "b", "c")
    suspect(script, "b", "c")
    for host in "bc":
        script.hand("d", host, view_change(script, "d", view=1))
    script.deliver(ChangeView, to="bc", sender="bc")
    script.drop()
    suspect(script, "b", "c")  # view 1 was b's, and c has heard nothing of it
    block = fresh_block(script, b"three", "d")
    ballot = vote(script, "d", PREPARE, 1, block).ballot
    forged = Certificate(ballot, tuple((host, bytes(64)) for host in "abd"))
    for host in "bc":
        script.hand("d", host, view_change(script, "d", view=2, prepared=forged, block=block))
        script.hand("d", host, vote(script, "d", COMMIT, 2, block))
    script.deliver(ChangeView, to="c", sender="b")
    script.deliver(EnterView, to="b")
    script.deliver(Propose, to="b")
    for host in "bc":
        script.hand("d", host, vote(script, "d", PREPARE, 2, block))
    script.settle("bc")
    return script


def left_for_good(mutant: Mutant) -> Script:
    """Clause 5: the proposal of view 0 reaches c when c has asked for view 1."""
    script = Script(4, mutant)
    script.tell(b"one", "a", "c")
    suspect(script, "c")
    script.deliver(Propose, to="c")
    return script


def no_block_without_certificate(mutant: Mutant) -> Script:
    """Clause 3: d is Byzantine and serves a block that nobody decided."""
    script = Script(4, mutant)
    a_decides_alone(script)
    block = fresh_block(script, b"three", "d")
    forged = Certificate(vote(script, "d", COMMIT, 0, block).ballot, tuple((host, bytes(64)) for host in "abd"))
    script.hand("d", "b", Blocks(((block, forged),)))
    return script


Story = Callable[[Mutant], Script]
