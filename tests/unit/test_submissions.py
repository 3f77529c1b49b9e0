"""Transactions that wait for finality: who is told what is tested with the replica; here what is sent again."""

from ledger.submissions import Submissions
from ledger.transaction import Transaction


async def test_what_is_sent_again_takes_turns() -> None:
    submissions, raws = Submissions(), [b"%d" % number for number in range(5)]
    for nonce, raw in enumerate(raws):
        submissions.add(raw, Transaction(bytes(32), bytes(32), nonce, "accounts", b""))
    sent = [submissions.next_to_repeat(2) for _ in range(4)]
    assert sent == [raws[0:2], raws[2:4], [raws[4], raws[0]], raws[1:3]]
    assert sorted(submissions.raws()) == raws
    assert submissions.next_to_repeat(9) == [raws[3], raws[4], raws[0], raws[1], raws[2]]
