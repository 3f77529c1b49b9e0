"""Round-trip time and loss between this host and each other one, from small probe messages. Sans-IO and pure.

The links run over TCP, which hides lost packets: a probe counts as lost when its answer takes longer than
LOST_AFTER_S. So the loss is that of messages in time, which is what an agent's users feel.
"""

import math
from typing import Annotated

import msgspec

from services.rms.resources import MAX_BANDWIDTH

SMOOTHING = 1 / 8  # weight of a new sample, as for TCP's round-trip time (RFC 6298, section 2.3)
LOST_AFTER_S = 3.0
MAX_OUTSTANDING = 16  # probes under way to one host; more are not sent


class LinkMeasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True, array_like=True, gc=False):
    """What is known of one link. The numbers also come from other hosts: so there are bounds, and no NaN is within."""

    rtt_ms: Annotated[float, msgspec.Meta(ge=0.0, le=1e6)]  # milliseconds, there and back; weighted mean
    loss: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]  # part of the probes without an answer in time; weighted mean
    # Mbit/s from the other end to the one that says it (services.rms.bandwidth); None: not measured
    bandwidth: Annotated[float, msgspec.Meta(gt=0.0, le=MAX_BANDWIDTH)] | None = None


class LinkProbe:
    """The probes to one host. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self.pinged = -math.inf  # when the last one was sent
        self.least_s = math.inf  # the shortest round trip so far, in seconds
        self._sent: dict[int, float] = {}  # number of the probe -> time
        self._rtt_ms: float | None = None
        self._loss = 0.0

    def ping(self, number: int, now: float) -> bool:
        """Probe `number` is to be sent. False, and it is not, while too many are under way."""
        self.pinged = now  # also when it is not: others have their turn
        self._expire(now)
        if len(self._sent) >= MAX_OUTSTANDING:
            return False
        self._sent[number] = now
        return True

    def pong(self, number: int, now: float) -> None:
        """The answer to probe `number` came. One that is late, doubled or never asked for changes nothing."""
        self._expire(now)
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        sample = max(0.0, now - sent)
        self.least_s = min(self.least_s, sample)
        self._rtt_ms = sample * 1000 if self._rtt_ms is None else _blend(self._rtt_ms, sample * 1000)
        self._loss = _blend(self._loss, 0.0)

    def measure(self, now: float, bandwidth: float | None = None) -> LinkMeasure | None:
        """What is known; None before the first answer."""
        self._expire(now)
        return None if self._rtt_ms is None else LinkMeasure(self._rtt_ms, self._loss, bandwidth)

    def _expire(self, now: float) -> None:
        for number in [number for number, sent in self._sent.items() if now - sent > LOST_AFTER_S]:
            del self._sent[number]
            self._loss = _blend(self._loss, 1.0)


def _blend(old: float, sample: float) -> float:
    return old + SMOOTHING * (sample - old)
