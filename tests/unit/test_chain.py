"""The chain: what it builds it takes, what differs in one field it refuses, and equal blocks give equal states."""

import msgspec
import pytest

from ledger import codec
from ledger.block import Block, transactions_root
from ledger.chain import MAX_BLOCK_BYTES, Chain, Snapshot, founding_state
from ledger.contracts import records, trust
from ledger.errors import Misuse, PeerFault
from ledger.genesis import Genesis
from ledger.merkle import Tree
from tests.helpers.founders import (
    CREATED,
    NAMES,
    call,
    certify,
    decide,
    genesis,
    identity,
    join,
    revoke,
    vote,
)


def test_block_0_follows_from_genesis_alone() -> None:
    one, two = Chain(genesis()), Chain(genesis())
    assert one.best == two.best
    header = one.best.header
    assert (header.height, header.timestamp, header.chain) == (0, CREATED, genesis().chain_id())
    assert header.members_digest == one.members().digest()
    assert Chain(genesis(5)).best.header.state_root != header.state_root


def test_nothing_waits_nothing_is_built() -> None:
    chain = Chain(genesis())
    assert chain.build(CREATED + 1, "north-1") is None
    chain.take(call(chain.id, "north", 1, revoke("west")), "a")  # a gap: cannot run yet
    assert chain.build(CREATED + 1, "north-1") is None


def test_a_block_is_built_checked_and_appended_by_others() -> None:
    chain, other = Chain(genesis()), Chain(genesis())
    block = vote(chain, NAMES[:3], revoke("west"))
    assert other.check(block) is None
    other.append(block, certify(block, other.members()))
    assert other.best == chain.best == block
    assert other.members() == chain.members() and other.members().version == 1
    assert block.header.members_digest == Chain(genesis()).members().digest()  # those who decided it
    assert len(chain.mempool) == 0
    assert chain.nonce(identity("north").public) == 1
    following = vote(chain, ("north",), revoke("east"))
    assert following.header.members_digest == chain.members().digest()
    assert other.check(following) is None


def test_time_goes_on_even_when_the_clock_does_not() -> None:
    chain = Chain(genesis())
    chain.take(call(chain.id, "north", 0, revoke("west")), "a")
    block = chain.build(0, "north-1")
    assert block is not None and block.header.timestamp == CREATED + 1


def test_build_leaves_out_what_fails_and_what_comes_after_it() -> None:
    chain = Chain(genesis())
    good = call(chain.id, "east", 0, revoke("west"))
    double = call(chain.id, "east", 1, revoke("west"))
    after = call(chain.id, "east", 2, revoke("south"))
    for raw in (good, double, after):
        chain.take(raw, "a")
    block = chain.build(CREATED + 1, "north-1")
    assert block is not None and block.transactions == (good,)
    chain.append(block, certify(block, chain.members()))
    assert "voted on this already" in str(chain.refusal(chain.open(double, "a")))
    assert "nonce" in str(chain.refusal(chain.open(good, "a")))
    assert double in chain.mempool
    assert chain.build(CREATED + 2, "north-1") is None
    assert double not in chain.mempool  # else it would be run in vain for every block
    assert len(chain.mempool) == 1  # `after`, whose turn may come


def test_building_and_checking_change_nothing() -> None:
    chain = Chain(genesis())
    chain.take(call(chain.id, "north", 0, revoke("west")), "a")
    block = chain.build(CREATED + 1, "north-1")
    assert block is not None and chain.check(block) is None
    assert chain.best.header.height == 0 and trust.proposals(chain.state) == ()
    assert chain.nonce(identity("north").public) == 0


