"""Every decoder of bytes from outside: whatever comes is a value with these very bytes, or a fault that is named."""

import ssl
import time
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ledger import codec, contracts, genesisfile, snapshot, transaction
from ledger.block import Block, Header
from ledger.certificate import PREPARE, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.chain import Chain, founding_state
from ledger.consensus import messages
from ledger.consensus.ipbft import view_change as ipbft
from ledger.consensus.messages import NewView
from ledger.consensus.pbft import view_change as pbft
from ledger.contracts import accounts, claims, membership, pseudonyms, records, residence, rules, shared, trust
from ledger.contracts.state import Overlay
from ledger.errors import Misuse, PeerFault, PlatformError
from ledger.evidence import Evidence
from ledger.genesis import Genesis, Organisation, SignedGenesis, assemble, sign
from ledger.identity import Signed
from ledger.light import read_export, verify_exports
from ledger.links.base import Channel
from ledger.links.certificates import Leaf, holder
from ledger.links.connection import Hello
from ledger.links.frames import Inbox, Outbox
from ledger.proof import StateProof
from ledger.transaction import Transaction
from tests.helpers.founders import CHAIN, call, genesis, identity, join, organisation, revoke
from tests.helpers.mutations import TRICKS, bend
from tests.helpers.shown_chain import ShownChain

ROUNDS, MANY_ROUNDS = 300, 15_000  # bent samples for each decoder
SHOWN = ShownChain()
GENESIS = SHOWN.genesis
COPY = SHOWN.chain.copy()
NORTH = identity("north")
BALLOT = COPY.certificate.ballot
SIGNED = NORTH.signed(VOTE_DOMAIN, BALLOT.encode())
VOTE = messages.Vote(BALLOT, SIGNED.signature)
IPBFT_CHANGE = ipbft.ViewChange(SHOWN.chain.id, 2, 1, "north-1", COPY.block.header, COPY.certificate, COPY.certificate)
PBFT_CHANGE = pbft.ViewChange(SHOWN.chain.id, 2, 1, "north-1", COPY.certificate, (COPY.certificate,))
NEW_VIEW = NewView(SHOWN.chain.id, 2, 1, "east-1", 3, ((4, bytes(32)),), (SIGNED, SIGNED))
EXPORT = SHOWN.export(b"trust/organisation/west", b"nothing")
EVIDENCE = Evidence("north-1", VOTE_DOMAIN, SIGNED, replace(SIGNED, body=replace(BALLOT, digest=bytes(32)).encode()))
RAW = call(SHOWN.chain.id, "north", 1, revoke("east"))
FOUNDERS = SignedGenesis(
    codec.encode(GENESIS), tuple(sign(GENESIS, identity(each.name)) for each in GENESIS.organisations)
)
PARTS = (residence.Part("north-1", bytes(16), (residence.Going(bytes(32), 4),)),)
PASSAGE = residence.Passage(CHAIN, residence.MOVE, "east-1", PARTS)

MESSAGES: list[messages.Content] = [
    messages.Propose(1, COPY.block),
    VOTE,
    messages.ChangeView(SIGNED, COPY.block),
    messages.ChangeView(SIGNED, None),
    messages.EnterView(SIGNED),
    messages.Status(7, 1, True),
    messages.Fetch(1),
    messages.Blocks(((COPY.block, COPY.certificate),)),
    messages.Relay((RAW, RAW)),
    messages.Recall(77),
    messages.Recalled(77, 3, 1),
]
STATES: list[snapshot.Content] = [
    snapshot.Ask(7),
    snapshot.Offer(COPY.block, COPY.certificate, COPY.state.level(snapshot.LEVEL), tuple(SHOWN.changes)),
    snapshot.Want(7, 255),
    snapshot.Piece(7, 1, COPY.state.below(snapshot.LEVEL, 1)),
    snapshot.Piece(7, 1, None),
]
ACTIONS: list[tuple[str, str, Any]] = [  # contract, caller, action
    ("accounts", "north", accounts.Create(identity("ann").public, 5)),
    ("accounts", "north", accounts.Transfer(identity("east").public, 5)),
    ("trust", "north", join("upper", hosts=2)),
    ("trust", "north", revoke("west")),
    ("trust", "north", trust.VoteSuspend("west", "why")),
    ("membership", "north", membership.Leave("why")),
    ("membership", "north", membership.RemoveHost("north-2", "why")),
    ("membership", "north", membership.AddHost(replace(organisation("north", 3).hosts[2]),
        membership.prove_possession(identity("north-3"), CHAIN, "north", "north-3"))),
    ("membership", "north", membership.Rotate(None, identity("fresh").public, 9,
        membership.prove_possession(identity("fresh"), CHAIN, "north", None))),
    ("rules", "north", rules.VoteRules(2, 20, "why")),
    ("claims", "north-1", claims.Claim((("jail", "landlock"), ("version", "0.1")))),
    ("records", "north-1", records.RecordHop(bytes(32), 1, "north-1", "east-1", bytes(32), bytes(32))),
    ("records", "north-1", records.RecordDecision(bytes(32), bytes(32))),
    ("records", "north-1", records.RecordBlame("east-1", "why", bytes(32))),
    ("records", "north-1", records.RecordDoubleSigning(EVIDENCE)),
    ("residence", "north-1", residence.Move("east-1", PARTS, (PASSAGE.sign(identity("north-1")),), b"")),
    ("residence", "north-1", residence.Hold(bytes(32), 3, ("east-1", "south-1"))),
    ("residence", "north-1", residence.VoteRehome(bytes(32), 4, "east-1", 0)),
    ("pseudonyms", "north-1", pseudonyms.registration(
        identity("ann"), identity("nobody"), CHAIN, identity("auditor").public, bytes(32))),
    ("pseudonyms", "auditor", pseudonyms.Open(identity("nobody").public, "why")),
    ("shared", "north", shared.Share(NORTH.public, bytes(32), b"")),
]  # fmt: skip


