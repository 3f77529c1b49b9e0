"""Schedules about votes (clauses 1 to 5): who counts, what is remembered, what is believed. See ipbft_stories.

A Byzantine host's own replica is not asked here: what it says is made by hand.
"""

import msgspec

from ledger.certificate import COMMIT, PREPARE
from ledger.consensus.messages import Blocks, ChangeView, EnterView, Propose, Vote
from ledger.simulation import Mutant
from tests.helpers.ipbft_handmade import fresh_block, propose, support, view_change
from tests.helpers.ipbft_script import Script
from tests.helpers.ipbft_stories import a_decides_alone, suspect


def two_quorums_share_an_honest_host(mutant: Mutant) -> Script:
    """Of five members a is Byzantine, and gives b and c another block than d and e: three of five are too few."""
    script = Script(5, mutant)
    for text, half in ((b"one", "bc"), (b"two", "de")):
        block = fresh_block(script, text, "a")
        propose(script, "a", block, 0, *half)
        support(script, "a", block, 0, "prepare commit", *half)
        script.mingle(half)
    return script


def nobody_counts_twice(mutant: Mutant) -> Script:
    """a is Byzantine, and tells b and c each another block, and every vote for it twice."""
    script = Script(4, mutant)
    for text, host in ((b"one", "b"), (b"two", "c")):
        block = fresh_block(script, text, "a")
        propose(script, "a", block, 0, host)
        support(script, "a", block, 0, "prepare prepare commit commit", host)
    return script


def votes_outlive_a_restart(mutant: Mutant) -> Script:
    """a is Byzantine. b votes for "one", which c prepares; then b restarts and hears of "two", which d decides."""
    script = Script(4, mutant)
    one, two = fresh_block(script, b"one", "a"), fresh_block(script, b"two", "a")
    propose(script, "a", one, 0, "b", "c")
    support(script, "a", one, 0, "prepare", "c")
    script.deliver(Vote, to="c", sender="b", vote=PREPARE)
    script.crash("b")
    script.boot("b")
    script.drop()
    propose(script, "a", two, 0, "b", "d")
    support(script, "a", two, 0, "prepare", "b", "d")
    script.deliver(Vote, to="bd", sender="bd", vote=PREPARE)
    support(script, "a", two, 0, "commit", "d")
    script.deliver(Vote, to="d", sender="b", vote=COMMIT)
    script.crash("d")
    script.tell(b"three", "b", "c")
    suspect(script, "b", "c")
    script.hand("a", "b", view_change(script, "a", view=1))
    script.deliver(ChangeView, to="b", sender="c")
    script.drop()  # nobody hears of b's view 1
    suspect(script, "b")
    script.hand("a", "c", view_change(script, "a", view=2))
    script.deliver(ChangeView, to="c", sender="b")
    script.deliver((EnterView, Propose), to="b", sender="c")
    support(script, "a", one, 2, "prepare commit", "b", "c")
    script.mingle("bc")
    return script


def views_outlive_a_restart(mutant: Mutant) -> Script:
    """c and d have asked for view 1, and restart; then comes what a proposed in view 0."""
    script = Script(4, mutant)
    script.tell(b"one", "a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.deliver(ChangeView, to="b", sender="cd")
    script.crash("c", "d")
    script.boot("c")
    script.boot("d")
    script.deliver(Propose, to="cd", sender="a")
    script.deliver(Vote, to="acd", sender="acd", vote=PREPARE)
    script.deliver(Vote, to="a", sender="cd", vote=COMMIT)
    script.crash("a")
    script.mingle("bcd")
    return script


def no_peer_is_believed(mutant: Mutant) -> Script:
    """a is Byzantine, and says to c alone that "one" is decided; the others decide "two" with it."""
    script = Script(4, mutant)
    one, two = fresh_block(script, b"one", "a"), fresh_block(script, b"two", "a")
    propose(script, "a", one, 0, "c")
    support(script, "a", one, 0, "commit", "c")
    propose(script, "a", two, 0, "b", "d")
    support(script, "a", two, 0, "prepare commit", "b", "d")
    script.mingle("bd")
    return script


def kept_while_time_passes(mutant: Mutant) -> Script:
    """a has decided and is cut off. b and c wait for a long time before d is there and the view can change."""
    script = Script(4, mutant)
    a_decides_alone(script)
    script.crash("a", "d")
    for _ in range(3):
        script.wait(60, "b", "c")
        script.drop()
    script.boot("d")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    return script


def kept_whatever_the_date_of_a_message(mutant: Mutant) -> Script:
    """d is Byzantine, and sends b and c a block of a later date than the one that they have prepared."""
    script = Script(4, mutant)
    a_decides_alone(script)
    block = fresh_block(script, b"late", "d")
    later = msgspec.structs.replace(block.header, timestamp=block.header.timestamp + 5_000)
    propose(script, "d", msgspec.structs.replace(block, header=later), 3, "b", "c")
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    return script


def left_for_good_while_catching_up(mutant: Mutant) -> Script:
    """d is Byzantine and votes in the views 0 and 1. c has asked for view 1; then it fetches block 1, of view 0."""
    script = Script(4, mutant)
    script.tell(b"one", "a")
    script.settle("abd")
    script.tell(b"two", "a")
    block = next(letter.content.block for letter in script.waiting(Propose))
    script.tell(b"three", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.deliver(ChangeView, to="b", sender="cd")
    script.hand("a", "c", Blocks((script.nodes["a"].disk.blocks[0],)))
    script.deliver(Propose, to="c", sender="a")
    support(script, "d", block, 0, "prepare", "a", "c")
    script.deliver(Vote, to="ac", sender="ac", vote=PREPARE)
    support(script, "d", block, 0, "commit", "a")
    script.deliver(Vote, to="a", sender="c", vote=COMMIT)
    script.crash("a")
    script.mingle("bcd")
    return script
