"""Which agents offer which service, and whose they are. Pure.

Hosts tell each other the birth certificates of the service agents that live with them. An entry is what the owner
signed (agent, service, version) and nothing else: no host can add to what an owner offers, nor offer it as another. So
clones, whose certificates a host signs, are not in it. But anyone may offer a service of any name, under a key of their
own: who cares for more than the name demands an owner.

Where an entry's agent is stands in the whereabouts, so the directory follows moves as mail does, and knows no more.
"""

from collections.abc import Callable
from typing import NamedTuple

from agentplatform.kinds import Found, Query, Service, Version
from agentplatform.parcel.manifest import open_birth
from ledger import codec
from ledger.errors import PeerFault

MAX_FROM_ONE_HOST = 10_000  # agents first told of by one host: about 1 KiB each; what it says of more is not taken
MAX_CERTIFICATE = 2_048  # bytes
MAX_FOUND = 100  # of one question


class _Entry(NamedTuple):
    service: Service
    version: Version
    owner: str
    digest: bytes
    teller: str


class Directory:
    def __init__(self, host: str) -> None:
        self._host = host
        self._entries: dict[str, _Entry] = {}  # by agent
        self._named: dict[str, set[str]] = {}  # service -> agents
        self._digests: set[bytes] = set()  # of the certificates behind the entries: they come again with every move
        self._told: dict[str, int] = {}  # host -> agents first told of by it

    def __contains__(self, agent: str) -> bool:
        return agent in self._entries

    def service_of(self, agent: str) -> str | None:
        """The name of the service that it offers."""
        entry = self._entries.get(agent)
        return None if entry is None else entry.service.name

    def learn(self, teller: str, certificate: bytes) -> str | None:
        """A birth certificate that `teller` shows. The agent, if that is news. Raises PeerFault, naming `teller`, for
        one that its owner did not sign, or that offers no service."""
        if len(certificate) > MAX_CERTIFICATE:
            raise PeerFault(teller, f"sent a certificate of {len(certificate)} bytes, of at most {MAX_CERTIFICATE}")
        digest = codec.digest("agentplatform/directory", certificate)
        if digest in self._digests or self._told.get(teller, 0) >= MAX_FROM_ONE_HOST:
            return None
        birth = open_birth(certificate, teller)
        if not isinstance(birth.kind, Service):
            raise PeerFault(teller, f"told of {birth.agent} as of a service agent, and it offers no service")
        self.forget(birth.agent)  # its owner may sign twice: the last one counts
        self.add(birth.agent, birth.kind, birth.owner, teller, digest)
        return birth.agent

    def add(self, agent: str, service: Service, owner: bytes, teller: str, digest: bytes = b"") -> None:
        """One that is not there, and that needs no proof any more."""
        self._entries[agent] = _Entry(service, Version.parse(service.version), owner.hex(), digest, teller)
        self._named.setdefault(service.name, set()).add(agent)
        self._digests.add(digest)
        self._told[teller] = self._told.get(teller, 0) + 1

    def forget(self, agent: str) -> None:
        """It ended."""
        entry = self._entries.pop(agent, None)
        if entry is None:
            return
        self._digests.discard(entry.digest)
        self._told[entry.teller] -= 1
        named = self._named[entry.service.name]
        named.remove(agent)
        if not named:
            del self._named[entry.service.name]

    def find(
        self, query: Query, where: Callable[[str], str | None], distance: Callable[[str], float | None]
    ) -> list[Found]:
        """The nearest first: on this host, then by `distance(host)`, a measured round trip (None: not measured), then
        by name. `where(agent)` is its host; nothing for one that is not to be found now."""
        wanted = None if query.version is None else Version.parse(query.version)
        agents = self._entries if query.service is None else self._named.get(query.service, ())
        near: list[tuple[tuple[bool, float, str, str], Found]] = []
        for agent in agents:
            entry, host = self._entries[agent], where(agent)
            if not host or (query.owner or entry.owner) != entry.owner:
                continue
            if wanted is None or entry.version.serves(wanted):
                away = distance(host)
                order = host != self._host, float("inf") if away is None else away, host, agent
                near.append((order, Found(agent, entry.service.name, entry.service.version, host, entry.owner)))
        return [found for _, found in sorted(near, key=lambda each: each[0])[:MAX_FOUND]]
