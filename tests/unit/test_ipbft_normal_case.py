"""One height, step by step: what is sent, what is durable before it, and what is refused."""

import msgspec
import pytest

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE
from ledger.consensus import messages
from ledger.consensus.engine import Decide, Effect, Persist, Send, WakeAt
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Blocks, ChangeView, EnterView, Envelope, Fetch, Propose, Relay, Status, Vote
from ledger.consensus.settings import Settings
from ledger.errors import Misuse
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members
from tests.helpers.ipbft_handmade import fresh_block, view_change, vote
from tests.helpers.ipbft_script import WALL, Script
from tests.helpers.ipbft_stories import a_decides_alone, suspect


def test_three_message_delays_decide() -> None:
    script = Script(4)
    script.tell(b"one", "a")
    assert script.deliver(Propose) == 3
    assert script.deliver(Vote, vote=PREPARE) == 12
    assert script.deliver(Vote, vote=COMMIT) == 12
    assert [script.height(host) for host in "abcd"] == [1, 1, 1, 1]
    assert script.checker.faults == script.blamed == script.accused == []
    assert script.post == []


def test_each_replica_makes_three_durable_writes_and_none_after_what_it_promises() -> None:
    script = Script(4)
    seen: dict[str, list[Effect]] = {host: [] for host in "abcd"}
    perform = script.perform

    def watch(host: str, effects: list[Effect]) -> None:
        seen[host] += [effect for effect in effects if not isinstance(effect, WakeAt)]
        perform(host, effects)

    script.perform = watch  # type: ignore[method-assign]
    script.tell(b"one", "a")
    script.settle("abcd")
    promises = [Persist, Send, Persist, Send, Decide]
    assert [type(effect) for effect in seen["a"]] == [Send, *promises]  # the proposal is no vote
    for host in "bcd":
        assert [type(effect) for effect in seen[host]] == promises


def test_no_block_without_a_transaction() -> None:
    script = Script(4)
    script.wait(100, "a", "b", "c", "d")
    assert not script.waiting(Propose)


def test_what_waits_goes_into_the_next_block_together() -> None:
    script = Script(4)
    for number in range(4):
        script.tell(b"%d" % number, "a")
    script.settle("abcd")
    assert script.decided("d") == [(b"0",), (b"1", b"2", b"3")]


def test_messages_that_overtake_are_kept_for_their_time() -> None:
    script = Script(4)
    script.tell(b"one", "a")
    script.tell(b"two", "a")
    script.deliver(Propose, to="bc")
    script.deliver(Vote, to="abc", vote=PREPARE)
    script.deliver(Vote, to="abc", vote=COMMIT)
    script.deliver(Propose, to="bc")
    script.deliver(Vote, to="abc", vote=PREPARE)
    for letter in reversed(list(script.waiting(Vote) + script.waiting(Propose))):  # d hears it all backwards
        if letter.to == "d":
            script.hand(letter.sender, "d", letter.content)
    assert script.decided("d") == [(b"one",), (b"two",)]
    assert script.checker.faults == script.blamed == []


def test_one_that_has_all_commits_and_no_body_fetches_the_block() -> None:
    script = Script(4)
    script.tell(b"one", "a")
    script.deliver(Propose, to="bc")
    script.settle("abc")
    assert script.height("d") == 0
    for host in "abc":
        ballot = script.nodes[host].disk.blocks[0][1].ballot
        script.hand(host, "d", script.signed_vote(host, ballot))
    script.wait(0.3, "d")
    assert script.waiting(Fetch)
    script.settle("abcd")
    assert script.height("d") == 1


def test_blocks_that_were_asked_for_before_an_old_copy_was_put_back_are_nobodys_fault() -> None:
    script = Script(4)
    for number in range(3):
        script.tell(b"%d" % number, "a")
        script.settle("abc")
    blocks = script.nodes["a"].disk.blocks
    script.hand("a", "d", Blocks(tuple(blocks[1:])))
    assert script.height("d") == 0
    assert script.blamed == []
    script.hand("a", "d", Blocks(tuple(blocks)))
    assert script.height("d") == 3


def test_a_transaction_that_only_one_replica_knows_is_relayed_before_anybody_is_suspected() -> None:
    script = Script(4)
    script.tell(b"one", "c")
    script.wait(Settings().relay_after, "c")
    assert [letter.to for letter in script.waiting(Relay)] == ["a"]
    script.settle("abcd")
    assert script.decided("c") == [(b"one",)]


