"""A replica that is far behind takes the state instead of the blocks: over real replicas, with peers that lie."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from msgspec.structs import replace

from ledger import snapshot
from ledger.block import Block
from ledger.client import Client
from ledger.consensus import messages
from ledger.consensus.engine import RESTORED
from ledger.consensus.messages import Blocks
from ledger.database import Statement
from ledger.inbox import ENGINE, STATE
from ledger.leases import FORGOTTEN
from ledger.light import verify_exports
from ledger.links.base import Channel
from ledger.memory_disk import MemoryDisk
from ledger.rates import Rates
from ledger.snapshot import Ask, Content, Offer, Piece, Want
from ledger.state_transfer import StateTransfer
from tests.helpers.founders import NAMES, genesis, identity, join
from tests.helpers.replicas import Cluster, until
from tests.simulated.test_ledger_replicas import IPBFT, cluster, hop, vote

BLOCKS = 8


@asynccontextmanager
async def grown() -> AsyncIterator[Cluster]:
    """Four members and some blocks, one of which changed the members; whoever is 3 blocks behind leaps."""
    four = Cluster(genesis(4, hosts=2), IPBFT, [f"{name}-1" for name in NAMES[:4]])
    four.leap_behind = 3
    async with four:
        await vote(four, NAMES[:3], join("upper"))
        client = Client(four.replicas["north-1"], identity("north-1"))
        for epoch in range(1, BLOCKS):
            await client.call("records", hop("north-1", epoch, "east-1"))
        await four.same_height(four.replicas["north-1"].height)
        yield four


class Net:
    """Loses the blocks that are served, as if nobody had the old ones; notes and bends what is said of states."""

    def __init__(self, four: Cluster) -> None:
        self.lose_blocks = True
        self.said: list[tuple[str, Content]] = []
        four.hub.drops = self._drops

    def _drops(self, source: str, target: str, channel: Channel, message: bytes) -> bool:
        if channel == Channel.LEDGER and message[:1] == STATE:
            self.said.append((source, snapshot.decode(message[1:], source)))
        if channel == Channel.LEDGER and message[:1] == ENGINE and self.lose_blocks:
            return isinstance(messages.decode(message[1:], source), Blocks)
        return False

    def pieces(self) -> list[int]:
        return [content.piece for _, content in self.said if isinstance(content, Want)]


async def test_a_newcomer_takes_the_state_and_goes_on_by_blocks() -> None:
    async with grown() as four:
        net = Net(four)
        late = await four.start("west-2")
        heights: list[int] = []
        late.on_block(lambda block: heights.append(block.header.height))
        north = four.replicas["north-1"]
        await until(lambda: late.height == north.height)
        assert heights == [north.height] and late.best == north.best
        assert late._chain.copy().state.root == north._chain.copy().state.root
        assert late.members() == north.members() and late.registry() == north.registry()
        net.lose_blocks = False
        receipt = await Client(late, identity("west-2")).call("records", hop("west-2", 1, "west-1"))
        await four.same_height(receipt.height)
        await four.kill("west-2")
        late = await four.start("west-2")
        assert late.height == receipt.height  # and its state leads to the root, or it had not started
        export = await late.export(late.prove(b"trust/organisation/upper"))
        client, _ = verify_exports([export], four.genesis.chain_id())
        assert [term.members.version for term in client.terms] == [0, 1]  # the history came along
        assert not any(replica.faults for replica in four.replicas.values())


async def test_who_has_leapt_is_not_blamed_for_the_blocks_that_it_lacks() -> None:
    async with grown() as four:
        net = Net(four)
        late = await four.start("west-2")
        await until(lambda: late.height == four.replicas["north-1"].height)
        net.lose_blocks = False
        four.leap_behind = 1000
        for host in ("north-1", "east-1", "south-1", "west-1"):
            four.hub.cut("east-2", host)
        other = await four.start("east-2")  # hears of late alone, which cannot help it
        await until(lambda: "west-2" in four.links["east-2"].up())
        four.hub.heal("east-2", "south-1")
        await until(lambda: other.height == late.height)
        assert not other.faults and not late.faults


async def test_a_member_that_leaps_votes_again() -> None:
    four = cluster()
    four.leap_behind = 3
    async with four:
        await four.same_height(max(await vote(four, ("north",), join("upper"))))
        await four.kill("west-1")
        client = Client(four.replicas["north-1"], identity("north-1"))
        for epoch in range(1, BLOCKS):
            await client.call("records", hop("north-1", epoch, "east-1"))
        net = Net(four)
        west = await four.start("west-1")
        await until(lambda: west.height == four.replicas["north-1"].height)
        net.lose_blocks = False
        await four.kill("east-1")  # of four members three are needed, so west is
        await four.same_height(max(await vote(four, ("south",), join("upper"))))


async def test_a_member_whose_disk_was_lost_leaps_and_does_not_vote_yet() -> None:
    """It cannot know what it signed before."""
    async with grown() as four:
        await four.kill("west-1")
        four.disks["west-1"] = MemoryDisk()
        Net(four)
        west = await four.start("west-1")
        await until(lambda: west.height == four.replicas["north-1"].height)
        assert west._store is not None and RESTORED in await west._store.engine()


async def test_a_new_number_of_starts_is_not_told_before_it_is_durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the members would take the host for an old copy of itself after a crash at that moment."""
    writing, go_on = asyncio.Event(), asyncio.Event()
    async with grown() as four:
        await four.kill("west-1")
        four.disks["west-1"] = MemoryDisk()
        Net(four)
        west = await four.start("west-1")
        assert west._store is not None
        database = west._store._database
        write = database.write

        async def slow(*statements: Statement) -> None:
            writing.set()
            await go_on.wait()
            await write(*statements)

        def held(*statements: Statement) -> "asyncio.Future[None]":
            is_leap = any("DELETE FROM pieces" in sql for sql, _ in statements)
            return asyncio.ensure_future(slow(*statements)) if is_leap else write(*statements)

        monkeypatch.setattr(database, "write", held)
        await writing.wait()
        assert west.leases.incarnation == 1
        go_on.set()
        await until(lambda: west.height == four.replicas["north-1"].height)
        assert west.leases.incarnation == 1 + FORGOTTEN