def built() -> tuple[Chain, Block]:
    """A valid block 2, and another chain than the one that built it."""
    chain, other = Chain(genesis()), Chain(genesis())
    first = vote(chain, NAMES[:3], join("upper"))
    other.append(first, certify(first, other.members()))
    chain.take(call(chain.id, "upper", 0, revoke("west")), "a")
    block = chain.build(CREATED + 60_000, "upper-1")
    assert block is not None and other.check(block) is None
    return other, block


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chain": bytes(32)}, "chain does not follow"),
        ({"height": 3}, "height does not follow"),
        ({"height": 1}, "height does not follow"),
        ({"parent": bytes(32)}, "parent does not follow"),
        ({"transactions_root": transactions_root(())}, "transactions root does not follow"),
        ({"state_root": bytes(32)}, "state root"),
        ({"members_digest": Chain(genesis()).members().digest()}, "members digest does not follow"),
        ({"rules": 2}, "rules does not follow"),
        ({"timestamp": CREATED}, "timestamp"),
        ({"proposer": "upper-2"}, "is no member"),
        ({"proposer": ""}, "is no member"),
    ],
)
def test_each_field_of_the_header_is_checked(change: dict, message: str) -> None:
    chain, block = built()
    bent = Block(msgspec.structs.replace(block.header, **change), block.transactions)
    assert message in str(chain.check(bent))
    with pytest.raises(Misuse, match="cannot be appended"):
        chain.append(bent, certify(bent, chain.members()))
    assert chain.best.header.height == 1
    assert chain.check(block) is None


def test_the_body_is_checked_also_when_the_header_is_known() -> None:
    chain, block = built()
    assert "transactions root" in str(chain.check(Block(block.header, ())))
    assert "transactions root" in str(chain.check(Block(block.header, block.transactions * 2)))


def with_transactions(chain: Chain, *transactions: bytes) -> Block:
    """A block that is right in all but what its transactions do."""
    header = msgspec.structs.replace(
        chain.best.header,
        height=chain.best.header.height + 1,
        parent=chain.best.digest(),
        transactions_root=transactions_root(transactions),
        timestamp=chain.best.header.timestamp + 1,
        proposer="north-1",
    )
    return Block(header, transactions)


def test_what_a_block_may_not_carry() -> None:
    chain = Chain(genesis())
    good = call(chain.id, "north", 0, revoke("west"))
    bent = good[:-1] + bytes([good[-1] ^ 1])
    for transactions, message in (
        ((), "0 transactions"),
        ((good, good), "transaction 1 cannot run: the transaction has nonce 0"),
        ((bent,), "bad signature"),
        ((call(chain.id, "north", 1, revoke("west")),), "nonce 1; the account's next is 0"),
        ((call(bytes(32), "north", 0, revoke("west")),), "another chain"),
        ((call(chain.id, "stranger", 0, revoke("west")),), "no trusted organisation or host"),
        ((call(chain.id, "north", 0, revoke("west"), contract="gold"),), "no contract 'gold'"),
        (tuple(bytes(1) for _ in range(1001)), "1001 transactions"),
        ((bytes(MAX_BLOCK_BYTES + 1),), "more than"),
    ):
        assert message in str(chain.check(with_transactions(chain, *transactions)))


def test_a_block_is_appended_once() -> None:
    chain, block = built()
    certificate = certify(block, chain.members())
    chain.append(block, certificate)
    with pytest.raises(Misuse, match="height does not follow"):
        chain.append(block, certificate)
    assert "height does not follow" in str(chain.check(block))


def test_a_certificate_of_something_else_is_refused() -> None:
    chain, block = built()
    other = Block(msgspec.structs.replace(block.header, timestamp=block.header.timestamp + 1), block.transactions)
    with pytest.raises(Misuse, match="certificate is not of block"):
        chain.append(block, certify(other, chain.members()))


def test_a_snapshot_goes_on_where_the_chain_was() -> None:
    changes: dict[bytes, bytes | None] = {}
    chain = Chain(genesis(), on_append=lambda _, changed: changes.update(changed))
    vote(chain, NAMES[:3], revoke("west"))
    assert chain.certificate is not None
    first = {**founding_state(genesis()), **changes}

    def kept(**more: bytes) -> Tree:
        state = Tree()
        found = {b"account/" + identity(name).public: value for name, value in more.items()}
        state.apply(state.compute({**first, **found}))
        return state

    again = Chain(genesis(), Snapshot(kept(), chain.best, chain.certificate))
    assert again.best == chain.best and again.members() == chain.members()
    assert again.certificate is not None
    block = vote(chain, ("north",), revoke("east"))
    assert again.check(block) is None
    with pytest.raises(Misuse, match="another genesis"):
        Chain(genesis(5), Snapshot(kept(), again.best, again.certificate))
    with pytest.raises(Misuse, match="database is damaged"):
        Chain(genesis(), Snapshot(kept(north=codec.encode(9)), again.best, again.certificate))