def test_an_equivocating_primary_that_restarts_between_its_blocks_costs_one_view() -> None:
    """Two hold one block, two the other: neither comes to a quorum, and the next primary proposes anew."""
    script = Script(4)
    node = script.nodes["a"]
    node.chain.take(b"one")
    effects = node.engine.command([b"one"], script.now, script.wall)
    script.perform("a", effects[:1])
    script.deliver(Propose, to="bc")
    script.crash("a")
    script.boot("a")
    script.post[:] = [letter for letter in script.post if isinstance(letter.content, Vote)]
    script.tell(b"two", "a", "b", "c", "d")
    script.settle("abcd")
    assert [script.height(host) for host in "abcd"] == [0] * 4
    for _ in range(3):
        script.wait(3, *"abcd")
        script.settle("abcd")
    assert all(b"two" in script.nodes[host].chain.decided for host in "abcd")
    assert {script.nodes[host].engine.view for host in "abcd"} == {1}
    assert script.checker.faults == script.blamed == script.accused == []


def refused(script: Script, sender: str, to: str, content: messages.Content | bytes) -> str:
    """The reason; and that nothing else came of it."""
    before = (len(script.post), script.nodes[to].disk.kept, script.height(to))
    script.blamed.clear()
    script.hand(sender, to, content)
    assert (len(script.post), script.nodes[to].disk.kept, script.height(to)) == before
    return script.blamed[0] if script.blamed else ""


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parent": b"p" * 32}, "does not stand on our best block"),
        ({"timestamp": 1}, "not after its parent in time"),
        ({"state_root": b"s" * 32}, "not valid"),
        ({"members_digest": b"m" * 32}, "not valid"),
        ({"transactions_root": b"t" * 32}, "other transactions than its header names"),
        ({"proposer": "b"}, "as fresh a block that b built"),
        ({"chain": b"c" * 32}, "not valid"),
    ],
)
def test_a_proposal_of_a_wrong_block_is_refused(changes: dict[str, object], reason: str) -> None:
    script = Script(4)
    good = fresh_block(script, b"one", "a")
    bad = Block(msgspec.structs.replace(good.header, **changes), good.transactions)
    assert reason in refused(script, "a", "b", Propose(0, bad))
    script.hand("a", "b", Propose(0, good))  # and nothing of it sticks
    assert script.waiting(Vote)


def test_a_block_from_the_future_gets_no_vote_until_its_time_has_come() -> None:
    script = Script(4)
    late = script.nodes["a"].chain.block((b"one",), WALL + Settings().allowed_drift_ms + 1, "a")
    assert refused(script, "a", "b", Propose(0, late)) == ""
    script.now += 1
    script.hand("a", "b", Propose(0, late))
    assert script.waiting(Vote)


def test_only_the_primary_proposes() -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "c")
    assert "which a leads" in refused(script, "c", "b", Propose(0, block))


def test_bad_votes_are_refused() -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "a")
    good = vote(script, "c", PREPARE, 0, block)

    def changed(**changes: object) -> Vote:
        return script.signed_vote("c", msgspec.structs.replace(good.ballot, **changes))

    assert "bad signature" in refused(script, "c", "b", Vote(good.ballot, bytes(64)))
    assert "bad signature" in refused(script, "d", "b", good)  # c's vote, sent by d
    assert "no member" in refused(script, "zoe", "b", script.signed_vote("zoe", good.ballot))
    assert "another membership version" in refused(script, "c", "b", changed(members_version=1))
    assert "another chain" in refused(script, "c", "b", changed(chain=bytes(32)))
    assert "there are prepare and commit" in refused(script, "c", "b", changed(kind="maybe"))
    for far in ({"height": 9}, {"height": 0}, {"view": 3}, {"view": -1}, {"kind": COMMIT, "view": 2**63}):
        assert refused(script, "c", "b", changed(**far)) == ""


def test_two_votes_of_one_host_are_evidence_and_the_first_counts() -> None:
    script = Script(4)
    first, second = (vote(script, "c", PREPARE, 0, fresh_block(script, text, "a")) for text in (b"one", b"two"))
    script.hand("c", "b", first)
    script.hand("c", "b", first)
    assert script.accused == []
    script.hand("c", "b", second)
    assert script.accused == ["c"]


def test_an_equivocating_primary_is_accused() -> None:
    script = Script(4)
    for text in (b"one", b"two"):
        block = fresh_block(script, text, "a")
        script.hand("a", "b", Propose(0, block))
        script.hand("a", "b", vote(script, "a", PREPARE, 0, block))
    assert script.accused == ["a"]
    assert {letter.content.ballot.digest for letter in script.waiting(Vote)} == {
        fresh_block(script, b"one", "a").digest()
    }


def test_a_vote_that_comes_late_is_still_evidence_beside_another() -> None:
    script = Script(4)
    first, second = (fresh_block(script, text, "a") for text in (b"one", b"two"))
    script.hand("a", "b", Propose(0, first))
    for host in "ac":
        script.hand(host, "b", vote(script, host, PREPARE, 0, first))
    script.hand("d", "b", vote(script, "d", PREPARE, 0, first))  # the fourth is not needed, and not verified
    script.hand("d", "b", vote(script, "d", PREPARE, 0, second))
    assert script.accused == ["d"]
    script.accused.clear()
    script.hand("c", "b", vote(script, "c", PREPARE, 0, first))
    assert script.accused == script.blamed == []


