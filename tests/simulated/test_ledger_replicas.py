"""Four replicas on memory links and disks, with the improved PBFT as it runs in production."""

import asyncio
from functools import partial
from hashlib import sha256

import pytest

from ledger import codec, snapshot
from ledger.client import Client
from ledger.consensus.ipbft.engine import Ipbft
from ledger.consensus.ipbft.standing import PREPARED_KEY, PROPOSAL_KEY
from ledger.consensus.leaders import primary
from ledger.consensus.messages import encode_blocks
from ledger.consensus.pbft import Pbft
from ledger.consensus.settings import Settings
from ledger.contracts import records, trust
from ledger.contracts.claims import Claim
from ledger.contracts.records import RecordHop
from ledger.engines import EngineKind
from ledger.errors import Misuse, Unavailable
from ledger.inbox import PROPOSAL, TRANSACTIONS
from ledger.links.base import Channel
from ledger.proposals import Bodies, Envelope, Short, Want
from ledger.replica import Replica
from tests.helpers.founders import NAMES, genesis, identity, join, revoke
from tests.helpers.replicas import Cluster, until

FAST = Settings(
    view_timeout=0.3, max_view_timeout=2.0, relay_after=0.05, resend_every=0.05, status_every=0.2, fetch_after=0.02
)
IPBFT = EngineKind(partial(Ipbft, settings=FAST), encode_blocks, short_proposals=True)
PBFT = EngineKind(partial(Pbft, settings=FAST), encode_blocks, clients_broadcast=False)
both = pytest.mark.parametrize("engine", [IPBFT, PBFT], ids=["ipbft", "pbft"])


def cluster(size: int = 4, hosts: int = 1, engine: EngineKind = IPBFT) -> Cluster:
    return Cluster(genesis(size, hosts), engine)


def leader_of(replica: Replica) -> str:
    """Of view 0."""
    return primary(replica.members(), 0)


def digest(name: str) -> bytes:
    return sha256(name.encode()).digest()


def hop(source: str, epoch: int, destination: str) -> RecordHop:
    return RecordHop(digest(source), epoch, source, destination, digest(f"transfer {epoch}"), digest("parcel"))


async def vote(four: Cluster, voters: tuple[str, ...], action: object) -> list[int]:
    """Every voter's vote through its own replica, all at once; the heights."""
    clients = [Client(four.replicas[f"{voter}-1"], identity(voter)) for voter in voters]
    return [receipt.height for receipt in await asyncio.gather(*(each.call("trust", action) for each in clients))]


@both
async def test_a_vote_revokes_and_the_membership_shrinks(engine: EngineKind) -> None:
    async with cluster(engine=engine) as four:
        west = four.replicas["west-1"]
        assert west.members().n == 4
        heights = await vote(four, NAMES[:3], revoke("west", "its key leaked"))
        rest = ["north-1", "east-1", "south-1"]
        await four.same_height(max(heights), rest)
        for host in rest:
            replica = four.replicas[host]
            assert replica.members().version == 1 and replica.members().n == 3
            assert "west-1" not in replica.registry()
            assert replica.organisations()["west"].reason == "its key leaked"
            assert "west-1" not in four.links[host].up()
        # The three go on, and what the revoked host says is not heard.
        with pytest.raises(Misuse, match="never used again"):
            await vote(four, ("north",), join("west"))
        # Three members withstand no fault: all are needed, and all are there.
        heights = await vote(four, NAMES[:3], join("upper"))
        await four.same_height(max(heights), rest)
        assert four.replicas["north-1"].members().n == 4
        assert west.failure is None
        assert all(replica.failure is None for replica in four.replicas.values())


