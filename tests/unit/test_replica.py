"""The replica as an edge, with an engine of one: what is durable, what is told, what is refused."""

import asyncio
from pathlib import Path

import pytest

from ledger import codec, outbox, requests
from ledger.block import Header
from ledger.certificate import VOTE_DOMAIN
from ledger.client import Client
from ledger.consensus.engine import Accuse
from ledger.contracts import records, trust
from ledger.contracts.records import RecordHop
from ledger.contracts.rules import VoteRules
from ledger.disk import FileDisk
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.inbox import ENGINE, PROPOSAL, TRANSACTIONS
from ledger.links.base import Channel
from ledger.links.memory import MemoryLinks
from ledger.memory_disk import MemoryDisk
from ledger.proposals import Envelope, Short
from ledger.replica import Replica
from ledger.requests import OWN_CLIENT
from ledger.transaction import MAX_TRANSACTION_BYTES, transaction_id
from tests.helpers.founders import NAMES, call, genesis, identity, join, revoke
from tests.helpers.replicas import Cluster, until
from tests.helpers.solo_engine import PROMISE, SOLO


def hop(epoch: int = 1) -> RecordHop:
    return RecordHop(bytes(32), epoch, "north-1", "north-2", bytes(32), bytes(32))


def cluster(*hosts: str, size: int = 1) -> Cluster:
    return Cluster(genesis(size, hosts=2), SOLO, list(hosts))


async def test_a_transaction_becomes_final_everywhere() -> None:
    async with cluster("north-1", "north-2") as both:
        told: list[int] = []
        both.replicas["north-2"].on_block(lambda block: told.append(block.header.height))
        # Submitted on the host that has no seat: it relays to the members and follows.
        raw = both.call("north-2", hop(), "records", through="north-2")
        assert await both.replicas["north-2"].submit(raw) == 1
        for replica in both.replicas.values():
            found = records.hop(replica.state, bytes(32), 1)
            assert found is not None and found.by == "north-2"
        assert told == [1]
        assert both.replicas["north-1"].registry().keys() == {"north-1", "north-2"}
        assert [member.host for member in both.replicas["north-2"].members().members] == ["north-1"]
        assert list(both.replicas["north-2"].organisations()) == ["north"]


async def test_one_key_several_calls_at_once() -> None:
    async with cluster("north-1", "north-2") as both:
        client = Client(both.replicas["north-2"], identity("north-2"))
        receipts = await asyncio.gather(*(client.call("records", hop(epoch)) for epoch in range(1, 9)))
        assert [receipt.height for receipt in receipts] == sorted(receipt.height for receipt in receipts)
        assert both.replicas["north-2"].next_nonce(identity("north-2").public) == 8
        key = b"records/hop/" + bytes(32) + (3).to_bytes(8, "big")
        proof = client.prove(key)
        proof.check(both.replicas["north-2"].members())
        assert codec.decode(proof.value or b"", records.Hop).record == hop(3)


async def test_a_refusal_comes_at_once_or_when_its_turn_is_lost() -> None:
    async with cluster("north-1") as alone:
        replica = alone.replicas["north-1"]
        client = Client(replica, identity("north-1"))
        with pytest.raises(Misuse, match="no contract"):
            await client.call("gold", hop())
        again = replica.offer(call(replica.chain_id, "north-1", 1, hop(), "records"))  # waits for its turn
        assert (await client.call("records", hop())).height == 1
        with pytest.raises(Misuse, match="can no longer run: epoch 1 of agent"):
            await again
        assert (await client.call("records", hop(2))).height == 2  # its nonce is free again
        with pytest.raises(PeerFault, match="no Signed"):
            await replica.submit(b"\x00")


async def test_a_refused_call_does_not_hold_up_those_behind_it() -> None:
    async with cluster("north-1", "north-2") as both:
        follower = both.replicas["north-2"]
        both.hub.cut("north-1", "north-2")
        client = Client(follower, identity("north-2"))
        calls = [asyncio.create_task(client.call("records", hop(epoch))) for epoch in (1, 1, 2, 3)]
        await until(lambda: follower.next_nonce(identity("north-2").public) == 4)
        both.hub.heal("north-1", "north-2")
        first, again, *others = await asyncio.gather(*calls, return_exceptions=True)
        assert isinstance(again, Misuse) and "was recorded" in str(again)
        assert not any(isinstance(each, BaseException) for each in (first, *others))
        assert records.hop(follower.state, bytes(32), 3) is not None


