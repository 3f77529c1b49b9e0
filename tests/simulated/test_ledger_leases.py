"""Leases between replicas: asked for when one is wanted, given by a quorum, ended by what a vote promises."""

import pytest

from ledger import codec, heartbeats
from ledger.client import Client
from ledger.contracts import owners, residence
from ledger.contracts.accounts import Create
from ledger.contracts.residence import FOUND, Found, Hold, Statement, WithdrawVote
from ledger.engines import ENGINES
from ledger.errors import Misuse, Unavailable
from ledger.heartbeats import DRIFT, LEASE, Ask, Beat
from ledger.inbox import HEARTBEAT
from ledger.leases import FORGOTTEN
from ledger.links.base import Channel
from ledger.store import mark_restored
from tests.helpers.founders import genesis, identity
from tests.helpers.replicas import Cluster, until

AGENT = codec.digest("an agent")
ANN = identity("ann")
SUBJECT = residence.subject(ANN.public, AGENT)
HOME, NEXT = "north-2", "south-2"
MEMBERS = ["north-1", "east-1", "south-1", "west-1"]


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def cluster(clock: Time) -> Cluster:
    made = Cluster(genesis(4, hosts=2), ENGINES["ipbft"], [*MEMBERS, HOME])
    made.lease_clock = clock
    return made


async def found(four: Cluster) -> None:
    """An agent in held custody on HOME, whose checkpoint is on NEXT."""
    statement = Statement(four.genesis.chain_id(), FOUND, SUBJECT, 3, "", HOME)
    signed = statement.sign(ANN, owners.DOMAIN), statement.sign(identity(HOME))
    home = Client(four.replicas[HOME], identity(HOME))
    receipt = await Client(four.replicas["north-1"], identity("north")).call("accounts", Create(ANN.public, 5))
    await four.same_height(receipt.height)
    await home.call("residence", Found(ANN.public, AGENT, 3, HOME, *signed))
    receipt = await home.call("residence", Hold(SUBJECT, 3, (NEXT,)))
    await four.same_height(receipt.height)


def said(four: Cluster) -> list[heartbeats.Message]:
    """What is said about heartbeats from now on, as members and HOME hear it."""
    heard: list[heartbeats.Message] = []

    def listen(sender: str, channel: Channel, raw: bytes) -> None:
        if channel == Channel.LEDGER and raw[:1] == HEARTBEAT:
            heard.append(heartbeats.decode(raw[1:], sender))

    for links in four.links.values():
        links.on_message(listen)
    return heard


async def test_a_host_has_a_lease_while_it_wants_one_and_a_quorum_answers() -> None:
    clock = Time()
    async with cluster(clock) as four:
        heard, told = said(four), list[bool]()
        await found(four)
        home = four.replicas[HOME].leases
        assert not heard and not home.holds() and home.until is None  # nobody wants one: nothing is sent
        home.keep(told.append)
        await until(home.holds)
        assert home.until == clock.now + LEASE and told == [True]
        assert {type(each) for each in heard} == {Ask, Beat}
        clock.now += LEASE  # as after a suspension: no timer has told of it
        assert not home.holds() and home.until is None
        await four.stop("east-1")
        home.linked()
        await until(home.holds)  # three of four are enough
        await four.stop("west-1")
        clock.now += LEASE
        home.linked()
        before = len(heard)
        await until(lambda: len(heard) >= before + 4)  # two asked, two answered
        assert not home.holds() and told == [True, False, True, False]
        home.drop()


async def test_a_vote_waits_for_the_lease_and_ends_the_heartbeats() -> None:
    clock = Time()
    async with cluster(clock) as four:
        await found(four)
        home = four.replicas[HOME].leases
        voter = Client(four.replicas["east-1"], identity("east-1"))
        with pytest.raises(Unavailable, match="may still hold a lease") as early:
            await voter.vote_rehome(SUBJECT, NEXT)  # it was just started
        assert early.value.retry_after == LEASE + DRIFT
        clock.now += LEASE + DRIFT
        home.keep(lambda holds: None)
        await until(home.holds)
        with pytest.raises(Unavailable, match="may still hold a lease"):
            await voter.vote_rehome(SUBJECT, NEXT)
        home.drop()
        clock.now += LEASE + DRIFT
        await voter.vote_rehome(SUBJECT, NEXT)
        await four.stop("west-1")  # of three, one has voted
        home.keep(lambda holds: None)
        heard = said(four)
        await four.kill("east-1")
        await four.start("east-1")  # and a restart does not make it forget
        await until(lambda: "east-1" in four.links[HOME].up())
        clock.now += 1.0
        home.linked()
        await until(lambda: len(heard) >= 2)
        assert not home.holds()
        receipt = await Client(four.replicas["east-1"], identity("east-1")).call("residence", WithdrawVote(SUBJECT, 4))
        await four.same_height(receipt.height)
        clock.now += 1.0
        home.linked()
        await until(home.holds)
        home.drop()


async def test_a_quorum_of_votes_gives_the_agent_a_new_home() -> None:
    clock = Time()
    async with cluster(clock) as four:
        await found(four)
        await four.stop(HOME)
        clock.now += LEASE + DRIFT
        for member in MEMBERS[:3]:
            await Client(four.replicas[member], identity(member)).vote_rehome(SUBJECT, NEXT)
        there = residence.find(four.replicas["north-1"].state, SUBJECT)
        assert there is not None and (there.host, there.epoch) == (NEXT, 4)
        with pytest.raises(Misuse, match="nothing to vote on"):
            await Client(four.replicas["east-1"], identity("east-1")).vote_rehome(codec.digest("another"), NEXT)


async def test_starts_are_counted_and_an_old_copy_counts_what_it_may_lack() -> None:
    async with cluster(Time()) as four:
        assert four.replicas[HOME].leases.incarnation == 1
        await four.kill(HOME)
        assert (await four.start(HOME)).leases.incarnation == 2
        await four.stop(HOME)
        await mark_restored(four.disks[HOME], four.genesis)
        assert (await four.start(HOME)).leases.incarnation == 3 + FORGOTTEN


async def test_an_old_copy_gives_no_heartbeat_and_no_vote() -> None:
    clock = Time()
    async with cluster(clock) as four:
        await found(four)
        await four.stop("west-1")
        await four.stop("east-1")
        await mark_restored(four.disks["east-1"], four.genesis)
        old = await four.start("east-1")
        clock.now += LEASE + DRIFT
        heard = said(four)
        home = four.replicas[HOME].leases
        await until(lambda: four.links[HOME].up() >= {"north-1", "east-1", "south-1"})
        home.keep(lambda holds: None)
        await until(lambda: sum(isinstance(each, Beat) for each in heard) >= 2)
        assert not home.holds()
        with pytest.raises(Misuse, match="has no vote"):
            await Client(old, identity("east-1")).vote_rehome(SUBJECT, NEXT)
        home.drop()
