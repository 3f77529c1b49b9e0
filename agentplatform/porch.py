"""Where what comes over the links waits while a host starts: a notice must find its copies opened."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple

from ledger.errors import PeerFault
from ledger.links.base import Channel

MAX_BYTES = 64 << 20
MAX_MESSAGES = 100_000  # what is more is dropped, and comes again


class _Waiting(NamedTuple):
    host: str
    channel: Channel | None  # None: its link came up
    message: bytes = b""


class Porch:
    def __init__(
        self,
        received: Callable[[str, Channel, bytes], None],
        changed: Callable[[str, bool], None],
        urgent: Callable[[Channel, bytes], bool],
        linked: Callable[[str], None],
    ) -> None:
        """`received` and `changed` are the exchange's. What is `urgent` does not wait, and `linked` hears at once of a
        link that comes up."""
        self._received, self._changed, self._urgent, self._linked = received, changed, urgent, linked
        self._closed = True
        self._waiting: list[_Waiting] = []
        self._bytes = 0

    def open(self) -> None:
        self._closed = False
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            with contextlib.suppress(PeerFault):  # the exchange has said so
                if each.channel is None:
                    self._changed(each.host, True)
                else:
                    self._received(each.host, each.channel, each.message)

    def arrived(self, host: str, channel: Channel, message: bytes) -> None:
        if not self._closed or self._urgent(channel, message):
            self._received(host, channel, message)
        elif self._bytes + len(message) <= MAX_BYTES and len(self._waiting) < MAX_MESSAGES:
            self._bytes += len(message)
            self._waiting.append(_Waiting(host, channel, message))

    def linked(self, host: str, up: bool) -> None:
        if not self._closed:
            self._changed(host, up)
        elif up:
            self._waiting.append(_Waiting(host, None))
            self._linked(host)
        else:  # what came over it is not heard after its end: the host may begin another life
            self._waiting = [each for each in self._waiting if each.host != host]
