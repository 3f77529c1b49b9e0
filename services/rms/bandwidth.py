"""The bandwidth from each other host to this one: from large states that came, else from bursts asked for. Pure.

A burst is timed from the request to its last byte, less the shortest round trip known. So whatever holds it up, at
either end, makes the number smaller and never larger: of the newest few the largest counts, one slow burst alone says
nothing, and one that is quicker than RESOLVED tells only that the link is no narrower than this host's own connection.
Nobody can send a burst before it was asked for, since it carries the request's nonce.

Cost: a host asks for one burst in ASK_EVERY_S at most, of one host at a time, and sends one in ANSWER_EVERY_S at most:
0.21 Mbit/s in and 0.52 Mbit/s out. A link whose number is younger than RENEW_S is not probed.
"""

import math

import msgspec

from services.rms.resources import MAX_BANDWIDTH

PART_BYTES = 32 * 1024
PARTS = 4
BURST_BYTES = PARTS * PART_BYTES
NONCE_BYTES = 16
ASK_EVERY_S = 5.0
ANSWER_EVERY_S = 2.0
PEER_EVERY_S = 30.0  # in which one host gets one burst: it cannot take the turns of all others
RENEW_S = 60.0
FORGET_S = 600.0  # a number that is older says nothing any more
PATIENCE_S = 4.0  # for a burst; slower than 0.26 Mbit/s is not told from a host that does not answer
LARGE_BYTES = 1 << 20  # less than this of real traffic is no measure
SMOOTHING = 1 / 2  # weight of a new large state: there are few
RESOLVED = 100.0  # Mbit/s: a burst takes 10 ms then, and a busy machine holds it up for as long
BURSTS = 3  # the newest of a link that are kept


class _Draw(msgspec.Struct):
    """The burst that is under way."""

    peer: str
    nonce: bytes
    asked: float
    parts: int = 0  # that came


class Bandwidths:
    """Of all links of one host. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._large: dict[str, tuple[float, float]] = {}  # peer -> Mbit/s of large states, and when the last one came
        self._bursts: dict[str, list[tuple[float, float]]] = {}  # peer -> Mbit/s of its newest, and when they came
        self._tried: dict[str, float] = {}  # peer -> when it was asked last
        self._draw: _Draw | None = None
        self._answered: dict[str, float] = {}  # peer -> when it was sent a burst last
        self._asked = self._sent = -math.inf

    def ask(self, peers: list[str], nonce: bytes, now: float) -> str | None:
        """Whom to ask for a burst now, if anybody. `nonce`: NONCE_BYTES that nobody can guess."""
        if self._draw is not None and now - self._draw.asked > PATIENCE_S:
            self._draw = None
        if self._draw is not None or now - self._asked < ASK_EVERY_S:
            return None
        old = [peer for peer in peers if self._due(peer, now)]
        if not old:
            return None
        peer = min(old, key=lambda each: (self._tried.get(each, -math.inf), each))
        self._tried[peer] = self._asked = now
        self._draw = _Draw(peer, nonce, now)
        return peer

    def may_answer(self, peer: str, now: float) -> bool:
        """Whether `peer` gets the burst that it asks for; then it counts as sent."""
        if now - self._sent < ANSWER_EVERY_S or now - self._answered.get(peer, -math.inf) < PEER_EVERY_S:
            return False
        self._answered[peer] = self._sent = now
        return True

    def part(self, peer: str, nonce: bytes, size: int, least_s: float, now: float) -> None:
        """A part of a burst came. `least_s`: the shortest round trip to `peer`. What was not asked for is nothing."""
        draw = self._draw
        if draw is None or (draw.peer, draw.nonce) != (peer, nonce) or size != PART_BYTES:
            return
        draw.parts += 1
        if draw.parts == PARTS:
            self._draw = None
            burst = _mbits(BURST_BYTES, now - draw.asked - least_s), now
            self._bursts[peer] = [*self._bursts.get(peer, ()), burst][-BURSTS:]

    def transferred(self, peer: str, size: int, seconds: float, now: float) -> None:
        """A large state of `size` bytes came from `peer` within `seconds`."""
        if size >= LARGE_BYTES:
            sample, (old, at) = _mbits(size, seconds), self._large.get(peer, (0.0, -math.inf))
            self._large[peer] = (sample if now - at > FORGET_S else old + SMOOTHING * (sample - old)), now

    def of(self, peer: str, own: float, now: float) -> float | None:
        """Mbit/s, `own` at most, which this host's connection has; None when it was not measured, or too long ago."""
        large, at = self._large.get(peer, (0.0, -math.inf))
        if now - at <= FORGET_S:
            return min(large, own)
        bursts = self._fresh(peer, now)
        if max(bursts, default=0.0) >= RESOLVED:
            return own
        return min(max(bursts), own) if len(bursts) > 1 else None

    def _due(self, peer: str, now: float) -> bool:
        """A number that is old, or a single slow burst."""
        known = [self._large[peer]] if peer in self._large else []
        newest = max((at for _, at in known + self._bursts.get(peer, [])), default=-math.inf)
        fresh = self._fresh(peer, now)
        return now - newest >= (PEER_EVERY_S if len(fresh) == 1 and fresh[0] < RESOLVED else RENEW_S)

    def _fresh(self, peer: str, now: float) -> list[float]:
        return [mbits for mbits, at in self._bursts.get(peer, ()) if now - at <= FORGET_S]

    def keep(self, peers: set[str]) -> None:
        """The links to all others are down: a link that comes back is another one. When they were asked stays known."""
        self._large = {peer: known for peer, known in self._large.items() if peer in peers}
        self._bursts = {peer: bursts for peer, bursts in self._bursts.items() if peer in peers}


def _mbits(size: int, seconds: float) -> float:
    return size * 8 / 1e6 / max(seconds, size * 8 / 1e6 / MAX_BANDWIDTH)