def bent(lie: Callable[[Content], Content]) -> Callable[[StateTransfer], None]:
    def bend(transfer: StateTransfer) -> None:
        honest = transfer._send

        def send(host: str, raw: bytes) -> None:
            honest(host, snapshot.encode(lie(snapshot.decode(raw, host))))

        transfer._send = send

    return bend


def false_piece(content: Content) -> Content:
    if isinstance(content, Piece) and content.buckets:
        return replace(content, buckets=tuple(each[:-1] + b"!" if each else each for each in content.buckets))
    return content


def false_offer(content: Content) -> Content:
    return replace(content, nodes=content.nodes[::-1]) if isinstance(content, Offer) else content


@pytest.mark.parametrize("lie", [false_piece, false_offer])
async def test_a_lying_peer_is_named_and_another_one_asked(lie: Callable[[Content], Content]) -> None:
    async with grown() as four:
        Net(four)
        for liar in ("east-1", "north-1", "south-1"):
            bent(lie)(four.replicas[liar]._transfer)
        late = await four.start("west-2")
        await until(lambda: late.height == four.replicas["west-1"].height)
        assert set(late.faults) <= {"east-1", "north-1", "south-1"} and late.faults["east-1"] == 1
        assert late.state.get(b"trust/members") == four.replicas["west-1"].state.get(b"trust/members")


async def test_what_was_fetched_before_a_crash_is_not_fetched_again() -> None:
    async with grown() as four:
        net = Net(four)
        wanted = 3

        def few(source: str, target: str, channel: Channel, message: bytes) -> bool:
            lost = net._drops(source, target, channel, message)
            return lost or (message[:1] == STATE and len(net.pieces()) > wanted)

        four.hub.drops = few
        late = await four.start("west-2")
        await until(lambda: len(net.pieces()) > wanted)
        assert late.height == 0
        first = net.pieces()[:wanted]
        await four.kill("west-2")
        four.hub.drops = net._drops
        net.said.clear()
        late = await four.start("west-2")
        await until(lambda: late.height == four.replicas["north-1"].height)
        assert net.pieces() and not set(net.pieces()) & set(first)


async def test_nobody_near_is_offered_a_state_and_garbage_is_refused() -> None:
    async with cluster() as four:
        net = Net(four)
        net.lose_blocks = False
        await four.same_height(max(await vote(four, NAMES[:1], join("upper"))))
        assert not any(isinstance(content, Offer) for _, content in net.said)
        north = four.replicas["north-1"]
        for raw in (b"\x00", snapshot.encode(Want(1, 256)), snapshot.encode(Want(1, -1))):
            north._receive("east-1", Channel.LEDGER, STATE + raw)
        assert north.faults["east-1"] == 3
        answer = snapshot.encode(Want(1, 7))
        north._receive("east-1", Channel.LEDGER, STATE + answer)
        await until(lambda: (("north-1", Piece(1, 7, None))) in net.said)


async def test_offers_that_nobody_asked_for_cost_no_work() -> None:
    """To check one takes the certificates of all changes of members; any host may claim to be far ahead."""
    async with grown() as four:
        net = Net(four)
        south = await four.start("south-2")
        await until(lambda: any(isinstance(content, Offer) for _, content in net.said))
        offer = next(content for _, content in net.said if isinstance(content, Offer))
        await until(lambda: south.height == offer.height)
        raw = snapshot.encode(replace(offer, block=Block(replace(offer.block.header, height=10**6), ())))
        south._transfer.ask("east-1")
        for _ in range(50):
            south._receive("east-1", Channel.LEDGER, STATE + raw)
        await until(lambda: len(south._transfer._tasks) == 1)  # the one that asks now and then
        assert south.faults["east-1"] == 1


async def test_a_few_bytes_do_not_buy_offers_without_end() -> None:
    async with grown() as four:
        net, north = Net(four), four.replicas["north-1"]
        north._transfer._served = Rates(lambda: 0.0, per_second=0, burst=20_000)
        for _ in range(50):
            north._receive("east-1", Channel.LEDGER, STATE + snapshot.encode(Ask(0)))
            await until(lambda: not north._transfer._awaited)
        assert 1 <= sum(isinstance(content, Offer) for _, content in net.said) <= 2


async def test_a_false_state_is_never_adopted_even_if_no_piece_were_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "check_piece", lambda *_: None)
    async with grown() as four:
        net = Net(four)
        for host in list(four.replicas):
            bent(false_piece)(four.replicas[host]._transfer)
        late = await four.start("west-2")
        await until(lambda: bool(net.pieces()) and not late._transfer._fetching)
        assert late.height == 0 and late.failure is None and not late.faults
        assert late._store is not None and await late._store.arrived() == {}
