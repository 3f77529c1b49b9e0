"""Proposals without bodies: put together from what was heard; what is lacking is asked for, and nothing else counts."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from ledger import codec
from ledger.block import Block, Header, transactions_root
from ledger.chain import MAX_BLOCK_BYTES, MAX_BLOCK_TRANSACTIONS
from ledger.consensus import messages
from ledger.consensus.messages import Propose, Status
from ledger.errors import PeerFault
from ledger.proposals import PATIENCE, Bodies, Envelope, Heard, Proposals, Short, Want, _Incomplete
from ledger.transaction import transaction_id


class Host:
    def __init__(self, kind: type[Proposals] = Proposals) -> None:
        self.height = 4
        self.sent: list[tuple[str, bytes]] = []
        self.delivered: list[tuple[str, Propose]] = []
        self.timers: list[Callable[[], None]] = []
        self.proposals = kind(
            lambda: self.height,
            lambda host, raw: self.sent.append((host, raw)),
            self._deliver,
            lambda sender: suppress(PeerFault),
            self._later,
        )

    def _deliver(self, sender: str, message: bytes) -> None:
        content = messages.decode(message, sender)
        assert isinstance(content, Propose)
        self.delivered.append((sender, content))

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        assert seconds == PATIENCE
        self.timers.append(act)

    def wait(self) -> None:
        while self.timers:
            self.timers.pop()()

    def contents(self) -> list[tuple[str, Short | Want | Bodies]]:
        return [(host, codec.decode(raw, Envelope).content) for host, raw in self.sent]


def some(count: int, size: int = 200) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(4, "big") * (size // 4) for number in range(count))


def proposal(transactions: tuple[bytes, ...], height: int = 5) -> Propose:
    root = transactions_root(transactions)
    return Propose(0, Block(Header(bytes(32), height, bytes(32), root, bytes(32), bytes(32), 1, 7, "a"), transactions))


def short(propose: Propose) -> bytes:
    found = Host().proposals.shorten(messages.encode(propose), "a")
    assert found is not None
    return found


def test_a_proposal_of_known_transactions_is_short_and_arrives_whole() -> None:
    sender, receiver, whole = Host(), Host(), proposal(some(100))
    raw = sender.proposals.shorten(messages.encode(whole), "a")
    assert raw is not None and len(raw) < len(messages.encode(whole)) / 5
    receiver.proposals.heard("c", whole.block.transactions[:50])
    receiver.proposals.heard("d", whole.block.transactions[50:])
    receiver.proposals.receive("a", raw)
    assert receiver.delivered == [("a", whole)]
    assert not receiver.sent and not receiver.timers


def test_what_is_no_proposal_goes_as_it_is() -> None:
    assert Host().proposals.shorten(messages.encode(Status(1, 0, True)), "a") is None


def test_what_is_lacking_is_asked_for() -> None:
    sender, receiver, whole = Host(), Host(), proposal(some(5))
    raw = sender.proposals.shorten(messages.encode(whole), "a")
    assert raw is not None
    receiver.proposals.heard("c", [whole.block.transactions[at] for at in (0, 2, 3)])
    receiver.proposals.receive("a", raw)
    assert not receiver.sent  # it may be just behind
    receiver.wait()
    assert receiver.contents() == [("a", Want(whole.block.digest(), (1, 4)))]
    sender.proposals.receive("b", receiver.sent[0][1])
    ((to, bodies),) = sender.sent
    assert to == "b" and len(bodies) < 600
    receiver.proposals.receive("a", bodies)
    assert receiver.delivered == [("a", whole)]


def test_what_its_client_sends_a_moment_later_completes_it() -> None:
    receiver, whole = Host(), proposal(some(3))
    receiver.proposals.receive("a", short(whole))
    receiver.proposals.heard("c", whole.block.transactions)
    assert receiver.delivered == [("a", whole)]
    receiver.wait()
    assert not receiver.sent


def test_what_came_between_question_and_answer_is_not_put_in_twice() -> None:
    receiver, whole = Host(), proposal(some(3))
    receiver.proposals.receive("a", short(whole))
    receiver.wait()
    receiver.proposals.heard("c", whole.block.transactions[:2])
    receiver.proposals.receive("a", codec.encode(Envelope(Bodies(whole.block.digest(), whole.block.transactions))))
    receiver.proposals.receive("a", codec.encode(Envelope(Bodies(whole.block.digest(), whole.block.transactions))))
    assert receiver.delivered == [("a", whole)]


def test_a_proposal_of_a_height_that_is_decided_is_not_asked_about() -> None:
    receiver = Host()
    receiver.proposals.receive("a", short(proposal(some(3), height=4)))
    receiver.wait()
    assert not receiver.sent


def test_the_newest_proposal_of_a_sender_is_the_one_that_counts() -> None:
    receiver, first, second = Host(), proposal(some(2)), proposal(some(3), height=6)
    receiver.proposals.receive("a", short(first))
    receiver.proposals.receive("a", short(second))
    receiver.wait()
    assert [content for _, content in receiver.contents()] == [Want(second.block.digest(), (0, 1, 2))]


# As an attacker would try it


@pytest.mark.parametrize("given", [some(4)[1:2], (*some(2), b"another"), (b"",)], ids=["other", "more", "empty"])
def test_bodies_that_the_proposal_does_not_name_are_refused(given: tuple[bytes, ...]) -> None:
    receiver, whole = Host(), proposal((some(4)[0], some(4)[3]))
    receiver.proposals.receive("a", short(whole))
    with pytest.raises(PeerFault, match="other transactions than its proposal names"):
        receiver.proposals.receive("a", codec.encode(Envelope(Bodies(whole.block.digest(), given))))
    assert not receiver.delivered
    receiver.proposals.receive("a", codec.encode(Envelope(Bodies(whole.block.digest(), whole.block.transactions))))
    assert receiver.delivered == [("a", whole)]


def test_that_check_catches_who_takes_any_bodies() -> None:
    class Trusting(Proposals):
        def _on_bodies(self, sender: str, bodies: Bodies) -> None:
            waiting = self._incomplete[sender]
            self._fill(sender, waiting, dict(zip(waiting.short.names, bodies.transactions, strict=True)))

    receiver, whole = Host(Trusting), proposal(some(2))
    receiver.proposals.receive("a", short(whole))
    receiver.proposals.receive("a", codec.encode(Envelope(Bodies(whole.block.digest(), (b"one", b"two")))))
    assert receiver.delivered and receiver.delivered[0][1] != whole


def test_bodies_come_from_the_proposer_alone() -> None:
    receiver, whole = Host(), proposal(some(2))
    receiver.proposals.receive("a", short(whole))
    receiver.proposals.receive("b", codec.encode(Envelope(Bodies(whole.block.digest(), whole.block.transactions))))
    assert not receiver.delivered


def test_one_question_a_proposal_is_answered() -> None:
    sender, whole = Host(), proposal(some(3))
    sender.proposals.shorten(messages.encode(whole), "a")
    want = codec.encode(Envelope(Want(whole.block.digest(), (0, 1, 2))))
    for _ in range(10):
        sender.proposals.receive("b", want)
    sender.proposals.receive("c", want)
    assert [host for host, _ in sender.sent] == ["b", "c"]
    sender.proposals.shorten(messages.encode(whole), "a")  # it is sent again: so may the question be
    sender.proposals.receive("b", want)
    assert len(sender.sent) == 3


@pytest.mark.parametrize("positions", [(-1,), (3,), (1, 0), (1, 1)])
def test_questions_about_what_is_not_there_are_refused(positions: tuple[int, ...]) -> None:
    sender, whole = Host(), proposal(some(3))
    sender.proposals.shorten(messages.encode(whole), "a")
    with pytest.raises(PeerFault, match="does not have"):
        sender.proposals.receive("b", codec.encode(Envelope(Want(whole.block.digest(), positions))))
    assert not sender.sent


def test_a_transaction_that_is_named_twice_is_refused() -> None:
    large = bytes(60_000)
    header = proposal(()).block.header
    raw = codec.encode(Envelope(Short(0, header, (transaction_id(large),) * MAX_BLOCK_TRANSACTIONS)))
    receiver = Host()
    receiver.proposals.heard("a", [large])
    with pytest.raises(PeerFault, match="a transaction twice"):
        receiver.proposals.receive("a", raw)
    assert not receiver.delivered


def kept(receiver: Host) -> int:
    """Bytes of transactions that wait in proposals that are not complete."""
    return sum(sum(map(len, waiting._found.values())) for waiting in receiver.proposals._incomplete.values())


@pytest.mark.parametrize("by", ["bodies", "clients"])
def test_a_proposal_that_is_never_complete_makes_nobody_keep_more_than_a_block(by: str) -> None:
    receiver, large = Host(), [bytes([number]) * MAX_BLOCK_BYTES for number in range(20)]
    names = (*map(transaction_id, large), bytes(32))  # and one that there is not
    short = Short(0, proposal(()).block.header, names)
    receiver.proposals.receive("a", codec.encode(Envelope(short)))
    for raw in large:
        if by == "bodies":
            receiver.proposals.receive("a", codec.encode(Envelope(Bodies(short.header.digest(), (raw,)))))
        else:
            receiver.proposals.heard("a", [raw])
        assert kept(receiver) <= MAX_BLOCK_BYTES
    receiver.wait()
    assert not receiver.delivered and not receiver.sent


def test_what_waits_for_a_proposal_costs_nothing_for_each_message_of_clients() -> None:
    looked_up: list[bytes] = []

    class Named(dict[bytes, bytes]):
        def __getitem__(self, name: bytes) -> bytes:
            looked_up.append(name)
            return super().__getitem__(name)

    waiting = _Incomplete(Short(0, proposal(()).block.header, tuple(map(transaction_id, some(1000)))))
    assert not waiting.fill(Named({transaction_id(b"other"): b"other"})) and not looked_up
    assert not waiting.fill(Named({transaction_id(raw): raw for raw in some(3)})) and len(looked_up) == 3
    assert waiting.places() == tuple(range(3, 1000))


def test_more_names_than_a_block_has_are_refused() -> None:
    names = (bytes(32),) * (MAX_BLOCK_TRANSACTIONS + 1)
    with pytest.raises(PeerFault, match="no Envelope"):
        Host().proposals.receive("a", codec.encode(Envelope(Short(0, proposal(()).block.header, names))))


def test_who_floods_pushes_out_only_its_own() -> None:
    heard, good = Heard(each_bytes=10_000), some(5)
    heard.put("honest", good)
    for number in range(100):
        heard.put("flood", [b"%d" % number * 300])
    assert all(heard.find(transaction_id(raw)) == raw for raw in good)
    assert heard.find(transaction_id(b"0" * 300)) is None
    assert heard.find(transaction_id(b"99" * 300)) is not None
    assert sum(len(raw) for raw in heard._raws.values()) < 20_000


def test_who_is_first_with_what_another_sends_too_cannot_push_it_out() -> None:
    heard, good = Heard(each_bytes=10_000), some(5)
    heard.put("thief", good)
    heard.put("honest", good)
    for number in range(100):
        heard.put("thief", [b"%d" % number * 300])
    assert all(heard.find(transaction_id(raw)) == raw for raw in good)
    for number in range(100):
        heard.put("honest", [b"%d" % number * 301])
    assert not any(heard.find(transaction_id(raw)) for raw in good)


def test_of_hosts_that_are_trusted_no_more_nothing_is_kept() -> None:
    receiver, whole = Host(), proposal(some(3))
    for number in range(100):  # one organisation's hosts, that come and go
        receiver.proposals.heard(f"host-{number}", some(number)[-10:])
        receiver.proposals.receive(f"host-{number}", short(proposal((b"%d" % number,))))
        receiver.proposals.trust([f"host-{number}", "a"])
    heard = receiver.proposals._heard
    assert list(heard._names) == list(receiver.proposals._incomplete) == ["host-99"] and len(heard._raws) == 10
    receiver.proposals.heard("host-99", whole.block.transactions)
    receiver.proposals.receive("a", short(whole))
    assert receiver.delivered == [("a", whole)]