@both
async def test_the_primary_dies_and_three_go_on_and_it_catches_up(engine: EngineKind) -> None:
    async with cluster(engine=engine) as four:
        first = max(await vote(four, ("north",), join("upper")))
        await four.same_height(first)
        dead = leader_of(four.replicas["north-1"])
        await four.kill(dead)
        others = [name for name in NAMES[:4] if f"{name}-1" != dead]
        heights = await vote(four, tuple(others), join("lower"))
        await four.same_height(max(heights))
        replica = await four.start(dead)
        await four.same_height(max(heights))
        assert replica.organisations().keys() >= {"lower"}
        assert replica.state.get(b"trust/members") == four.replicas[f"{others[0]}-1"].state.get(b"trust/members")
        # It takes part again: lower has a seat and no replica here, so all four others are needed now.
        after = await Client(replica, identity(dead.removesuffix("-1"))).call("trust", join("inner"))
        await four.same_height(after.height)


@pytest.mark.parametrize("dead", NAMES[:4])
async def test_any_one_may_be_down(dead: str) -> None:
    async with cluster() as four:
        await four.kill(f"{dead}-1")
        alive = next(name for name in NAMES[:4] if name != dead)
        heights = await vote(four, (alive,), join("upper"))
        await four.same_height(max(heights))


async def test_all_at_once_lose_power_and_go_on() -> None:
    async with cluster() as four:
        await four.same_height(max(await vote(four, ("north",), join("upper"))))
        for host, replica in list(four.replicas.items()):
            assert replica._store is not None
            kept = (await replica._store.load()).engine
            assert PROPOSAL_KEY not in kept and PREPARED_KEY not in kept  # forgotten when the height was decided
            await four.kill(host)
        for host in four.disks:
            await four.start(host)
        height = max(await vote(four, ("east",), join("upper")))
        await four.same_height(height)
        (proposal,) = trust.proposals(four.replicas["south-1"].state)
        assert [each.organisation for each in proposal.votes] == ["north", "east"]


@both
async def test_a_host_without_a_seat_follows_and_submits(engine: EngineKind) -> None:
    async with cluster(hosts=2, engine=engine) as eight:
        observer = eight.replicas["west-2"]
        assert observer.members().n == 4
        receipt = await Client(observer, identity("west")).call("trust", join("upper"))
        await eight.same_height(receipt.height)
        observer.prove(b"trust/open").check(observer.members())


async def test_one_cut_off_catches_up_when_healed() -> None:
    async with cluster() as four:
        for host in ("north-1", "east-1", "south-1"):
            four.hub.cut("west-1", host)
        heights = [max(await vote(four, ("north",), join(f"new{number}"))) for number in range(3)]
        assert four.replicas["west-1"].height == 0
        for host in ("north-1", "east-1", "south-1"):
            four.hub.heal("west-1", host)
        await four.same_height(max(heights))


async def test_one_cut_off_knows_that_a_quorum_may_have_decided_without_it_and_how_far_it_is_behind() -> None:
    async with cluster() as four:
        west, others = four.replicas["west-1"], ("north-1", "east-1", "south-1")
        for host in others:
            four.hub.cut("west-1", host)
        height = max(await vote(four, ("north",), join("new")))
        await until(lambda: west.currency().unheard > 0.2)
        before = west.currency()
        assert before.behind == 0  # nobody could tell it
        for host in others:
            west._transfer.receive(host, snapshot.encode(snapshot.Ask(height)))
        assert west.currency().behind == height
        for host in others:
            four.hub.heal("west-1", host)
        await four.same_height(height)
        await until(lambda: west.currency().unheard < before.unheard and west.currency().behind == 0)


async def test_many_calls_from_every_host() -> None:
    async with cluster() as four:
        ring = list(four.replicas)
        calls = []
        for host, following in zip(ring, ring[1:] + ring[:1], strict=True):
            client = Client(four.replicas[host], identity(host))
            calls += [client.call("records", hop(host, epoch, following)) for epoch in range(1, 11)]
        receipts = await asyncio.gather(*calls)
        await four.same_height(max(receipt.height for receipt in receipts))
        for replica in four.replicas.values():
            found = [records.hop(replica.state, digest(host), epoch) for host in ring for epoch in range(1, 11)]
            assert [each.height if each else None for each in found] == [receipt.height for receipt in receipts]
            assert not replica.faults


