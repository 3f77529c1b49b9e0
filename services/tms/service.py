"""The edge of the TMS: asks this host's replica of the ledger, never another host's word."""

import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ledger.contracts.state import View
from ledger.contracts.trust import Standing
from ledger.currency import Currency
from ledger.links.base import Passport
from services.tms.claims import Required
from services.tms.verdicts import Verdict, outdated, unknown, verdicts

_NOTHING = Required()
MAX_AGE = 1.0  # seconds that verdicts are kept at one height: by then the ledger may have lost touch


class TrustLedger(Protocol):
    """What the TMS reads of the ledger; its replica offers it."""

    @property
    def height(self) -> int: ...

    @property
    def state(self) -> View: ...

    def registry(self) -> Mapping[str, Passport]:
        """The hosts that are trusted now, by name."""

    def organisations(self) -> Mapping[str, Standing]:
        """All organisations ever, revoked ones too, by name."""

    def currency(self) -> Currency:
        """How far all of this is behind the other members."""


class Tms:
    def __init__(
        self, ledger: TrustLedger, clock: Callable[[], float] = time.monotonic, required: Required = _NOTHING
    ) -> None:
        """`required`: the claims that hosts must make for agents to go there from here."""
        self._ledger, self._clock, self._required = ledger, clock, required
        self._at: tuple[int, Mapping[str, Passport]] | None = None  # the height and the registry of the last verdicts
        self._until = 0.0  # when these are too old
        self._verdicts: dict[str, Verdict] = {}

    def verdicts(self) -> Mapping[str, Verdict]:
        """A verdict on every host that the ledger names, at its present height. Each move asks several times: they are
        kept until the height or the registry changes, and never for longer than MAX_AGE."""
        at, now = (self._ledger.height, self._ledger.registry()), self._clock()
        if at != self._at or now >= self._until:
            self._at, self._until = at, now + MAX_AGE
            standings, current = self._ledger.organisations().values(), self._ledger.currency()
            self._verdicts = verdicts(at[1], standings, at[0], self._ledger.state, current, self._required)
        return self._verdicts

    def verdict(self, host: str) -> Verdict:
        """May agents go to `host`, or come from it? Also answers for a host that nobody knows."""
        return self.verdicts().get(host) or unknown(host, self._ledger.height, self._ledger.state)

    def outdated(self) -> str:
        """Why no new move is to rest on what this host knows, and what to do; "" when it may."""
        return outdated(self._ledger.currency())