async def test_a_key_that_is_used_elsewhere_too_signs_again() -> None:
    async with cluster("north-1", "north-2") as both:
        here, there = (Client(replica, identity("north-1")) for replica in both.replicas.values())
        calls = [client.call("records", hop(epoch)) for epoch, client in enumerate([here, there] * 3, start=1)]
        await asyncio.gather(*calls)
        assert both.replicas["north-1"].next_nonce(identity("north-1").public) == 6


async def test_no_finality_in_time_says_what_to_do() -> None:
    async with cluster("north-2") as follower:  # whose leader never runs
        client = Client(follower.replicas["north-2"], identity("north-2"), deadline=0.05)
        with pytest.raises(Unavailable, match="1 of 1 members must be up"):
            await client.call("records", hop())


async def test_a_submission_waits_for_members_to_come_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESEND_EVERY", 3600.0)  # so it is the link that wakes it
    async with cluster("north-2") as both:
        raw = both.call("north-2", hop(), "records", through="north-2")
        waiting = asyncio.create_task(both.replicas["north-2"].submit(raw))
        await until(lambda: both.replicas["north-2"].next_nonce(identity("north-2").public) == 1)
        await both.start("north-1")
        assert await waiting == 1


async def test_a_submission_that_was_lost_on_the_way_is_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "RESEND_EVERY", 0.01)
    lost: list[bytes] = []

    def drops(source: str, target: str, channel: Channel, message: bytes) -> bool:
        if message[:1] != TRANSACTIONS or lost:
            return False
        lost.append(message)
        return True

    async with cluster("north-1", "north-2") as both:
        await until(lambda: bool(both.links["north-2"].up()))
        both.hub.drops = drops
        assert await both.replicas["north-2"].submit(both.call("north-2", hop(), "records", through="north-2")) == 1
        assert lost


# Durable before visible


async def early_messages(both: Cluster) -> list[bytes]:
    """What leaves the leader while its disk has made nothing durable."""
    await until(lambda: bool(both.links["north-1"].up()))
    left: list[bytes] = []
    both.hub.drops = lambda source, target, channel, message: source == "north-1" and not left.append(message)
    disk = both.disks["north-1"]
    disk.hold = True
    leader = both.replicas["north-1"]
    future = leader.offer(both.call("north-1", hop(), "records"))
    for _ in range(20):
        await asyncio.sleep(0)
    early = list(left)
    if not early:
        assert not future.done() and leader.height == 0
        disk.sync()
        await future
        await until(lambda: bool(left))
    disk.hold = False
    disk.sync()
    return early


async def test_nothing_leaves_before_the_write_is_durable() -> None:
    async with cluster("north-1", "north-2") as both:
        assert await early_messages(both) == []


async def test_that_check_catches_an_edge_that_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox.Outbox, "behind", lambda self, write: None)
    async with cluster("north-1", "north-2") as both:
        assert await early_messages(both) != []


async def test_a_crash_before_the_write_forgets_and_after_it_keeps() -> None:
    async with cluster("north-1") as alone:
        await alone.replicas["north-1"].submit(alone.call("north-1", hop(), "records"))
        alone.disks["north-1"].hold = True
        lost = alone.replicas["north-1"].offer(alone.call("north-1", hop(2), "records"))
        await alone.kill("north-1")
        assert isinstance(lost.exception(), Unavailable)
        alone.disks["north-1"].hold = False
        replica = await alone.start("north-1")
        assert replica.height == 1
        assert replica._performer.engine.recovered[PROMISE] == codec.encode(1)  # type: ignore[attr-defined]
        assert await replica.submit(alone.call("north-1", hop(2), "records")) == 2


async def test_a_disk_that_fails_stops_the_replica() -> None:
    async with cluster("north-1", "north-2") as both:
        leader = both.replicas["north-1"]
        reports: list[Unavailable] = []
        leader.on_failure(reports.append)
        both.disks["north-1"].fail_next_sync()
        with pytest.raises(Unavailable, match="sends nothing more"):
            await leader.submit(both.call("north-1", hop(), "records"))
        assert reports == [leader.failure]
        with pytest.raises(Unavailable, match="sends nothing more"):
            leader.offer(both.call("north-1", hop(), "records"))
        assert both.replicas["north-2"].height == 0
        sent: list[bytes] = []
        both.hub.drops = lambda source, target, channel, message: source == "north-1" and not sent.append(message)
        leader._receive("north-2", Channel.LEDGER, ENGINE + codec.encode(1))
        assert sent == []


# Restart, and other disks


