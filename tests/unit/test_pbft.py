"""The baseline: what it does otherwise than the improved engine, and the stories that both must survive."""

import msgspec
import pytest

from ledger import codec
from ledger.certificate import COMMIT, PREPARE, VOTE_DOMAIN, Ballot, Certificate
from ledger.consensus.engine import Accuse
from ledger.consensus.messages import NEW_VIEW_DOMAIN, ChangeView, EnterView, NewView, Propose, Relay, Vote
from ledger.consensus.pbft import Pbft
from ledger.consensus.pbft.view_change import CHECKPOINT, VIEW_CHANGE_DOMAIN, ViewChange
from ledger.consensus.settings import Settings
from ledger.evidence import Evidence
from ledger.simulation import Mutant
from ledger.simulation.twins import fast_verify
from tests.helpers import ipbft_stories as stories
from tests.helpers.ipbft_handmade import fresh_block, sign, vote
from tests.helpers.ipbft_script import Script
from tests.helpers.ipbft_stories import suspect
from tests.helpers.pbft_mutants import MUTANTS

PBFT = Mutant(engine=Pbft)


def script_of(n: int = 4, every: int = 2, mutant: Mutant = PBFT) -> Script:
    return Script(n, mutant, Settings(checkpoint_every=every))


def decide(script: Script, count: int, hosts: str = "abcd") -> None:
    """`count` blocks at all of `hosts`, whose checkpoints are exchanged too."""
    for number in range(count):
        script.tell(b"block %d at %d" % (number, script.height("a")), "a")
        script.settle(hosts)


def view_change(script: Script, host: str, view: int, **changes: object) -> ChangeView:
    """From genesis, with nothing prepared."""
    chain = script.nodes[host].chain.best.header.chain
    change = msgspec.structs.replace(ViewChange(chain, 0, view, host, None, ()), **changes)
    return ChangeView(sign(host, VIEW_CHANGE_DOMAIN, change), None)


# Requests


def test_a_request_goes_to_the_primary_alone_and_starts_its_time() -> None:
    script = script_of()
    script.tell(b"one", "c")
    assert [(letter.to, letter.content) for letter in script.waiting(Relay)] == [("a", Relay((b"one",)))]
    script.crash("a")
    script.wait(Settings().view_timeout + 0.1, "c")
    assert {letter.content.signed.signer for letter in script.waiting(ChangeView)}


def test_three_message_delays_decide() -> None:
    script = script_of()
    script.tell(b"one", "a")
    assert script.deliver(Propose) == 3
    assert script.deliver(Vote, vote=PREPARE) == 12
    assert script.deliver(Vote, vote=COMMIT) == 12
    assert [script.height(host) for host in "abcd"] == [1, 1, 1, 1]
    assert script.post == []


# Checkpoints


def test_a_checkpoint_takes_an_exchange_and_then_what_was_kept_is_dropped() -> None:
    script = script_of(every=2)
    decide(script, 1)
    script.tell(b"two", "a")
    for kind in (PREPARE, COMMIT):
        script.deliver(Propose)
        script.deliver(Vote, vote=kind)
    logs = {f"pbft/log/{height}" for height in (1, 2)}
    assert [script.height(host) for host in "abcd"] == [2, 2, 2, 2]
    assert all(logs <= script.nodes[host].disk.kept.keys() for host in "abcd")
    assert script.deliver(Vote, vote=CHECKPOINT) == 12
    for host in "abcd":
        script.nodes[host].disk.sync()
        assert not logs & script.nodes[host].disk.kept.keys()
        assert "pbft/stable" in script.nodes[host].disk.kept


def test_without_a_stable_checkpoint_it_ends_at_the_high_water_mark_and_goes_on_with_one() -> None:
    def run(mutant: Mutant) -> Script:
        script = script_of(every=2, mutant=mutant)
        for number in range(8):
            script.tell(b"%d" % number, "a")
            while any(script.deliver(kind) for kind in (Propose, Relay)) or any(
                script.deliver(Vote, vote=kind) for kind in (PREPARE, COMMIT)
            ):
                pass
        return script

    script = run(PBFT)
    assert [script.height(host) for host in "abcd"] == [4, 4, 4, 4]
    script.settle("abcd")
    assert script.height("d") > 4
    assert script.checker.faults == script.blamed == []
    assert run(MUTANTS["no-water-mark"]).height("d") > 4