class Decoder(NamedTuple):
    """`decode` gives the bytes that the value it reads encodes to. What it refuses, it refuses with a PlatformError."""

    name: str
    samples: list[bytes]
    decode: Callable[[bytes], bytes]


def canonical(kind: Any, *samples: Any) -> Decoder:
    return Decoder(
        kind.__name__,
        [codec.encode(each) for each in samples],
        lambda raw: codec.encode(codec.decode_canonical(raw, kind, "peer")),
    )


def opened(raw: bytes) -> bytes:
    transaction.open_signed(raw, SHOWN.chain.id, "peer")
    return raw  # one that passes has one encoding: its hash is its name


def exported(raw: bytes) -> bytes:
    export = read_export(raw, "peer")
    export.founding()
    return export.encode()


DECODERS = [
    Decoder("messages", [*map(messages.encode, MESSAGES)], lambda raw: messages.encode(messages.decode(raw, "peer"))),
    Decoder("states", [*map(snapshot.encode, STATES)], lambda raw: snapshot.encode(snapshot.decode(raw, "peer"))),
    Decoder("transaction", [RAW], opened),
    Decoder("export", [EXPORT.encode(), replace(EXPORT, evidence=(EVIDENCE,)).encode()], exported),
    canonical(Transaction, codec.decode(codec.decode(RAW, Signed).body, Transaction)),
    canonical(Signed, SIGNED),
    canonical(Block, COPY.block),
    canonical(Header, COPY.block.header),
    canonical(Certificate, COPY.certificate),
    canonical(Ballot, BALLOT, replace(BALLOT, kind=PREPARE), replace(BALLOT, kind=pbft.CHECKPOINT)),
    canonical(Members, SHOWN.chain.members()),
    canonical(StateProof, *EXPORT.proofs, *EXPORT.changes),
    canonical(Evidence, EVIDENCE),
    canonical(Genesis, GENESIS, genesis(2, hosts=3, auditor="auditor")),
    canonical(Organisation, organisation("upper", 3)),
    canonical(SignedGenesis, FOUNDERS),
    canonical(ipbft.ViewChange, IPBFT_CHANGE, replace(IPBFT_CHANGE, prepared=None)),
    canonical(pbft.ViewChange, PBFT_CHANGE, replace(PBFT_CHANGE, checkpoint=None, prepared=())),
    canonical(NewView, NEW_VIEW),
    canonical(Hello, Hello(1, SHOWN.chain.id, "north-1")),
    *(canonical(type(action), action) for _, _, action in ACTIONS),
]


def finding(decoder: Decoder, raw: bytes) -> str | None:
    """What is wrong with how it takes these bytes."""
    try:
        again = decoder.decode(raw)
    except (PeerFault, Misuse):
        return None
    except Exception as error:
        return f"{decoder.name} raises {error!r} for {raw[:200].hex()}"
    return None if again == raw else f"{decoder.name} takes {raw[:200].hex()} for {again[:200].hex()}"


def search(decoder: Decoder, rounds: int, seed: int = 0) -> list[str]:
    """What is wrong with it, found by bending its samples."""
    random = Random(f"{decoder.name} {seed}")  # noqa: S311
    for number in range(rounds):
        if wrong := finding(decoder, bend(decoder.samples[number % len(decoder.samples)], random)):
            return [wrong]
    return []


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_what_is_good_is_taken_and_what_is_bent_is_a_named_fault(decoder: Decoder) -> None:
    for sample in decoder.samples:
        assert decoder.decode(sample) == sample
    assert search(decoder, ROUNDS) == []


