"""What replicas send each other comes in here: no peer gets more than its share, and none can stop us by a message."""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from ledger.chain import UnknownRules
from ledger.consensus.engine import Accuse
from ledger.errors import PeerFault, Unavailable
from ledger.rates import Rates

log = logging.getLogger(__name__)

# The first byte of a message on Channel.LEDGER: what follows it.
ENGINE = b"\x00"
TRANSACTIONS = b"\x01"
STATE = b"\x02"
HEARTBEAT = b"\x03"
PROPOSAL = b"\x04"


class Inbox:
    def __init__(
        self,
        host: str,
        rates: Rates,
        rooms: Mapping[bytes, Callable[[str, bytes], None]],
        failed: Callable[[Unavailable], None],
        check: Callable[[], None],
    ) -> None:
        """`rooms`: who takes a message, by its kind. `failed`: this replica cannot go on. `check` is called after each
        message: whether what it began is complete."""
        self.faults: Counter[str] = Counter()  # messages that each peer should not have sent
        self._noted: Counter[tuple[str, int]] = Counter()  # the same by the level of the log
        self._host, self._rates, self._rooms = host, rates, rooms
        self._failed, self._check = failed, check
        self._observers: list[Callable[[str, PeerFault], None]] = []

    def on_fault(self, observer: Callable[[str, PeerFault], None]) -> None:
        """`observer(sender, fault)` for every message of the authenticated `sender` that was refused, whoever the fault
        names. Double signing is not among them: it is proven, and kept as evidence."""
        self._observers.append(observer)

    def receive(self, sender: str, message: bytes) -> None:
        with self.shielded(sender):
            self.count(sender, message)
            room = self._rooms.get(message[:1])
            if room is None:
                raise PeerFault(sender, f"sent a ledger message of the unknown kind {message[:1]!r}")
            room(sender, message[1:])

    def count(self, sender: str, message: bytes) -> None:
        """Raises PeerFault for a sender that has had its share."""
        if not self._rates.allow(sender, len(message)):
            raise PeerFault(sender, "sends more than this host takes; the message is dropped")

    @contextmanager
    def shielded(self, sender: str) -> Iterator[None]:
        """A peer must not be able to stop a replica with a message that finds a bug of ours."""
        try:
            yield
        except PeerFault as fault:
            self.blame(fault, sender)
        except UnknownRules as unknown:
            self._failed(unknown)
        except Exception as error:
            self._note(sender, logging.ERROR, "a message could not be worked on", error)
        self._check()

    def blame(self, fault: PeerFault, sender: str | None = None) -> None:
        """`sender`: whose message it was, if that is not the one whom the fault names."""
        self._note(fault.peer, logging.WARNING, str(fault))
        for observer in self._observers:
            observer(sender or fault.peer, fault)

    def accuse(self, accusation: Accuse) -> None:
        """The evidence is kept with the same step's writes."""
        self._note(
            accusation.host, logging.CRITICAL, f"two different things were signed for one place: {accusation.domain}"
        )

    def _note(self, host: str, level: int, fault: str, error: Exception | None = None) -> None:
        """A line for the first of a host's faults of this level, the second, the fourth, the eighth: not for each,
        or few bytes from a peer would fill our disk.
        """
        self.faults[host] += 1
        self._noted[host, level] += 1
        if (count := self._noted[host, level]).bit_count() == 1:
            log.log(level, "%s: %s (fault %d of %s)", self._host, fault, count, host, exc_info=error)