def test_one_that_missed_the_exchange_hears_the_checkpoint_again() -> None:
    script = script_of(every=2)
    script.crash("d")
    decide(script, 6, "abc")
    script.boot("d")
    for _ in range(3):
        script.wait(3, "a", "b", "c", "d")
        script.settle("abcd")
    script.crash("b")
    decide(script, 2, "acd")  # d is needed now, so it knows where the water marks are
    assert script.height("d") == script.height("a") == 8
    assert script.checker.faults == script.blamed == []


def test_everybody_restarts_in_the_middle_of_a_checkpoint() -> None:
    script = script_of(every=2)
    decide(script, 1)
    script.tell(b"two", "a")
    for kind in (PREPARE, COMMIT):
        script.deliver(Propose)
        script.deliver(Vote, vote=kind)
    script.drop()  # the CHECKPOINTs
    for host in "abcd":
        script.crash(host)
        script.boot(host)
    script.settle("abcd")
    decide(script, 4)
    assert script.height("a") == 6
    assert script.checker.faults == script.blamed == []


def test_nobody_votes_with_new_members_before_the_checkpoint_between_is_stable() -> None:
    script = script_of(5, every=32)
    script.tell(b"members a b c d", "a")
    script.tell(b"one", "a")
    while script.deliver(Propose) or any(script.deliver(Vote, vote=kind) for kind in (PREPARE, COMMIT)):
        pass
    assert [script.height(host) for host in "abcde"] == [1] * 5
    assert not script.waiting(Propose)
    script.settle("abcde")
    assert script.decided("d") == [(b"members a b c d",), (b"one",)]
    assert script.checker.faults == script.blamed == []


def test_two_checkpoints_of_one_host_are_evidence() -> None:
    script = script_of()
    decide(script, 1)
    chain = script.nodes["a"].chain.best.header.chain
    accused: list[Accuse] = []
    perform = script.perform
    script.perform = lambda host, effects: (  # type: ignore[method-assign]
        accused.extend(effect for effect in effects if isinstance(effect, Accuse)),
        perform(host, effects),
    )[1]
    for digest in (b"1" * 32, b"2" * 32):
        script.hand("c", "b", script.signed_vote("c", Ballot(chain, 0, CHECKPOINT, 2, 0, digest)))
    (found,) = accused
    evidence = Evidence(found.host, found.domain, found.first, found.second)
    assert evidence.check(chain, lambda height: script.members, fast_verify).height == 3  # whose members sign at 2
    assert found.domain == VOTE_DOMAIN


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"view": 1}, "another chain, or in a view"), ({"chain": bytes(32)}, "another chain, or in a view")],
)
def test_bad_checkpoints_are_refused(changes: dict[str, object], reason: str) -> None:
    script = script_of()
    good = Ballot(script.nodes["a"].chain.best.header.chain, 0, CHECKPOINT, 2, 0, bytes(32))
    script.hand("c", "b", script.signed_vote("c", msgspec.structs.replace(good, **changes)))
    assert reason in script.blamed[0]
    script.hand("c", "b", Vote(good, bytes(64)))
    assert "bad signature" in script.blamed[1]


# The view change


def test_a_new_primary_that_is_behind_starts_at_once_and_catches_up_within_its_view() -> None:
    script = script_of(every=2)
    stories.a_decides_alone(script)
    script.tell(b"two", "a", "b", "c")
    suspect(script, "a", "b", "c")
    script.deliver(ChangeView, to="b", sender="ac")
    assert script.height("b") == 0 and script.waiting(EnterView)
    script.settle("abcd")
    for _ in range(3):
        script.wait(1, "a", "b", "c", "d")
        script.settle("abcd")
    assert [script.decided(host) for host in "abcd"] == [[(b"one",), (b"two",)]] * 4
    assert script.checker.faults == script.blamed == []


