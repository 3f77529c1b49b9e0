"""Links of a rate and a delay: the bucket by a clock of its own, the relays by what passes them."""

import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest

from agentplatform.consortium import found
from benchmarks import ledger_link, shaped
from benchmarks.token_bucket import TokenBucket
from benchmarks.tun_relay import relay

RATE, BURST = 1000.0, 300.0  # bytes a second, bytes
SECONDS = 0.02


class Forgetful(TokenBucket):
    """Deliberately broken: each time it is full again."""

    def take(self, size: int, now: float) -> float:
        self._level = self._burst
        return super().take(size, now)


def seconds_of(bucket: TokenBucket, pieces: list[int], begin: float) -> float:
    """How long they take when each is handed over as soon as the one before is through."""
    now = begin
    for piece in pieces:
        through = bucket.take(piece, now)
        assert through >= now
        now = through
    return now - begin


@pytest.mark.parametrize("pieces", [[7] * 1000, [5000, 1999, 1], [250] * 28], ids=["small", "large", "below a burst"])
def test_what_is_more_than_a_burst_passes_at_the_rate(pieces: list[int]) -> None:
    expected = (sum(pieces) - BURST) / RATE
    assert seconds_of(TokenBucket(RATE, BURST), pieces, 1e6) == pytest.approx(expected)
    if max(pieces) < BURST:
        assert seconds_of(Forgetful(RATE, BURST), pieces, 1e6) == 0.0  # so a bucket that forgets is caught


def test_an_idle_bucket_fills_up_to_its_burst_and_no_further() -> None:
    bucket = TokenBucket(RATE, BURST)
    assert bucket.take(300, 5.0) == 5.0
    assert bucket.take(100, 5.0) == pytest.approx(5.1)
    assert bucket.take(100, 5.3) == 5.3  # 0.1 s for what was owed, 0.2 s for 200 bytes
    assert bucket.take(100, 5.3) == 5.3
    assert bucket.take(400, 1000.0) == pytest.approx(1000.1)


def test_of_what_is_handed_over_at_once_each_waits_for_those_before() -> None:
    bucket = TokenBucket(RATE, BURST)
    through = [bucket.take(300, 9.0) for _ in range(4)]
    assert through == pytest.approx([9.0, 9.3, 9.6, 9.9])


# Relays


def test_a_relayed_link_with_a_rate_passes_all_in_order_both_ways_and_the_end_of_one_way_alone() -> None:
    with shaped.shaped(400.0, relay=True) as link:
        listen, reached = link.place(1)
        sent = bytes(range(256)) * 1024
        with socket.create_server(shaped.host_and_port(listen)) as listening:
            near = socket.create_connection(shaped.host_and_port(reached))
            far, _ = listening.accept()
            with near, far:
                threading.Thread(target=lambda: (near.sendall(sent), near.shutdown(socket.SHUT_WR))).start()
                assert b"".join(iter(lambda: far.recv(1 << 16), b"")) == sent
                far.sendall(sent[::-1])  # one way has ended, the other has not
                far.shutdown(socket.SHUT_WR)
                assert b"".join(iter(lambda: near.recv(1 << 16), b"")) == sent[::-1]


def test_bytes_take_at_least_as_long_as_the_rate_says() -> None:
    """At most they take any time, on a busy machine; that the rate is not too low is the bucket's test."""
    with shaped.shaped(40.0, relay=True) as link:
        assert shaped.send(link, 100_000) >= (100_000 - 2 * 3200) * 8 / 40e6


def test_a_relayed_link_gets_another_rate_while_connections_stand() -> None:
    with shaped.shaped(None, relay=True) as link:
        listen, reached = link.place(1)
        with socket.create_server(shaped.host_and_port(listen)) as listening:
            near = socket.create_connection(shaped.host_and_port(reached))
            far, _ = listening.accept()
            with near, far:
                for mbit, least in ((None, 0.0), (20.0, (50_000 - 2 * 3200) * 8 / 20e6), (None, 0.0)):
                    link.shape(mbit)
                    begin, left = time.monotonic(), 50_000
                    near.sendall(bytes(left))
                    while left:
                        left -= len(far.recv(left))
                    assert time.monotonic() - begin >= least


def test_a_plain_transfer_that_ends_early_says_how_much_is_missing() -> None:
    def refuse(piece: memoryview) -> None:
        raise OSError("the disk is full")

    with shaped.shaped(None, relay=True) as link:
        pieces: list[int] = []
        assert shaped.send(link, 700_001, lambda piece: pieces.append(len(piece))) > 0.0
        assert sum(pieces) == 700_001
        with pytest.raises(OSError, match="the disk is full"):
            shaped.send(link, 700_001, refuse)


def test_packets_leave_the_cable_late_in_order_and_whole() -> None:
    (far_a, a), (far_b, b) = (socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2))
    stop, until = socket.socketpair()
    cable = threading.Thread(target=relay, args=((a.fileno(), b.fileno()), SECONDS, until.fileno()))
    cable.start()
    sent: list[float] = []
    for number in range(20):
        sent.append(time.monotonic())
        far_a.send(bytes([number]) * (number + 1))
    came = []
    for number in range(20):
        assert far_b.recv(100) == bytes([number]) * (number + 1)
        came.append(time.monotonic())
    far_b.send(b"back")
    assert far_a.recv(100) == b"back"
    stop.close()
    cable.join(10)
    assert not cable.is_alive()
    assert all(after - before >= SECONDS for before, after in zip(sent, came, strict=True))
    assert all(one <= other for one, other in pairwise(came))
    for each in (far_a, a, far_b, b, until):
        each.close()


def test_a_relay_ends_with_who_has_started_it(tmp_path: Path) -> None:
    devices = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    numbers = [each.fileno() for each in devices]
    words = [sys.executable, "-m", "benchmarks.tun_relay", *map(str, numbers), "0.01"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, pass_fds=numbers) as process:
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(60) == 0
    for each in devices:
        each.close()


def test_hosts_are_founded_at_the_addresses_that_are_given(tmp_path: Path) -> None:
    homes = found(tmp_path / "root", ("north", "east"), addresses=("10.78.0.1:7000", "10.78.0.2:7001"))
    assert [home.settings().listen for home in homes] == ["10.78.0.1:7000", "10.78.0.2:7001"]


def test_replicas_cross_the_link_to_the_primary_and_nowhere_else() -> None:
    with shaped.shaped(None, relay=True) as link:
        primary, *others = (ledger_link.Address(link, place) for place in range(4))
        assert primary.dialled != primary.listen
        assert all(other.dialled == other.listen and other.namespace is None for other in others)
    alone = [ledger_link.Address(ledger_link.LOOPBACK, place) for place in range(4)]
    assert all(address.dialled == address.listen for address in alone)
