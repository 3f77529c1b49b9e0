"""Hosts that vote nothing follow the chain; and what the chain's hosts keep convinces one who has only the genesis."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from msgspec.structs import replace

from agentplatform.desk.front import FrontDesk
from ledger import codec
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot
from ledger.client import Client
from ledger.consensus import messages
from ledger.consensus.messages import ChangeView, Content, EnterView, Propose, Vote
from ledger.contracts import records, trust
from ledger.contracts.claims import Claim
from ledger.contracts.trust import VoteSuspend
from ledger.inbox import ENGINE
from ledger.light import LightClient, verify_exports
from ledger.links.base import Channel
from ledger.memory_disk import MemoryDisk
from tests.helpers.founders import NAMES, identity, join, revoke
from tests.helpers.replicas import Cluster, until
from tests.simulated.test_ledger_replicas import cluster, leader_of, vote

SIGNED = (Propose, Vote, ChangeView, EnterView)


@dataclass
class Overheard:
    """What each host sends that binds its sender."""

    by: dict[str, list[Content]] = field(default_factory=dict)

    def drops(self, source: str, target: str, channel: Channel, message: bytes) -> bool:
        if channel == Channel.LEDGER and message[:1] == ENGINE:
            content = messages.decode(message[1:], source)
            if isinstance(content, SIGNED):
                self.by.setdefault(source, []).append(content)
        return False


async def test_observers_follow_and_sign_nothing_also_one_that_joins_later() -> None:
    async with cluster(hosts=2) as eight:
        overheard = Overheard()
        eight.hub.drops = overheard.drops
        await eight.stop("west-2")
        heights = await vote(eight, NAMES[:3], join("upper"))
        others = [host for host in eight.replicas if host != "west-2"]
        await eight.same_height(max(heights), others)
        late = await eight.start("west-2")  # with its empty disk
        await eight.same_height(max(heights))
        assert late.members().n == 5 and "upper" in late.organisations()
        receipt = await Client(late, identity("west")).call("trust", join("lower"))  # it submits like any other
        await eight.same_height(receipt.height)
        assert {host for host in overheard.by if host.endswith("-2")} == set()
        assert {host for host in overheard.by if host.endswith("-1")} == {f"{name}-1" for name in NAMES[:4]}


async def test_an_observer_follows_through_a_change_of_view() -> None:
    async with cluster(hosts=2) as eight:
        dead = leader_of(eight.replicas["north-1"])
        await eight.kill(dead)
        alive = next(name for name in NAMES[:4] if f"{name}-1" != dead)
        heights = await vote(eight, (alive,), join("upper"))
        await eight.same_height(max(heights))  # the four observers too
        assert all(replica.failure is None and not replica.faults for replica in eight.replicas.values())


async def test_a_host_of_an_organisation_that_joins_later_follows_from_genesis_and_then_votes() -> None:
    async with cluster() as four:
        await four.same_height(max(await vote(four, NAMES[:3], join("upper"))))
        four.disks["upper-1"] = MemoryDisk()
        newcomer = await four.start("upper-1")
        height = max(await vote(four, ("north",), join("lower")))
        await four.same_height(height)
        assert newcomer.members().n == 5 and newcomer.members().quorum == 4
        await four.kill("west-1")  # now the newcomer's vote is needed
        heights = await vote(four, ("east",), join("lower"))
        await four.same_height(max(heights))


async def test_a_revoked_member_goes_on_as_nobody() -> None:
    async with cluster(hosts=2) as eight:
        heights = await vote(eight, NAMES[:3], revoke("west"))
        rest = [host for host in eight.replicas if not host.startswith("west")]
        await eight.same_height(max(heights), rest)
        for host in rest:
            assert not eight.links[host].up() & {"west-1", "west-2"}


# What is kept for others


async def test_the_history_of_members_is_kept_and_convinces_a_stranger() -> None:
    async with cluster() as four:
        await four.same_height(max(await vote(four, NAMES[:3], revoke("west"))), ["north-1", "east-1", "south-1"])
        await four.same_height(max(await vote(four, NAMES[:3], join("upper"))), ["north-1", "east-1", "south-1"])
        await four.kill("north-1")
        north = await four.start("north-1")
        export = await north.export(north.prove(b"trust/organisation/west"))
        client, _ = verify_exports([export], four.genesis.chain_id())
        assert [term.members.version for term in client.terms] == [0, 1, 2]
        assert client.members_at(north.height + 1) == north.members()
        assert codec.decode(export.proofs[0].value or b"", trust.Standing).status == trust.REVOKED
        for other in ("east-1", "south-1"):
            LightClient(four.genesis).follow((await four.replicas[other].export()).changes[0])


async def double_voter(four: Cluster) -> None:
    """west-1 signs a second COMMIT for a height and view in which it has voted, and shows it to north-1."""
    north, key = four.replicas["north-1"], identity("west-1")
    ballot = Ballot(four.genesis.chain_id(), 0, COMMIT, north.height + 1, 0, codec.digest("one"))
    for word in ("one", "another"):
        lie = replace(ballot, digest=codec.digest(word))
        vote = Vote(lie, key.sign(VOTE_DOMAIN, lie.encode()))
        four.links["west-1"].send("north-1", Channel.LEDGER, ENGINE + messages.encode(vote))
    await until(lambda: north.faults["west-1"] > 0)


async def test_evidence_of_double_signing_is_kept_across_a_crash_and_convinces_a_stranger() -> None:
    async with cluster() as four:
        await until(lambda: len(four.links["north-1"].up()) == 3)
        await double_voter(four)
        await double_voter(four)  # again: kept once
        (evidence,) = (await four.replicas["north-1"].evidence()).evidence
        await four.kill("north-1")
        north = await four.start("north-1")
        export = await north.evidence()
        assert export.evidence == (evidence,) and evidence.host == "west-1"
        _, (place,) = verify_exports([export], four.genesis.chain_id())
        assert (place.kind, place.height, place.view) == (COMMIT, 1, 0)


async def test_who_signed_twice_is_suspended_for_it_and_the_others_go_on() -> None:
    """As an operator does it: evidence at an honest host, on the chain, and named by the votes."""
    async with cluster() as four:
        await until(lambda: len(four.links["north-1"].up()) == 3)
        await double_voter(four)
        north = four.replicas["north-1"]
        here: Any = SimpleNamespace(replica=north, client=Client(north, identity("north-1")))
        (recorded,) = await FrontDesk(here).perform("record_evidence", {})
        assert await FrontDesk(here).perform("record_evidence", {}) == [recorded]  # once
        accusation = records.blame(north.state, "west-1", bytes.fromhex(recorded["evidence"]))
        assert accusation is not None and accusation.proven
        reason = f"it signed twice: evidence {recorded['evidence']}, recorded at height {recorded['height']}"
        height = max(await vote(four, NAMES[:3], VoteSuspend("west", reason)))
        await four.same_height(height, ["north-1", "east-1", "south-1"])
        west, members = north.organisations()["west"], north.members()
        assert (west.status, west.since, west.reason) == (trust.SUSPENDED, height, reason)
        assert (members.n, members.f, members.quorum, members.version) == (3, 0, 2, 1)
        assert members.key_of("west-1") is None
        await four.stop("south-1")  # two of three are a quorum now, of four they were not
        receipt = await Client(north, identity("north-1")).call("claims", Claim((("version", "2"),)))
        assert receipt.height == height + 1
        export = await north.export(north.prove(b"trust/organisation/west"))
        client, _ = verify_exports([export], four.genesis.chain_id())
        assert client.members_at(height).n == 4 and client.members_at(height + 1).n == 3


async def test_honest_replicas_are_not_accused() -> None:
    async with cluster() as four:
        await asyncio.gather(*(vote(four, (name,), join("upper")) for name in NAMES[:3]))
        for replica in four.replicas.values():
            assert (await replica.evidence()).evidence == ()
