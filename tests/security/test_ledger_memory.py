"""What one message can make a replica keep or do: a member that lies does not fill the memory of the others."""

from contextlib import nullcontext

import pytest

from ledger import codec
from ledger.certificate import COMMIT, PREPARE, Ballot
from ledger.chain import Chain
from ledger.consensus import messages
from ledger.consensus.messages import MAX_RELAYED, Relay, Vote
from ledger.errors import PeerFault
from ledger.intake import MAX_QUEUED
from ledger.requests import SPREAD, Requests
from tests.helpers.founders import genesis
from tests.helpers.ipbft_script import Script

LARGE = bytes(1 << 20)


@pytest.mark.parametrize("kind", [PREPARE, COMMIT])
@pytest.mark.parametrize("field", ["digest", "chain", "kind", "signature"])
def test_a_vote_that_is_kept_unjudged_is_small(kind: str, field: str) -> None:
    """64 of each sender are held for later heights and views."""
    script = Script()
    chain = script.nodes["b"].chain.best.header.chain
    fields = {"chain": chain, "kind": kind, "digest": bytes(32), "signature": bytes(64)}
    fields[field] = kind * 1000 if field == "kind" else LARGE
    ballot = Ballot(fields["chain"], 0, fields["kind"], 2, 0, fields["digest"])
    with pytest.raises(PeerFault, match="a: sent bytes that are no Envelope"):
        script.nodes["b"].engine.message("a", messages.encode(Vote(ballot, fields["signature"])), 0.0, script.wall)


def test_a_relay_names_no_more_than_a_mempool_holds() -> None:
    script = Script()
    few = messages.encode(Relay((b"x",) * MAX_RELAYED))
    assert len(script.nodes["a"].engine.message("b", few, 0.0, script.wall)) == MAX_RELAYED
    many = messages.encode(Relay((b"",) * (MAX_RELAYED + 1)))
    with pytest.raises(PeerFault, match=f"length <= {MAX_RELAYED}"):
        script.nodes["a"].engine.message("b", many, 0.0, script.wall)


def test_clients_transactions_come_in_messages_of_a_known_number() -> None:
    taken: list[bytes] = []
    requests = Requests.__new__(Requests)
    requests.put = lambda sender, raws: taken.extend(raws)  # type: ignore[method-assign]
    requests.receive("a", codec.encode([b"x"] * SPREAD))
    assert len(taken) == SPREAD
    with pytest.raises(PeerFault, match=f"a: .*length <= {SPREAD}"):
        requests.receive("a", codec.encode([b""] * (SPREAD + 1)))


@pytest.mark.parametrize("height", [-1, 2**63, 2**64 - 1])
def test_heights_and_views_are_numbers_that_can_be_counted_on(height: int) -> None:
    """One more than the highest that anybody claims can still be written down."""
    script = Script()
    for raw in (
        codec.encode([["status", height, 0, True]]),
        codec.encode([["status", 0, height, True]]),
        codec.encode([["fetch", height]]),
        codec.encode([["recalled", 1, height, 0]]),
        codec.encode([["recalled", 1, 0, height]]),
    ):
        with pytest.raises(PeerFault, match="no Envelope: Expected `int`"):
            script.nodes["b"].engine.message("a", raw, 0.0, script.wall)


def test_what_is_dropped_for_want_of_room_is_not_even_hashed() -> None:
    """Else a peer would buy a hash, and a place among what is remembered, for each two bytes that it sends."""
    heard: list[tuple[str, int]] = []
    requests = Requests(
        "a",
        chain=lambda: None,
        final=lambda: Chain(genesis()).best,
        members=tuple,
        send=lambda *_: None,
        command=lambda *_: None,
        shielded=lambda _: nullcontext(),
        blame=lambda _: None,
        heard=lambda sender, raws: heard.append((sender, len(raws))),
        broadcast=True,
    )
    requests._intake._busy = True  # a slice is being verified
    for _ in range(100):
        requests.put("flood", [b"x"] * 1000)
    requests.put("c", [b"y"])
    assert sum(count for sender, count in heard if sender == "flood") == MAX_QUEUED
    assert heard[-1] == ("c", 1)
