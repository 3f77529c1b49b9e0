"""The hosts that the ledger has registered, and this host's own key among them."""

import logging
from collections.abc import Callable, Mapping

from agentplatform import rotation
from agentplatform.parcel.manifest import Birth, open_certificate
from agentplatform.settings import Home
from ledger.contracts import trust
from ledger.links.base import Passport
from ledger.replica import Replica
from services.eds.events import Event, HostJoined, HostRevoked
from services.tms.service import Tms

log = logging.getLogger(__name__)


class Registry:
    def __init__(
        self, home: Home, host: str, chain: bytes, replica: Replica, tms: Tms, happened: Callable[[Event], object]
    ) -> None:
        """`happened(event)` is told of hosts that come and go."""
        self.hosts: Mapping[str, Passport] = {}  # the trusted ones by name, as of the block that was followed last
        self._home, self._host, self._chain = home, host, chain
        self._replica, self._tms, self._happened = replica, tms, happened

    def read(self) -> None:
        """At the start: what is registered then is no news."""
        self.hosts = self._replica.registry()

    def follow(self) -> None:
        """The chain has grown."""
        before, self.hosts = self.hosts, self._replica.registry()
        if before == self.hosts:
            return
        self.adopt_key()
        for host in before.keys() - self.hosts.keys():
            self._happened(HostRevoked(host, self._tms.verdict(host).reason))
        for host in self.hosts.keys() - before.keys():
            self._happened(HostJoined(host))

    def key_of(self, host: str) -> bytes | None:
        passport = self.hosts.get(host)
        return None if passport is None else passport.key

    def was_key_of(self, host: str, key: bytes) -> bool:
        """Whether the ledger has, or ever had, this key for this host."""
        holder = trust.past_holder(self._replica.state, key)
        return holder is not None and holder.host == host

    def certified(self, certificate: bytes, sender: str) -> Birth:
        """Opens a birth certificate. Raises PeerFault naming the sender for a false one."""
        return open_certificate(certificate, sender, self._chain, self.was_key_of)

    def adopt_key(self) -> bool:
        """Puts this host's next key in place, if the chain has taken it. It counts from the next start on."""
        if not rotation.adopt(self._home, self.key_of(self._host)):
            return False
        log.warning("the key of %s was rotated; start the host again, with its new key", self._host)
        return True
