"""A state in pieces: each is judged by itself, and nothing but what was decided passes."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ledger import merkle, snapshot
from ledger.chain import Chain, Snapshot
from ledger.errors import PeerFault
from ledger.light import LightClient
from ledger.snapshot import EMPTY, LEVEL, PIECES, Offer, Pairs, check_piece
from tests.helpers.shown_chain import ShownChain, signed_by

SHOWN = ShownChain()
NODES = SHOWN.chain.state_nodes(LEVEL)
COPY = SHOWN.chain.copy()
CUT = snapshot.cut(COPY.state)
FULL = next(piece for piece in range(PIECES) if len(CUT[piece]) == 1)
OTHER = next(piece for piece in range(PIECES) if CUT[piece] and piece != FULL)


def offer() -> Offer:
    return Offer(COPY.block, COPY.certificate, NODES, tuple(SHOWN.changes))


def test_all_pieces_make_the_state_and_the_chain_goes_on_from_it() -> None:
    for piece, pairs in enumerate(CUT):
        check_piece(pairs, piece, NODES[piece], "peer")
        assert (NODES[piece] == EMPTY) == (not pairs)
    assert merkle.root_above(NODES) == SHOWN.chain.best.header.state_root
    state = {key: value for pairs in CUT for key, value in pairs}
    chain = Chain(SHOWN.genesis, Snapshot(state, COPY.block, COPY.certificate))
    assert chain.members() == SHOWN.chain.members() and chain.best == SHOWN.chain.best


def test_a_copy_stays_as_it_was() -> None:
    before = dict(COPY.state)
    ShownChain().chain.copy().state.clear()
    assert SHOWN.chain.copy().state == before


@pytest.mark.parametrize(
    "bent",
    [
        (),
        (*CUT[FULL], *CUT[FULL]),
        (*CUT[FULL], *CUT[OTHER]),  # a true pair, hidden in a piece where nobody looks for it
        tuple((key, value + b"x") for key, value in CUT[FULL]),
        tuple((key + b"x", value) for key, value in CUT[FULL]),
        CUT[OTHER],
    ],
)
def test_a_false_piece_is_refused(bent: Pairs) -> None:
    with pytest.raises(PeerFault, match=f"peer: sent a piece {FULL}"):
        check_piece(bent, FULL, NODES[FULL], "peer")


def forged() -> Offer:
    """A state that its former members sign."""
    header = replace(COPY.block.header, members_digest=SHOWN.founders.digest())
    return replace(offer(), block=replace(COPY.block, header=header), certificate=signed_by(SHOWN.founders, header))


LIES: list[tuple[Callable[[], Offer], str]] = [
    (lambda: replace(offer(), nodes=(EMPTY, *NODES[1:]) if NODES[0] != EMPTY else (NODES[FULL], *NODES[1:])), "pieces"),
    (lambda: replace(offer(), nodes=NODES[:-1]), "pieces"),
    (lambda: replace(offer(), nodes=(SHOWN.chain.best.header.state_root,)), "pieces"),
    (lambda: replace(offer(), block=replace(COPY.block, transactions=())), "other transactions"),
    (lambda: replace(offer(), changes=()), "nobody decided"),
    (lambda: replace(offer(), certificate=SHOWN.headers[0][1]), "nobody decided"),
    (forged, "nobody decided"),
]


@pytest.mark.parametrize(("lie", "says"), LIES)
def test_a_false_offer_is_refused_and_its_sender_named(lie: Callable[[], Offer], says: str) -> None:
    with pytest.raises(PeerFault, match=f"^peer: offers .*{says}"):
        lie().check("peer", LightClient(SHOWN.genesis))


def test_a_true_offer_passes_also_for_who_knows_a_part_of_the_changes() -> None:
    offer().check("peer", LightClient(SHOWN.genesis))
    client = LightClient(SHOWN.genesis)
    client.follow(SHOWN.changes[0])
    replace(offer(), changes=tuple(SHOWN.changes[1:])).check("peer", client)
