"""The contract of the links, held by both kinds; TLS on both event loops."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from ledger.errors import Misuse, PeerFault
from ledger.links.base import MAX_MESSAGE_BYTES, Channel
from ledger.links.memory import Hub
from tests.helpers.linked_hosts import Host, join, memory_host, registry, tls_host, until

Make = Callable[[str], Host]
Story = Callable[[Make], Awaitable[None]]
STORIES: list[Story] = []
TLS_STORIES: list[Story] = []  # what a twin without sockets has no part in
LOOPS = {"plain": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


def tell(story: Story, loop: str, make_one: Make) -> None:
    async def main() -> None:
        hosts: list[Host] = []

        def make(name: str) -> Host:
            hosts.append(make_one(name))
            return hosts[-1]

        try:
            await asyncio.wait_for(story(make), 60)
        finally:
            for host in hosts:
                await host.links.stop()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


@STORIES.append
async def messages_arrive_whole_in_order_and_named(make: Make) -> None:
    a, b, c = (make(name) for name in "abc")
    await join(a, b, c)
    assert ("b", True) in a.changes and ("a", True) in b.changes
    sent = [bytes([number]) * size for number, size in enumerate([0, 1, 70_000, 3_000_000, 5])]
    for message in sent:
        assert a.links.send("b", Channel.MAIL, message)
        assert b.links.send("a", Channel.LEDGER, message)
        assert c.links.send("b", Channel.ADVERT, message)
    await until(lambda: len(b.received) == 10 and len(a.received) == 5)
    assert [m for m in b.received if m[0] == "a"] == [("a", Channel.MAIL, message) for message in sent]
    assert [m for m in b.received if m[0] == "c"] == [("c", Channel.ADVERT, message) for message in sent]
    assert a.received == [("b", Channel.LEDGER, message) for message in sent]
    assert c.received == []


@STORIES.append
async def nothing_is_sent_without_a_link(make: Make) -> None:
    a, b = make("a"), make("b")
    assert not a.links.send("b", Channel.MAIL, b"x")
    await join(a, b)
    assert not a.links.send("c", Channel.MAIL, b"x")
    assert not a.links.send("a", Channel.MAIL, b"x")
    with pytest.raises(Misuse, match="at most"):
        a.links.send("b", Channel.MAIL, bytes(MAX_MESSAGE_BYTES + 1))


@STORIES.append
async def the_largest_message_passes(make: Make) -> None:
    a, b = make("a"), make("b")
    await join(a, b)
    assert a.links.send("b", Channel.HANDOFF, bytes(MAX_MESSAGE_BYTES))
    await until(lambda: b.received)
    assert len(b.received[0][2]) == MAX_MESSAGE_BYTES


@STORIES.append
async def admit_before_start_and_later(make: Make) -> None:
    a, b, c = make("a"), make("b"), make("c")
    await b.links.start()
    await c.links.start()
    a.links.admit(registry(b, c))  # a dials, and needs no address of its own in the registry
    await a.links.start()
    b.links.admit(registry(a))
    await until(lambda: a.links.up() == {"b"} and b.links.up() == {"a"})
    c.links.admit(registry(a))
    await until(lambda: a.links.up() == {"b", "c"})
    assert b.links.up() == {"a"}


@STORIES.append
async def a_revoked_host_is_cut_at_once(make: Make) -> None:
    a, b, c = (make(name) for name in "abc")
    await join(a, b, c)
    a.links.admit(registry(a, c))
    assert a.links.up() == {"c"}
    assert a.changes[-1] == ("b", False)
    assert not a.links.send("b", Channel.MAIL, b"x")
    await until(lambda: b.links.up() == {"c"})
    assert ("a", False) in b.changes
    assert a.links.send("c", Channel.MAIL, b"still")
    await until(lambda: c.received)


@STORIES.append
async def a_host_with_another_key_is_cut(make: Make) -> None:
    a, b = make("a"), make("b")
    await join(a, b)
    assert b.links.up() == {"a"}
    other = make("x").key
    passport = a.passport()
    b.links.admit({"a": type(passport)("a", passport.organisation, other, passport.address)})
    assert b.links.up() == frozenset()
    await until(lambda: a.links.up() == frozenset())


@STORIES.append
async def a_link_comes_back_after_a_restart(make: Make) -> None:
    a, b, c = (make(name) for name in "abc")
    await join(a, b, c)
    for stopped in (a, b):  # the one who dials, and the one who accepts
        await stopped.links.stop()
        assert stopped.links.up() == frozenset()
        await until(lambda stopped=stopped: c.links.up() == {"a", "b"} - {stopped.name})
        assert c.changes[-1] == (stopped.name, False)
        assert not c.links.send(stopped.name, Channel.MAIL, b"x")
        await stopped.links.start()
        book = registry(a, b, c)
        for host in (a, b, c):
            host.links.admit(book)
        await until(lambda: c.links.up() == {"a", "b"} and a.links.up() == {"b", "c"})


@STORIES.append
async def a_receivers_fault_does_not_cost_the_link_but_a_peers_does(make: Make) -> None:
    a, b = make("a"), make("b")
    await join(a, b)

    def receiver(host: str, channel: Channel, message: bytes) -> None:
        if message == b"bug":
            raise RuntimeError("a bug of ours")
        if message == b"fault":
            raise PeerFault(host, "sent nonsense")

    b.links.on_message(receiver)
    a.links.send("b", Channel.MAIL, b"bug")
    a.links.send("b", Channel.MAIL, b"fine")
    await until(lambda: len(b.received) == 2)
    assert b.changes == [("a", True)]
    a.links.send("b", Channel.MAIL, b"fault")
    await until(lambda: b.changes == [("a", True), ("a", False), ("a", True)])  # dialled anew


@TLS_STORIES.append
async def a_vote_overtakes_a_parcel(make: Make) -> None:
    a, b = make("a"), make("b")
    await join(a, b)
    a.links.send("b", Channel.HANDOFF, bytes(MAX_MESSAGE_BYTES))
    for number in range(3):
        await asyncio.sleep(0)
        a.links.send("b", Channel.LEDGER, b"vote %d" % number)
    await until(lambda: len(b.received) == 4)
    assert [channel for _, channel, _ in b.received] == [Channel.LEDGER] * 3 + [Channel.HANDOFF]


@TLS_STORIES.append
async def no_more_is_queued_than_a_bound(make: Make) -> None:
    a, b = make("a"), make("b")
    await join(a, b)
    parcel = bytes(MAX_MESSAGE_BYTES)
    taken = [a.links.send("b", Channel.HANDOFF, parcel) for _ in range(3)]
    assert taken == [True, True, False]
    await until(lambda: len(b.received) == 2)
    assert a.links.send("b", Channel.HANDOFF, b"again")


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("story", STORIES + TLS_STORIES, ids=lambda story: story.__name__)
def test_tls(story: Story, loop: str) -> None:
    tell(story, loop, tls_host)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.__name__)
def test_memory(story: Story) -> None:
    hub = Hub()
    tell(story, "plain", lambda name: memory_host(hub, name))


# The twin's own faults.


async def test_the_hub_cuts_delays_and_drops() -> None:
    hub = Hub()
    a, b = memory_host(hub, "a"), memory_host(hub, "b")
    await join(a, b)
    a.links.send("b", Channel.MAIL, b"under way when the link is cut")
    hub.cut("a", "b")
    assert a.changes[-1] == ("b", False) and b.changes[-1] == ("a", False)
    hub.heal("a", "b")
    await until(lambda: a.links.up())
    hub.drops = lambda source, target, channel, message: channel is Channel.ADVERT
    hub.delay = 0.005
    a.links.send("b", Channel.ADVERT, b"dropped")
    a.links.send("b", Channel.MAIL, b"first")
    hub.delay = 0.0
    a.links.send("b", Channel.MAIL, b"second")
    await until(lambda: len(b.received) == 2)
    assert [message for _, _, message in b.received] == [b"first", b"second"]