@pytest.mark.slow
@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
@pytest.mark.parametrize("seed", [1, 2])
def test_the_same_for_longer(decoder: Decoder, seed: int) -> None:
    assert search(decoder, MANY_ROUNDS, seed) == []


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=8),
        st.binary(max_size=40), st.sampled_from(TRICKS).map(msgspec.Raw), st.sampled_from(["vote", "offer", "create"]),
    ),
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=24,
)  # fmt: skip


@settings(derandomize=True, database=None, max_examples=150, deadline=None)
@given(st.binary(max_size=200) | VALUES.map(codec.encode))
def test_values_out_of_nowhere(raw: bytes) -> None:
    assert [wrong for decoder in DECODERS if (wrong := finding(decoder, raw))] == []


# The search finds what it is for.


def test_a_decoder_without_the_canonical_check_is_found() -> None:
    lax = Decoder(
        "lax", [messages.encode(VOTE)], lambda raw: messages.encode(codec.decode(raw, messages.Envelope).content)
    )
    (wrong,) = search(lax, ROUNDS)
    assert wrong.startswith("lax takes")


def test_a_decoder_that_lets_other_errors_through_is_found() -> None:
    bare = Decoder("bare", [codec.encode(organisation("upper"))], lambda raw: codec.encode(
        msgspec.msgpack.decode(raw, type=Organisation)))  # fmt: skip
    (wrong,) = search(bare, ROUNDS)
    assert wrong.startswith("bare raises")


# Memory and time


def cost(decode: Callable[[bytes], object], raw: bytes) -> tuple[int, float]:
    """The most bytes that were in use for it, and seconds of this thread."""
    tracemalloc.start()
    begin = time.thread_time()
    try:
        decode(raw)
    except PlatformError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return peak, time.thread_time() - begin


