"""Links that dial through the driver's relays, and say things twice, late, and in another order."""

import asyncio
from collections import deque
from collections.abc import Mapping
from random import Random
from typing import Any

import msgspec

from ledger.links.base import Channel, Passport
from ledger.links.tls import TlsLinks

UNRULY = (Channel.HANDOFF, Channel.MAIL)
TWICE, SLOW, LATE, AGAIN = 0.05, 0.1, 0.05, 0.02  # shares of the messages
SLOW_SECONDS, LATE_SECONDS = 0.03, 3.0
REMEMBERED, PACE = 40, 0.05  # handoff messages to a host that may be said again, in their order; seconds between two


def unruly(via: Mapping[str, str], random: Random) -> type[TlsLinks]:
    """`via`: where the relays to those hosts are that this one dials."""

    class UnrulyLinks(TlsLinks):
        def __init__(self, *links: Any) -> None:
            super().__init__(*links)
            self._said: dict[str, deque[bytes]] = {}

        def admit(self, registry: Mapping[str, Passport]) -> None:
            there = {
                host: msgspec.structs.replace(passport, address=via.get(host, passport.address))
                for host, passport in registry.items()
            }
            super().admit(there)

        def send(self, host: str, channel: Channel, message: bytes) -> bool:
            if channel not in UNRULY:
                return super().send(host, channel, message)
            if channel is Channel.HANDOFF:
                self._say_again(host, message)
            if random.random() < TWICE:
                super().send(host, channel, message)
            if random.random() < LATE:  # once more, when nobody expects it
                self._later(random.uniform(0.2, LATE_SECONDS), host, channel, message)
            if random.random() < SLOW and host in self.up():
                self._later(random.uniform(0.001, SLOW_SECONDS), host, channel, message)
                return True
            return super().send(host, channel, message)

        def _say_again(self, host: str, message: bytes) -> None:
            """Now and then all that a host heard lately comes again, in its order: offers with their notices."""
            said = self._said.setdefault(host, deque(maxlen=REMEMBERED))
            said.append(message)
            if random.random() < AGAIN:
                begin = random.uniform(0.2, LATE_SECONDS)
                for index, each in enumerate(said):
                    self._later(begin + index * PACE, host, Channel.HANDOFF, each)

        def _later(self, seconds: float, *what: Any) -> None:
            asyncio.get_running_loop().call_later(seconds, super().send, *what)

    return UnrulyLinks
