"""Hosts with links of either kind, and what they told."""

import asyncio
from collections.abc import Callable

from ledger.identity import Identity
from ledger.links.base import Channel, Links, Passport
from ledger.links.memory import Hub, MemoryLinks
from ledger.links.tls import TlsLinks

CHAIN = bytes(range(32))


def identity(name: str) -> Identity:
    """The same key for the same name, in every run."""
    return Identity(name.encode().ljust(32, b"."))


async def until(condition: Callable[[], object]) -> None:
    """Waits for `condition`, looking at it each turn of the loop; the test's own timeout ends a vain wait."""
    while not condition():  # noqa: ASYNC110  what is waited for are plain lists and sets
        await asyncio.sleep(0.001)


class Host:
    """Links, and what they told."""

    def __init__(self, name: str, links: Links, key: bytes) -> None:
        self.name = name
        self.links = links
        self.key = key
        self.received: list[tuple[str, Channel, bytes]] = []
        self.changes: list[tuple[str, bool]] = []
        links.on_message(lambda *message: self.received.append(message))
        links.on_change(lambda *change: self.changes.append(change))

    def passport(self) -> Passport:
        address = self.links.address if isinstance(self.links, TlsLinks) else ""
        return Passport(self.name, f"org-{self.name}", self.key, address)


def tls_host(name: str, key: Identity | None = None, chain: bytes = CHAIN, listen: str = "127.0.0.1:0") -> Host:
    key = key or identity(name)
    return Host(name, TlsLinks(name, key, chain, listen), key.public)


def memory_host(hub: Hub, name: str) -> Host:
    key = identity(name).public
    return Host(name, MemoryLinks(hub, name, key, CHAIN), key)


def registry(*hosts: Host) -> dict[str, Passport]:
    return {host.name: host.passport() for host in hosts}


async def join(*hosts: Host) -> None:
    """Starts `hosts`, lets them admit each other, and waits until every link is up."""
    for host in hosts:
        await host.links.start()
    book = registry(*hosts)
    for host in hosts:
        host.links.admit(book)
    names = frozenset(book)
    await until(lambda: all(host.links.up() == names - {host.name} for host in hosts))