LENGTHS = [head + b"\x7f\xff\xff\xff" for head in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")]


@pytest.mark.parametrize("decoder", DECODERS, ids=lambda decoder: decoder.name)
def test_a_length_that_is_only_claimed_costs_nothing(decoder: Decoder) -> None:
    """Two thousand million of something are announced at each place where a value may begin."""
    sample = decoder.samples[0]
    for at in range(0, len(sample), max(1, len(sample) // 24)):
        for length in LENGTHS:
            assert cost(decoder.decode, sample[:at] + length + sample[at:])[0] < 1 << 20, (at, length)


def test_the_measure_sees_who_believes_a_length() -> None:
    assert cost(lambda raw: bytearray(int.from_bytes(raw[1:5], "big") >> 8), LENGTHS[0])[0] > 1 << 20


# A transaction whose action is bent: signed well, so the contract itself sees it.


def state_of_contracts() -> Overlay:
    state = Overlay(founding_state(genesis(4, hosts=2, auditor="auditor")))
    state.put(residence.state_key(bytes(32)), codec.encode(residence.Residence(NORTH.public, 3, "north-1", (), 1)))
    return state


@pytest.mark.parametrize(("contract", "caller", "action"), ACTIONS, ids=lambda each: type(each).__name__)
def test_a_contract_refuses_what_is_bent_and_changes_nothing(contract: str, caller: str, action: Any) -> None:
    state, sample = state_of_contracts(), codec.encode(action)
    random = Random(contract + type(action).__name__)  # noqa: S311
    refused = 0
    for _ in range(ROUNDS):
        attempt, key = Overlay(state), identity(caller).public
        try:
            contracts.run(attempt, Transaction(CHAIN, key, 0, contract, bend(sample, random)), 7)
        except Misuse:
            assert attempt.changes == {}
            refused += 1
        else:
            assert codec.decode(attempt.changes[accounts.state_key(key)] or b"", accounts.Account).nonce == 1
    assert refused > ROUNDS // 2


def test_a_bent_block_is_refused_with_a_reason() -> None:
    chain = Chain(genesis())
    chain.take(call(chain.id, "north", 0, revoke("west")), "a client")
    block = chain.build(chain.best.header.timestamp + 1, "north-1")
    assert block is not None
    raw, random, root = codec.encode(block), Random(5), chain.best.header.state_root  # noqa: S311
    read = 0
    for _ in range(ROUNDS):
        try:
            bent = codec.decode_canonical(bend(raw, random), Block, "peer")
        except PeerFault:
            continue
        read += 1
        reason = chain.check(bent)
        # The builder's name and the time are the proposer's choice.
        own = replace(bent.header, proposer=block.header.proposer, timestamp=block.header.timestamp)
        assert reason is not None or Block(own, bent.transactions) == block
    assert read > 10 and chain.check(block) is None and chain.best.header.state_root == root


# What is shown to a light client


def test_a_bent_file_shows_nothing_that_is_not_so() -> None:
    """It may be refused; when it passes, all that it shows is true."""
    true = {(proof.key, proof.header.height): proof.value for proof in (*EXPORT.proofs, *EXPORT.changes)}
    headers = {header.digest() for header, _ in SHOWN.headers}
    random, passed = Random(7), 0  # noqa: S311
    for _ in range(ROUNDS):
        try:
            export = read_export(bend(EXPORT.encode(), random), "a file")
            verify_exports([export], SHOWN.chain.id)
        except PeerFault:
            continue
        passed += 1
        for proof in (*export.proofs, *export.changes):
            assert proof.header.digest() in headers and true[proof.key, proof.header.height] == proof.value
    assert passed < ROUNDS // 4


def test_bent_evidence_convicts_nobody_else() -> None:
    """Of two good signatures, bent in any way, whatever still passes is about the same two statements."""
    members, bodies = Chain(genesis()).members(), set()
    ballots = [replace(BALLOT, members_version=0, digest=bytes([number]) * 32) for number in range(2)]
    first, second = (identity("west-1").signed(VOTE_DOMAIN, ballot.encode()) for ballot in ballots)
    good = Evidence("west-1", VOTE_DOMAIN, first, second)
    random = Random(9)  # noqa: S311
    good.check(BALLOT.chain, lambda _: members)
    for _ in range(ROUNDS):
        try:
            bent = codec.decode_canonical(bend(codec.encode(good), random), Evidence, "peer")
            bent.check(BALLOT.chain, lambda _: members)
        except PeerFault:
            continue
        bodies |= {bent.first.body, bent.second.body}
        assert bent.host == "west-1"
    assert bodies <= {first.body, second.body}


# Files and links


def test_a_bent_genesis_file_is_refused(tmp_path: Path) -> None:
    path, random = tmp_path / "genesis", Random(11)  # noqa: S311
    signed = assemble(GENESIS, FOUNDERS.signatures)
    genesisfile.write(path, signed)
    assert genesisfile.read(path) == GENESIS
    for _ in range(ROUNDS):
        bent = bend(codec.encode(signed), random)
        path.write_bytes(bent)
        if bent != codec.encode(signed):
            with pytest.raises(Misuse, match="genesis"):
                genesisfile.read(path)


def test_bent_frames_are_a_named_fault_or_the_same_however_they_are_cut() -> None:
    outbox = Outbox()
    for channel, size in ((Channel.LEDGER, 0), (Channel.MAIL, 200), (Channel.LEDGER, 90), (Channel.COMMAND, 1)):
        outbox.put(channel, bytes(range(256))[:size])
    raw, random = b"".join(iter(outbox.take, b"")), Random(13)  # noqa: S311
    seen = set()
    for _ in range(ROUNDS):
        bent = bend(raw, random)
        whole, pieces = fed(bent, len(bent) or 1), fed(bent, random.randint(1, 50))
        assert whole == pieces
        seen.add(whole[1] is None)
    assert seen == {True, False}


def fed(raw: bytes, step: int) -> tuple[list[tuple[Channel, bytes]], str | None]:
    inbox, out = Inbox("peer", limit=400), []
    view = memoryview(raw)
    try:
        for at in range(0, len(raw), step):
            for message in inbox.feed(view[at : at + step]):
                assert len(message[1]) <= 400
                out.append(message)
    except PeerFault as fault:
        return out, str(fault)
    return out, None


@pytest.mark.filterwarnings("ignore:Parsed a serial number")
def test_a_bent_certificate_of_a_link_is_a_named_fault() -> None:
    """Every bit is turned once. What passes has all that its holder signed as it was."""
    admitted = {"north-1": organisation("north").hosts[0]}
    der = ssl.PEM_cert_to_DER_cert(Leaf.make("north-1", identity("north-1")).certificate.decode())
    signed = x509.load_der_x509_certificate(der).tbs_certificate_bytes
    flips = [der[:at] + bytes([der[at] ^ 1 << bit]) + der[at + 1 :] for at in range(len(der)) for bit in range(8)]
    random, passed = Random(17), 0  # noqa: S311
    for bent in flips + [bend(der, random) for _ in range(ROUNDS)]:
        with suppress(PeerFault):
            assert holder(bent, admitted) == admitted["north-1"]
            assert x509.load_der_x509_certificate(bent).tbs_certificate_bytes == signed
            passed += 1
    assert passed < len(flips) // 10