def test_a_late_vote_with_a_bad_signature_accuses_nobody_and_hides_nothing() -> None:
    script = Script(4)
    first, second = (fresh_block(script, text, "a") for text in (b"one", b"two"))
    script.hand("a", "b", Propose(0, first))
    for host in "ac":
        script.hand(host, "b", vote(script, host, PREPARE, 0, first))
    script.hand("d", "b", Vote(vote(script, "d", PREPARE, 0, first).ballot, bytes(64)))
    script.hand("d", "b", vote(script, "d", PREPARE, 0, second))
    assert script.accused == []
    script.hand("d", "b", vote(script, "d", PREPARE, 0, first))
    assert script.accused == ["d"]


def test_late_votes_of_those_who_have_no_vote_lead_to_nothing() -> None:
    script = Script(4)
    first, second = (fresh_block(script, text, "a") for text in (b"one", b"two"))
    script.hand("a", "b", Propose(0, first))
    for host in "ac":
        script.hand(host, "b", vote(script, host, PREPARE, 0, first))
    for block in (first, second):
        script.hand("zoe", "b", vote(script, "zoe", PREPARE, 0, block))
    assert script.accused == []
    assert "zoe: voted on height 1, of which it is no member" in script.blamed[0]


def test_a_primary_that_forgets_its_proposal_in_a_crash_has_still_voted_once() -> None:
    script = Script(4)
    node = script.nodes["a"]
    node.chain.take(b"one")
    effects = node.engine.command([b"one"], script.now, script.wall)
    assert [type(effect) for effect in effects[:3]] == [Send, Persist, Send]
    script.perform("a", effects[:1])  # the proposal leaves, and then the power fails
    script.deliver(Propose, to="b")
    script.crash("a")
    script.boot("a")
    script.drop()
    script.tell(b"two", "a")
    script.deliver(Propose, to="bcd")
    script.settle("abcd")
    assert [script.height(host) for host in "acd"] == [1, 1, 1]  # b's vote is for the other one, and not needed
    for _ in range(2):
        script.wait(1, "a", "b", "c", "d")
        script.settle("abcd")
    assert script.decided("b")[0] == (b"two",)
    assert script.checker.faults == script.accused == []


def test_the_body_of_what_is_prepared_outlives_the_next_proposal() -> None:
    script = Script(4)
    first = fresh_block(script, b"one", "a")
    script.hand("a", "b", Propose(0, first))
    for host in "ac":
        script.hand(host, "b", vote(script, host, PREPARE, 0, first))
    at = script.nodes["b"].engine._at
    assert at.prepared is not None and at.prepared.block == first
    second = msgspec.structs.replace(first.header, timestamp=first.header.timestamp + 1)
    for effect in at.promise_proposal(Propose(1, Block(second, first.transactions))):
        script.nodes["b"].disk.write(effect)
    script.crash("b")
    script.nodes["b"].boot()
    prepared = script.nodes["b"].engine._at.prepared
    assert prepared is not None and prepared.block == first


def test_what_was_prepared_at_a_height_that_was_leapt_over_is_not_taken_for_the_next_one() -> None:
    """A state that was fetched takes the place of the blocks in between; nothing clears what was promised there."""
    script = Script(4)
    first = fresh_block(script, b"one", "a")
    script.hand("a", "b", Propose(0, first))
    for host in "ac":
        script.hand(host, "b", vote(script, host, PREPARE, 0, first))
    script.drop()
    for number in range(3):
        script.tell(b"%d" % number, "a")
        script.settle("acd")
    disk = script.nodes["b"].disk
    disk.blocks[:] = script.nodes["a"].disk.blocks
    script.boot("b")
    script.drop()
    script.tell(b"next", "a")
    script.deliver(Propose, to="b")
    script.crash("b")
    script.boot("b")
    votes = [letter.content.ballot for letter in script.waiting(Vote) if letter.sender == "b"]
    assert {(ballot.kind, ballot.height) for ballot in votes} == {(PREPARE, 4)}  # no COMMIT to what it had prepared
    script.settle("abcd")
    assert script.height("b") == 4
    assert script.checker.faults == script.blamed == script.accused == []


