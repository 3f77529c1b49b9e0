"""Changes of members under the production engine: each height is decided by its own members, with their own keys."""

from contextlib import suppress
from functools import partial
from typing import Any

import pytest

from ledger.client import Client, Receipt
from ledger.consensus.ipbft.engine import Ipbft
from ledger.consensus.messages import encode_blocks
from ledger.consensus.settings import Settings
from ledger.contracts import trust
from ledger.contracts.claims import Claim
from ledger.contracts.membership import AddHost, Leave, RemoveHost, Rotate, prove_possession
from ledger.contracts.rules import VoteRules
from ledger.contracts.trust import VoteReinstate, VoteSuspend
from ledger.engines import EngineKind
from ledger.errors import Unavailable
from ledger.links.base import Passport
from services.tms.service import Tms
from tests.helpers.founders import NAMES, genesis, identity
from tests.helpers.replicas import Cluster, until

FAST = Settings(
    view_timeout=0.3, max_view_timeout=2.0, relay_after=0.05, resend_every=0.05, status_every=0.2, fetch_after=0.02
)
REST = ["north-1", "east-1", "south-1"]


def cluster() -> Cluster:
    return Cluster(genesis(4), EngineKind(partial(Ipbft, settings=FAST), encode_blocks))


async def act(four: Cluster, key: str, contract: str, action: Any, through: str = "") -> Receipt:
    return await Client(four.replicas[through or f"{key}-1"], identity(key)).call(contract, action)


async def block(four: Cluster, by: str = "north-1") -> int:
    """One more block."""
    fact = (("number", str(four.replicas[by].height)),)
    return (await act(four, by, "claims", Claim(fact), through=by)).height


async def test_a_host_goes_on_with_its_new_key_from_the_stated_height_on() -> None:
    async with cluster() as four:
        fresh = identity("fresh")
        proof = prove_possession(fresh, four.genesis.chain_id(), "south", "south-1")
        await act(four, "south", "membership", Rotate("south-1", fresh.public, 4, proof))
        assert await block(four) == 2
        assert four.replicas["north-1"].members().key_of("south-1") == identity("south-1").public
        assert await block(four) == 3
        await until(lambda: four.replicas["north-1"].members().key_of("south-1") == fresh.public)
        tms = Tms(four.replicas["north-1"])
        assert (tms.verdict("south-1").rotated, tms.verdict("east-1").rotated) == (4, None)
        assert "south-1" not in four.links["north-1"].up()  # the old key is refused at the links too
        await four.stop("south-1")
        await four.start("south-1", "fresh")
        await four.stop("west-1")  # from here on nothing is decided without the new key
        height = await block(four)
        assert height == 4
        await four.same_height(height, REST)


async def test_the_old_key_decides_nothing_after_that() -> None:
    """The twin of the test above: the host is started with its old key, and the others lack a quorum."""
    async with cluster() as four:
        fresh = identity("fresh")
        proof = prove_possession(fresh, four.genesis.chain_id(), "south", "south-1")
        await act(four, "south", "membership", Rotate("south-1", fresh.public, 2, proof))
        await four.same_height(1, ["north-1", "east-1", "west-1"])
        await four.stop("west-1")
        with pytest.raises(Unavailable, match="is not final"):
            claim = Claim((("version", "1"),))
            await Client(four.replicas["north-1"], identity("north-1"), deadline=0.7).call("claims", claim)


async def test_one_is_suspended_goes_on_following_and_is_reinstated() -> None:
    async with cluster() as four:
        for voter in NAMES[:3]:
            await act(four, voter, "trust", VoteSuspend("west", "it signed twice"))
        await until(lambda: four.replicas["north-1"].members().n == 3)
        assert "west-1" not in four.links["north-1"].up()
        for voter in NAMES[:2]:
            await act(four, voter, "trust", VoteReinstate("west", "it did not"))
        height = (await act(four, "south", "trust", VoteReinstate("west", "it did not"))).height
        await until(lambda: four.replicas["north-1"].members().n == 4)
        await four.same_height(height)
        assert four.replicas["west-1"].members().version == 2
        await four.stop("east-1")
        await four.same_height(await block(four), ["north-1", "south-1", "west-1"])


async def test_one_leaves_and_three_go_on() -> None:
    async with cluster() as four:
        client = Client(four.replicas["west-1"], identity("west"), deadline=2.0)
        with suppress(Unavailable):  # the others may have closed its links before it heard of it
            await client.call("membership", Leave("our grant has ended"))
        await until(lambda: all(four.replicas[host].members().n == 3 for host in REST))
        assert four.replicas["north-1"].organisations()["west"].status == trust.LEFT
        await four.same_height(await block(four), REST)


async def test_a_seat_passes_to_the_host_that_was_added() -> None:
    async with cluster() as four:
        passport = Passport("south-9", "south", identity("south-9").public, "127.0.0.1:9")
        proof = prove_possession(identity("south-9"), four.genesis.chain_id(), "south", "south-9")
        await act(four, "south", "membership", AddHost(passport, proof))
        await until(lambda: "south-9" in four.replicas["north-1"].registry())
        await act(four, "south", "membership", RemoveHost("south-1", "it is old"), through="north-1")
        await until(lambda: four.replicas["north-1"].members().key_of("south-9") is not None)
        await four.stop("south-1")
        four.disks["south-9"] = type(four.disks["south-1"])()
        await four.start("south-9")
        await four.stop("west-1")
        await four.same_height(await block(four), ["north-1", "east-1", "south-9"])


async def test_all_who_do_not_know_the_next_rules_stop_at_one_height() -> None:
    async with cluster() as four:
        for voter in NAMES[:3]:
            await act(four, voter, "rules", VoteRules(2, 5, "larger blocks"))
        assert await block(four) == 4
        await until(lambda: all(replica.failure is not None for replica in four.replicas.values()))
        assert {replica.height for replica in four.replicas.values()} == {4}
        assert len({replica.best.digest() for replica in four.replicas.values()}) == 1
        assert "from height 5 on the chain has rules of version 2" in str(four.replicas["west-1"].failure)