def test_a_clients_signature_is_verified_before_a_block_is_decided_and_not_again() -> None:
    """Who votes has verified it, and the certificate, which the engine verifies, says that a quorum voted."""
    chain, bent = forged()
    assert "bad signature" in str(chain.check(bent))
    chain.append(bent, certify(bent, chain.members()))
    assert chain.best == bent
    with pytest.raises(PeerFault, match="bad signature"):
        chain.take(bent.transactions[0], "a client")  # nothing is remembered as verified


def forged() -> tuple[Chain, Block]:
    """A block that would be valid if it had its client's signature."""
    chain = Chain(genesis())
    raw = call(chain.id, "north", 0, revoke("west"))
    block = decide(Chain(genesis()), raw)
    transactions = (raw[:-1] + bytes([raw[-1] ^ 1]),)
    return chain, Block(
        msgspec.structs.replace(block.header, transactions_root=transactions_root(transactions)), transactions
    )


@pytest.mark.parametrize(
    ("nonce", "caller", "chain_of", "message"),
    [
        (1, "north", genesis(), "nonce 1"),
        (0, "stranger", genesis(), "no trusted organisation"),
        (0, "north", genesis(5), "another chain"),
    ],
)
def test_a_decided_block_is_executed_all_the_same(nonce: int, caller: str, chain_of: Genesis, message: str) -> None:
    chain = Chain(genesis())
    block = with_transactions(chain, call(chain_of.chain_id(), caller, nonce, revoke("west")))
    with pytest.raises(Misuse, match=message):
        chain.append(block, certify(block, chain.members()))
    wrong = with_transactions(chain, call(chain.id, "north", 0, revoke("west")))
    with pytest.raises(Misuse, match="state root"):
        chain.append(wrong, certify(wrong, chain.members()))
    assert chain.best.header.height == 0


def test_a_light_client_needs_the_members_alone() -> None:
    chain = Chain(genesis())
    members = chain.members()
    with pytest.raises(PeerFault, match="no certificate"):
        chain.prove(b"anything").check(members)
    vote(chain, NAMES[:3], revoke("west"))
    key = b"trust/organisation/west"
    proof = chain.prove(key)
    proof.check(members)
    assert codec.decode(proof.value or b"", trust.Standing).status == trust.REVOKED
    chain.prove(b"no such key").check(members)
    for change in ({"value": None}, {"key": b"trust/organisation/east"}, {"proof": chain.prove(b"x").proof}):
        with pytest.raises(PeerFault, match="does not lead"):
            msgspec.structs.replace(proof, **change).check(members)
    with pytest.raises(PeerFault, match="which other members decided"):
        proof.check(chain.members())
    with pytest.raises(PeerFault, match="something else"):
        msgspec.structs.replace(proof, header=Chain(genesis()).best.header).check(members)
    assert proof.certificate is not None
    few = msgspec.structs.replace(proof.certificate, signatures=proof.certificate.signatures[:2])
    with pytest.raises(PeerFault, match="2 signatures"):
        msgspec.structs.replace(proof, certificate=few).check(members)


def test_hops_are_recorded_by_hosts() -> None:
    chain = Chain(genesis())
    hop = records.RecordHop(bytes(32), 1, "north-1", "east-1", bytes(32), bytes(32))
    decide(chain, call(chain.id, "east-1", 0, hop, contract="records"))
    found = records.hop(chain.state, bytes(32), 1)
    assert found is not None and (found.height, found.by) == (1, "east-1")
