"""What the hosts say of themselves: the newest advert of each, for as long as it lives. Pure: time is an argument."""

from typing import NamedTuple

from msgspec.structs import replace

from ledger.errors import PeerFault
from services.rms.adverts import Advert, Offers, Statement, Told


class _Heard(NamedTuple):
    told: Told
    statement: Statement
    advert: Advert  # the statement's, with its offers as far as they are known
    until: float


class Catalogue:
    """The newest advert of each host. Times are seconds of any steady clock of this host."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}
        self._offers: dict[bytes, frozenset[str]] = {b"": frozenset()}  # by digest: many hosts offer the same

    def take(self, told: Told, statement: Statement, now: float) -> bool:
        """Whether what the host offers is known. Raises PeerFault for an advert that is not newer than the last one of
        that host, while that lives."""
        known = self._heard.get(statement.host)
        if known is not None and now <= known.until and statement.number <= known.statement.number:
            raise PeerFault(
                statement.host, f"sent advert {statement.number} again, or late: {known.statement.number} was heard"
            )
        offers = self._offers.get(statement.offers)
        advert = replace(statement.advert, offers=offers) if offers else statement.advert
        self._heard[statement.host] = _Heard(told, statement, advert, now + statement.lifetime)
        if known is not None and known.statement.offers != statement.offers:
            self._forget_offers()  # or a host that offers something else each time would fill this one's memory
        return offers is not None

    def offered(self, host: str, offers: Offers) -> None:
        """What `host` answers to who asked for its offers. Of what its advert does not speak, nothing is kept."""
        digest, names = offers.digest(), frozenset(offers.names)
        if host in self._heard and self._heard[host].statement.offers == digest:
            self._offers[digest] = names
            for other, heard in self._heard.items():
                if heard.statement.offers == digest:
                    self._heard[other] = heard._replace(advert=replace(heard.advert, offers=names))

    def knows(self, host: str, now: float) -> bool:
        """Whether an advert of it lives."""
        return host in self._heard and now <= self._heard[host].until

    def fresh(self, now: float) -> dict[str, Advert]:
        """The adverts that still live, by host. Those that do not are forgotten."""
        self._prune(now)
        return {host: heard.advert for host, heard in sorted(self._heard.items())}

    def told(self, host: str, now: float) -> Told | None:
        """Its newest advert, as it was signed."""
        return self._heard[host].told if self.knows(host, now) else None

    def _prune(self, now: float) -> None:
        if all(now <= heard.until for heard in self._heard.values()):
            return
        self._heard = {host: heard for host, heard in self._heard.items() if now <= heard.until}
        self._forget_offers()

    def _forget_offers(self) -> None:
        """Those of which no advert speaks any more."""
        used = {heard.statement.offers for heard in self._heard.values()}
        self._offers = {digest: names for digest, names in self._offers.items() if not digest or digest in used}
