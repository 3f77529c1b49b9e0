"""A state in pieces: each is judged by itself, and nothing but what was decided passes."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from ledger import merkle
from ledger.chain import Chain, Snapshot
from ledger.errors import PeerFault
from ledger.light import LightClient
from ledger.merkle import Tree
from ledger.snapshot import EMPTY, LEVEL, PIECES, Buckets, Offer, check_piece, decode_piece, encode_piece
from tests.helpers.founders import NAMES, join, vote
from tests.helpers.shown_chain import ShownChain, signed_by

SHOWN = ShownChain()
COPY = SHOWN.chain.copy()
NODES = COPY.state.level(LEVEL)
CUT = [COPY.state.below(LEVEL, piece) for piece in range(PIECES)]
FULL = next(piece for piece in range(PIECES) if any(CUT[piece]))
OTHER = next(piece for piece in range(PIECES) if any(CUT[piece]) and piece != FULL)
PLACE = next(place for place, content in enumerate(CUT[FULL]) if content)


def offer() -> Offer:
    return Offer(COPY.block, COPY.certificate, NODES, tuple(SHOWN.changes))


def test_all_pieces_make_the_state_and_the_chain_goes_on_from_it() -> None:
    state: dict[int, bytes] = {}
    for piece, buckets in enumerate(CUT):
        check_piece(buckets, piece, NODES[piece], "peer")
        assert (NODES[piece] == EMPTY) == (not any(buckets))
        state |= decode_piece(encode_piece(buckets), piece)
    assert merkle.root_above(NODES) == SHOWN.chain.best.header.state_root
    chain = Chain(SHOWN.genesis, Snapshot(Tree(state), COPY.block, COPY.certificate))
    assert chain.members() == SHOWN.chain.members() and chain.best == SHOWN.chain.best


def test_a_copy_stays_as_it_was() -> None:
    chain = ShownChain().chain
    copy, root = chain.copy(), chain.best.header.state_root
    vote(chain, NAMES[1:2], join("lower"))
    assert chain.best.header.state_root != root == copy.state.root == Tree(buckets_of(copy.state)).root
    changed = chain.copy().state
    copy.state.apply(copy.state.compute({b"a": b"1"}))
    assert chain.copy().state.root == changed.root  # nor does the chain see what becomes of the copy


def buckets_of(state: Tree) -> dict[int, bytes]:
    return {number: content for number, content in enumerate(state.below(0, 0)) if content}


def with_bucket(place: int, content: bytes) -> Buckets:
    return (*CUT[FULL][:place], content, *CUT[FULL][place + 1 :])


@pytest.mark.parametrize(
    "bent",
    [
        (),
        CUT[FULL][:-1],
        (*CUT[FULL], b""),
        (*CUT[FULL], *CUT[FULL]),
        CUT[OTHER],
        CUT[FULL][::-1],
        with_bucket(PLACE, b""),
        with_bucket(PLACE, CUT[FULL][PLACE][:-1] + bytes([CUT[FULL][PLACE][-1] ^ 1])),
        with_bucket(PLACE - 1, CUT[FULL][PLACE]),  # a true bucket, where nobody looks for it
        (NODES[FULL],),  # a digest for what it is the digest of
    ],
)
def test_a_false_piece_is_refused(bent: Buckets) -> None:
    with pytest.raises(PeerFault, match=f"peer: sent a piece {FULL}"):
        check_piece(bent, FULL, NODES[FULL], "peer")


@pytest.mark.parametrize("raw", [b"", encode_piece(CUT[FULL][:-1]), encode_piece((*CUT[FULL], b"")), b"\xc0"])
def test_what_is_no_piece_is_not_read(raw: bytes) -> None:
    with pytest.raises(PeerFault, match="the database"):
        decode_piece(raw, FULL)


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