async def test_a_late_follower_is_served_and_a_restart_goes_on() -> None:
    async with cluster("north-1") as both:
        for epoch in range(1, 6):
            await both.replicas["north-1"].submit(both.call("north-1", hop(epoch), "records"))
        await both.start("north-2")
        await both.same_height(5)
        await both.stop("north-2")
        await both.stop("north-1")
        await both.start("north-1")
        await both.start("north-2")
        assert both.replicas["north-2"].height == both.replicas["north-1"].height == 5
        assert records.hop(both.replicas["north-2"].state, bytes(32), 4) is not None
        await both.replicas["north-1"].submit(both.call("north-1", hop(6), "records"))
        await both.same_height(6)


async def test_what_the_state_forgot_stays_forgotten() -> None:
    async with cluster("north-1", size=3) as alone:
        for voter in ("north", "east"):
            await alone.replicas["north-1"].submit(alone.call(voter, revoke("south"), through="north-1"))
        await alone.stop("north-1")
        replica = await alone.start("north-1")  # which compares the state with the header's root
        assert replica.proposals() == () and replica.members().n == 2


async def test_a_real_disk_gives_back_the_same_chain(tmp_path: Path) -> None:
    async with cluster("north-1") as alone:
        for epoch in (1, 2):
            await alone.stop("north-1")
            alone.disks["north-1"] = FileDisk(tmp_path / "data")  # type: ignore[assignment]
            replica = await alone.start("north-1")
            assert replica.height == epoch - 1
            assert await replica.submit(alone.call("north-1", hop(epoch), "records")) == epoch
            await alone.stop("north-1")
            await alone.disks["north-1"].close()
            alone.disks["north-1"] = MemoryDisk()
            await alone.start("north-1")


async def test_the_disk_of_another_chain_is_refused() -> None:
    async with cluster("north-1") as alone:
        await alone.stop("north-1")
        alone.genesis = genesis(2)
        with pytest.raises(Misuse, match="another chain"):
            await alone.start("north-1")
        alone.genesis = genesis(1, hosts=2)
        await alone.start("north-1")  # the refusal let the disk go and changed nothing


async def test_a_damaged_state_is_refused() -> None:
    async with cluster("north-1") as alone:
        await alone.replicas["north-1"].submit(alone.call("north-1", hop(), "records"))
        store = alone.replicas["north-1"]._store
        assert store is not None
        await store.write(("UPDATE changed SET changes = ? WHERE height = 1", (codec.encode(()),)))
        await alone.stop("north-1")
        with pytest.raises(Misuse, match="damaged"):
            await alone.start("north-1")


async def test_stop_before_start_and_start_before_links() -> None:
    founding = genesis(1)
    async with cluster("north-1") as alone:
        links = MemoryLinks(alone.hub, "north-1", identity("north-1").public, founding.chain_id())
        replica = Replica("north-1", identity("north-1"), founding, MemoryDisk(), links, SOLO)
        with pytest.raises(Unavailable, match="start it first"):
            replica.offer(b"")
        await replica.stop()


# Peers


@pytest.mark.parametrize(
    "message",
    [b"", b"\x07", ENGINE, ENGINE + b"\xc1", ENGINE + b"\x91\x01", TRANSACTIONS, TRANSACTIONS + b"\x93\x01\x02\x03",
     TRANSACTIONS + codec.encode([bytes(MAX_TRANSACTION_BYTES + 1)]),
     TRANSACTIONS + codec.encode([b"\x93\x01\x02\x03"]),
     TRANSACTIONS + codec.encode([call(bytes(32), "north", 0, revoke("north"))])],
)  # fmt: skip
async def test_bad_messages_are_counted_and_change_nothing(message: bytes) -> None:
    async with cluster("north-1", "north-2") as both:
        leader = both.replicas["north-1"]
        await until(lambda: bool(both.links["north-2"].up()))
        both.links["north-2"].send("north-1", Channel.LEDGER, message)
        await until(lambda: leader.faults["north-2"] == 1)
        assert await leader.submit(both.call("north-1", hop(), "records")) == 1


async def test_a_peer_cannot_fill_the_disk_with_lines_about_it(caplog: pytest.LogCaptureFixture) -> None:
    async with cluster("north-1") as alone:
        leader = alone.replicas["north-1"]
        for _ in range(1000):
            leader._receive("north-2", Channel.LEDGER, b"\x07")
        assert leader.faults["north-2"] == 1000
        assert [record.args[2] for record in caplog.records] == [2**power for power in range(10)]  # type: ignore[index]
        caplog.clear()
        twice = Accuse(
            "north-2", VOTE_DOMAIN, *[identity("north-2").signed(VOTE_DOMAIN, each) for each in (b"a", b"b")]
        )
        leader._inbox.accuse(twice)  # what is worse has its own count
        assert "two different things were signed" in caplog.text and "(fault 1 of north-2)" in caplog.text