async def test_a_short_proposal_whose_parts_are_lost_is_completed_without_a_change_of_view() -> None:
    """The timers of the view are too long to help."""
    patient = Settings(view_timeout=600, max_view_timeout=600, resend_every=0.05, status_every=0.2)
    lost: set[tuple[str, str, type]] = set()

    def drops(source: str, target: str, channel: Channel, message: bytes) -> bool:
        """What the leader's client sends, and of each part of a proposal the first one on each link."""
        if message[:1] == PROPOSAL:
            part = source, target, type(codec.decode(message[1:], Envelope).content)
            known = part in lost
            lost.add(part)
            return not known
        return message[:1] == TRANSACTIONS and source == leader

    async with cluster(engine=IPBFT._replace(create=partial(Ipbft, settings=patient))) as four:
        leader = leader_of(four.replicas["north-1"])
        other = next(host for host in four.replicas if host != leader)
        await until(lambda: all(len(links.up()) == 3 for links in four.links.values()))
        four.hub.drops = drops
        await Client(four.replicas[leader], identity(leader)).call("records", hop(leader, 1, other))
        assert {part for _, _, part in lost} == {Short, Want, Bodies}
        assert all(replica._performer.engine.view == 0 for replica in four.replicas.values())
        assert not any(replica.faults for replica in four.replicas.values())


async def test_transactions_travel_once_and_one_that_only_the_primary_heard_is_fetched_from_it() -> None:
    sent: list[bytes] = []

    def drops(source: str, target: str, channel: Channel, message: bytes) -> bool:
        sent.append(message)
        return hidden and message[:1] == TRANSACTIONS and source == leader

    async with cluster() as four:
        hidden, leader = False, leader_of(four.replicas["north-1"])
        await until(lambda: all(len(links.up()) == 3 for links in four.links.values()))
        four.hub.drops = drops
        claim = Claim(tuple((f"fact{number:02}", "x" * 200) for number in range(16)))
        await four.same_height((await Client(four.replicas[leader], identity(leader)).call("claims", claim)).height)
        large = [message for message in sent if len(message) > 3000]
        assert len(large) == 3 and all(message[:1] == TRANSACTIONS for message in large)
        hidden, other = True, next(host for host in four.replicas if host != leader)
        await four.same_height(
            (await Client(four.replicas[leader], identity(leader)).call("records", hop(leader, 1, other))).height
        )
        assert all(replica._performer.engine.view == 0 for replica in four.replicas.values())
        assert not any(replica.faults for replica in four.replicas.values())


async def test_one_that_goes_on_without_room_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replica, "_rests", property(lambda replica: replica._leaping))
    monkeypatch.setattr(Replica, "_room_changed", lambda replica, full: None)
    with pytest.raises(AssertionError, match="it gathers what it cannot write"):
        await test_a_replica_without_room_rests_and_catches_up()


async def test_a_replica_without_room_rests_and_catches_up() -> None:
    async with cluster() as four:
        clients = {host: Client(replica, identity(host)) for host, replica in four.replicas.items()}
        await clients["north-1"].call("records", hop("north-1", 1, "east-1"))
        await four.same_height(1)
        full, said = four.replicas["south-1"], four.hub.carry
        sent: list[bytes] = []

        def listen(source: str, target: str, channel: Channel, message: bytes) -> None:
            if source == "south-1" and channel is Channel.LEDGER:
                sent.append(message)
            said(source, target, channel, message)

        four.disks["south-1"].fill()
        four.hub.carry = listen  # type: ignore[method-assign]
        for epoch in (2, 3, 4):
            await clients["north-1"].call("records", hop("north-1", epoch, "east-1"))
        with pytest.raises(Unavailable, match="the disk is full"):
            full.offer(four.call("south-1", hop("south-1", 1, "east-1"), "records"))
        assert full.height == 1 and full.failure is None
        assert not sent  # it signs nothing
        waiting = sum(len(database._waiting) for database in four.disks["south-1"]._open.values())
        assert waiting <= 1, "it gathers what it cannot write"
        four.disks["south-1"].make_room()
        await four.same_height(4)
        await four.stop("west-1")  # so its vote is needed
        await clients["south-1"].call("records", hop("south-1", 1, "east-1"))