def decided_by_one(mutant: Mutant, restarted: bool = False) -> Script:
    """d is Byzantine and helps a to decide "one", which c has prepared. Then a, b and d change the view; a is lost."""
    script = script_of(every=1, mutant=mutant)
    script.tell(b"one", "a")
    block = script.waiting(Propose)[0].content.block
    script.deliver(Propose, to="c")
    for host in "ac":
        script.hand("d", host, vote(script, "d", PREPARE, 0, block))
    script.deliver(Vote, to="ac", vote=PREPARE)
    script.hand("d", "a", vote(script, "d", COMMIT, 0, block))
    script.deliver(Vote, to="a", vote=COMMIT)
    script.drop()
    assert [script.height(host) for host in "abcd"] == [1, 0, 0, 0]
    if restarted:
        script.crash("a")
        script.boot("a")
    script.tell(b"two", "a", "b")
    suspect(script, "a", "b")
    script.hand("d", "b", view_change(script, "d", view=1))
    script.deliver(ChangeView, to="b", sender="a")
    script.crash("a")
    proposed = [letter.content.block for letter in script.waiting(Propose) if letter.sender == "b"]
    script.deliver((EnterView, Propose), to="c")
    for block in proposed[:1]:
        for kind in (PREPARE, COMMIT):
            for host in "bc":
                script.hand("d", host, vote(script, "d", kind, 1, block))
    script.settle("bc")
    return script


def test_a_decided_block_is_forced_by_what_its_decider_kept() -> None:
    script = decided_by_one(PBFT)
    assert [script.height(host) for host in "bcd"] == [0, 0, 0]  # b leads, and lacks the block
    script.nodes["d"].up = True
    for _ in range(4):
        suspect(script, "b", "c", "d")
        script.settle("bcd")
    assert script.decided("c")[0] == (b"one",)
    assert script.checker.faults == []


@pytest.mark.parametrize(
    ("name", "restarted"), [("clears-at-once", False), ("stable-alone", False), ("forgotten-log", True)]
)
def test_the_mutant_is_caught(name: str, restarted: bool) -> None:
    assert decided_by_one(PBFT, restarted).checker.faults == []
    assert decided_by_one(MUTANTS[name], restarted).checker.forks


@pytest.mark.parametrize("story", [stories.carried, stories.carried_across_restarts])
def test_the_others_come_to_the_block_that_one_decided(story: stories.Story) -> None:
    script = story(PBFT)
    assert script.checker.faults == []
    assert [script.decided(host)[0] for host in "abcd"] == [(b"one",)] * 4


def test_the_certificate_of_the_highest_view_is_chosen() -> None:
    script = stories.highest_view_wins(PBFT)
    assert script.checker.faults == []
    assert script.decided("a")[0] == (b"two",)


def test_no_vote_in_a_view_that_was_left() -> None:
    script = stories.left_for_good(PBFT)
    assert script.checker.faults == []
    assert not [letter for letter in script.waiting(Vote) if letter.sender == "c"]


def test_no_block_without_a_certificate() -> None:
    script = stories.no_block_without_certificate(PBFT)
    assert any("d: sent a false certificate" in blame for blame in script.blamed)
    assert script.height("b") == 0


def test_bad_view_changes_are_refused() -> None:
    script = script_of(every=2)
    genesis = script.nodes["a"].chain.best.header.chain

    def forged(kind: str, height: int, view: int = 0) -> Certificate:
        ballot = Ballot(genesis, 0, kind, height, view, bytes(32))
        return Certificate(ballot, tuple((host, bytes(64)) for host in "abd"))

    bad: dict[str, dict[str, object]] = {
        "false certificate": {"checkpoint": forged(CHECKPOINT, 2)},
        "sent a false certificate": {"prepared": (forged(PREPARE, 1),)},
        "no checkpoint": {"checkpoint": forged(COMMIT, 2)},
        "no prepare": {"prepared": (forged(COMMIT, 1),)},
        "outside its water marks": {"prepared": (forged(PREPARE, 5),)},
        "no earlier view": {"prepared": (forged(PREPARE, 1, view=1),)},
    }
    for reason, changes in bad.items():
        script.blamed.clear()
        script.hand("c", "b", view_change(script, "c", 1, **changes))
        assert reason in script.blamed[0], reason
    assert "nothing speaks of" in refused_block(script)


def refused_block(script: Script) -> str:
    script.blamed.clear()
    message = view_change(script, "c", 1)
    script.hand("c", "b", msgspec.structs.replace(message, block=fresh_block(script, b"one", "a")))
    return script.blamed[0]


def test_a_new_view_that_hides_what_was_prepared_is_refused() -> None:
    script = script_of(every=2)
    stories.a_decides_alone(script)
    script.crash("a")
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.deliver(ChangeView, to="b")
    honest = codec.decode(script.waiting(EnterView)[0].content.signed.body, NewView)
    assert honest.forced
    lie = msgspec.structs.replace(honest, forced=())
    script.hand("b", "c", EnterView(sign("b", NEW_VIEW_DOMAIN, lie)))
    assert "another choice" in script.blamed[0]