async def test_a_message_that_finds_a_bug_does_not_stop_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cluster("north-1") as alone:
        leader = alone.replicas["north-1"]
        with monkeypatch.context() as patch:
            patch.setattr(leader._performer.engine, "message", lambda *_: 1 / 0)
            leader._receive("north-2", Channel.LEDGER, ENGINE)
        assert leader.faults["north-2"] == 1 and leader.failure is None
        assert await leader.submit(alone.call("north-1", hop(), "records")) == 1


async def test_a_block_that_is_appended_and_not_decided_stops_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory ahead of the disk would write the next block over a hole."""
    async with cluster("north-1") as alone:
        leader = alone.replicas["north-1"]
        leader._chain.take(alone.call("north-1", hop(), "records"), "a")

        def half(*_: object) -> list:
            leader._performer.engine._decide(0)  # type: ignore[attr-defined]
            raise ValueError("after the append")

        monkeypatch.setattr(leader._performer.engine, "message", half)
        leader._receive("north-2", Channel.LEDGER, ENGINE)
        assert leader.failure is not None and "without deciding" in str(leader.failure)


async def test_a_peer_that_sends_too_much_is_cut_short() -> None:
    async with cluster("north-1") as alone:
        leader = alone.replicas["north-1"]
        leader._inbox._rates._burst = 10
        leader._receive("north-2", Channel.LEDGER, bytes(11))
        assert leader.faults["north-2"] == 1


async def test_a_proposal_that_is_put_together_counts_as_if_it_came_whole() -> None:
    """Else a few bytes, again and again, would buy the work that a whole block takes."""
    async with cluster("north-1") as alone:
        leader, raws, delivered = alone.replicas["north-1"], (bytes(9000), bytes(9001)), []
        leader._performer.message = lambda *message: delivered.append(message)  # type: ignore[method-assign]
        leader._proposals.heard(OWN_CLIENT, raws)
        header = Header(leader.chain_id, 1, *[bytes(32)] * 4, 1, 1, "north-2")
        short = PROPOSAL + codec.encode(Envelope(Short(0, header, tuple(map(transaction_id, raws)))))
        leader._inbox._rates._burst, leader._inbox._rates._per_second = 30_000, 0
        for _ in range(3):
            leader._receive("north-2", Channel.LEDGER, short)
        assert len(delivered) == 1 and leader.faults["north-2"] == 2


async def test_other_channels_are_not_the_ledgers() -> None:
    async with cluster("north-1") as alone:
        alone.replicas["north-1"]._receive("north-2", Channel.MAIL, b"hello")
        assert not alone.replicas["north-1"].faults


async def test_a_failing_observer_harms_nobody() -> None:
    async with cluster("north-1") as alone:
        heights: list[int] = []
        alone.replicas["north-1"].on_block(lambda block: [].pop())
        alone.replicas["north-1"].on_block(lambda block: heights.append(block.header.height))
        await alone.replicas["north-1"].submit(alone.call("north-1", hop(), "records"))
        assert heights == [1]


async def test_revocation_reaches_the_links_and_the_revoked_host_lives_on() -> None:
    async with cluster("north-1", "north-2", "east-1", size=2) as three:
        leader = three.replicas["north-1"]
        await until(lambda: len(three.links["north-1"].up()) == 2)
        await leader.submit(three.call("north", revoke("east"), through="north-1"))
        assert three.links["north-1"].up() == {"north-2"}
        assert leader.registry().keys() == {"north-1", "north-2"}
        assert three.replicas["east-1"].failure is None
        assert leader.organisations()["east"].status == trust.REVOKED
        with pytest.raises(Misuse):
            await leader.submit(call(leader.chain_id, "east", 0, join("upper")))
        await leader.submit(three.call("north", join("upper"), through="north-1"))
        assert "upper-1" in leader.registry()
        assert NAMES[0] in leader.organisations()


async def test_a_replica_that_does_not_know_the_next_rules_stops_and_says_so() -> None:
    async with cluster("north-1") as alone:
        leader = alone.replicas["north-1"]
        await leader.submit(alone.call("north", VoteRules(2, 3, "larger blocks"), "rules"))
        assert leader.failure is None
        await leader.submit(alone.call("north", join("upper")))
        await until(lambda: leader.failure is not None)
        assert "from height 3 on the chain has rules of version 2" in str(leader.failure)
        assert leader.height == 2
        with pytest.raises(Unavailable, match="install one that knows them"):
            await leader.submit(alone.call("north", join("lower")))
        await alone.stop("north-1")
        with pytest.raises(Unavailable, match="install one that knows them"):
            await alone.start("north-1")