def test_a_view_change_carries_the_body_that_is_written_with_the_proposal() -> None:
    script = Script(4)
    a_decides_alone(script)
    for host in "bc":  # their records of what is prepared name no block
        script.crash(host)
        script.boot(host)
    script.crash("a")
    script.drop()
    script.tell(b"two", "b", "c", "d")
    suspect(script, "b", "c", "d")
    carried = [letter.content.block for letter in script.waiting(ChangeView) if letter.sender in "bc"]
    assert carried and all(block is not None and block.transactions == (b"one",) for block in carried)


def test_commits_without_prepares_and_doubled_commits_make_no_quorum() -> None:
    script = Script(4)
    block = fresh_block(script, b"one", "a")
    script.hand("a", "b", Propose(0, block))
    for host in "ccccdddd":
        script.hand(host, "b", vote(script, host, COMMIT, 0, block))
    assert script.height("b") == 0  # two commits; b gives none without a prepared certificate
    assert all(letter.content.ballot.kind == PREPARE for letter in script.waiting(Vote))


def test_bytes_that_are_no_message_are_refused() -> None:
    script = Script(4)
    assert "no Envelope" in refused(script, "a", "b", b"\xc1garbage")
    assert "no Envelope" in refused(script, "a", "b", codec.encode(["propose", 1]))
    status = codec.encode(Envelope(Status(1, 2, True)))
    assert "no Envelope" in refused(script, "a", "b", status + b"\0")
    long_integer = status.replace(b"\x01\x02", b"\xcd\x00\x01\x02")  # 1 in three bytes
    assert long_integer != status
    assert "not canonically encoded" in refused(script, "a", "b", long_integer)


def test_oversize_is_refused_unread() -> None:
    script = Script(4, settings=Settings(max_message_bytes=1000))
    assert "at most 1000" in refused(script, "a", "b", bytes(1001))


def test_bad_view_changes_are_refused() -> None:
    script = Script(4)
    good = view_change(script, "c", view=1)
    assert "another host" in refused(script, "d", "b", good)
    unsigned = msgspec.structs.replace(good.signed, signature=bytes(64))
    assert "bad signature" in refused(script, "c", "b", msgspec.structs.replace(good, signed=unsigned))
    block = fresh_block(script, b"one", "a")
    assert "nothing speaks of" in refused(script, "c", "b", msgspec.structs.replace(good, block=block))
    assert refused(script, "zoe", "b", view_change(script, "c", view=1)) == ""


def test_who_asks_again_and_again_is_not_shown_the_same_view_each_time() -> None:
    """A Status has a few bytes, a NEW-VIEW some thousands."""
    script = Script(4)
    script.crash("a")
    script.tell(b"one", "b", "c", "d")
    suspect(script, "b", "c", "d")
    script.settle("bcd")
    for _ in range(50):
        script.hand("a", "b", Status(0, 0, True))
    assert len(script.waiting(EnterView)) == 1
    script.wait(1)
    script.hand("a", "b", Status(0, 0, True))
    assert len(script.waiting(EnterView)) == 2


def test_votes_are_not_forgotten_when_everybody_restarts() -> None:
    script = Script(4)
    script.tell(b"one", "a")
    script.deliver(Propose)
    script.drop()
    for host in "abcd":
        script.crash(host)
        script.boot(host)
    script.settle("abcd")
    assert [script.height(host) for host in "abcd"] == [1, 1, 1, 1]
    assert script.checker.faults == []


def test_data_that_is_older_than_its_votes_must_not_sign() -> None:
    script = Script(4)
    for text in (b"one", b"two"):
        script.tell(text, "a")
    script.settle("abcd")
    script.tell(b"three", "a")
    disk = script.nodes["a"].disk
    disk.blocks.pop()
    with pytest.raises(Misuse, match="restored backup"):
        script.nodes["a"].boot()


def test_the_certificate_of_the_best_block_must_be_given() -> None:
    members = make_members(1)
    script = Script(1)
    script.tell(b"one", "a")
    assert script.height("a") == 1  # one member decides alone
    with pytest.raises(Misuse, match="certificate"):
        Ipbft("a", FastKey("a"), script.nodes["a"].chain, {})
    with pytest.raises(Misuse, match="certificate"):
        Ipbft("a", FastKey("a"), TwinChain(members), {}, certificate=script.nodes["a"].disk.blocks[0][1])


def test_one_who_is_no_member_follows_and_never_votes() -> None:
    script = Script(4)
    chain = TwinChain(script.members)
    guest = Ipbft("zoe", FastKey("zoe"), chain, {}, verify=fast_verify)
    guest.start(0.0, WALL)
    script.tell(b"one", "a")
    block = script.waiting(Propose)[0].content
    effects = guest.message("a", messages.encode(block), 0.0, WALL)
    assert not [effect for effect in effects if isinstance(effect, Send | Persist)]
    script.settle("abcd")
    guest.message("a", messages.encode_blocks(script.nodes["a"].disk.blocks), 1.0, WALL)
    assert chain.best.header.height == 1
