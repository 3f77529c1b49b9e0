"""Round-trip time and loss between this host and each other one, from small probe messages. Sans-IO and pure.

The links run over TCP, which hides lost packets: a probe counts as lost when its answer takes longer than
LOST_AFTER_S. So the loss is that of messages in time, which is what an agent's users feel.
"""

import msgspec

SMOOTHING = 1 / 8  # weight of a new sample, as for TCP's round-trip time (RFC 6298, section 2.3)
LOST_AFTER_S = 3.0
MAX_OUTSTANDING = 16  # probes under way to one host; more are not sent


class LinkMeasure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is known of one link; both are exponentially weighted means."""

    rtt_ms: float  # milliseconds, there and back
    loss: float  # part of the probes without an answer in time, 0 to 1

    def __post_init__(self) -> None:
        # Upper bounds too: the numbers also come from other hosts.
        if not (0.0 <= self.rtt_ms <= 1e6 and 0.0 <= self.loss <= 1.0):
            raise ValueError(f"a link with {self.rtt_ms} ms and a loss of {self.loss} cannot be")


class LinkProbe:
    """The probes to one host. Times are seconds of any steady clock."""

    def __init__(self) -> None:
        self._sent: dict[int, float] = {}  # number of the probe -> time
        self._next = 0
        self._rtt_ms: float | None = None
        self._loss = 0.0

    def ping(self, now: float) -> int | None:
        """The number of a new probe to send, or None while too many are under way."""
        self._expire(now)
        if len(self._sent) >= MAX_OUTSTANDING:
            return None
        number = self._next
        self._next += 1
        self._sent[number] = now
        return number

    def pong(self, number: int, now: float) -> None:
        """The answer to probe `number` came. One that is late, doubled or never asked for changes nothing."""
        self._expire(now)
        sent = self._sent.pop(number, None)
        if sent is None:
            return
        sample = max(0.0, now - sent) * 1000.0
        self._rtt_ms = sample if self._rtt_ms is None else _blend(self._rtt_ms, sample)
        self._loss = _blend(self._loss, 0.0)

    def measure(self, now: float) -> LinkMeasure | None:
        """What is known; None before the first answer."""
        self._expire(now)
        return None if self._rtt_ms is None else LinkMeasure(self._rtt_ms, self._loss)

    def _expire(self, now: float) -> None:
        for number in [number for number, sent in self._sent.items() if now - sent > LOST_AFTER_S]:
            del self._sent[number]
            self._loss = _blend(self._loss, 1.0)


def _blend(old: float, sample: float) -> float:
    return old + SMOOTHING * (sample - old)
