"""The edge of the TMS: asks this host's replica of the ledger, never another host's word."""

from collections.abc import Mapping
from typing import Protocol

from ledger.contracts.trust import Standing
from ledger.links.base import Passport
from services.tms.verdicts import Verdict, unknown, verdicts


class TrustLedger(Protocol):
    """What the TMS reads of the ledger; its replica offers it."""

    @property
    def height(self) -> int: ...

    def registry(self) -> Mapping[str, Passport]:
        """The hosts that are trusted now, by name."""

    def organisations(self) -> Mapping[str, Standing]:
        """All organisations ever, revoked ones too, by name."""


class Tms:
    def __init__(self, ledger: TrustLedger) -> None:
        self._ledger = ledger
        self._at: tuple[int, Mapping[str, Passport]] | None = None  # the height and the registry of the last verdicts
        self._verdicts: dict[str, Verdict] = {}

    def verdicts(self) -> Mapping[str, Verdict]:
        """A verdict on every host that the ledger names, at its present height. Each move asks several times."""
        now = self._ledger.height, self._ledger.registry()
        if now != self._at:
            self._at = now
            self._verdicts = verdicts(now[1], self._ledger.organisations().values(), now[0])
        return self._verdicts

    def verdict(self, host: str) -> Verdict:
        """May agents go to `host`, or come from it? Also answers for a host that nobody knows."""
        return self.verdicts().get(host) or unknown(host, self._ledger.height)
