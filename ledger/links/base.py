"""The contract of the links between hosts. Variants: `tls` (production) and `memory` (its twin, for tests).

A link carries whole messages between two registered hosts, in order within a channel, at most once; a
message is lost only with its link. Whatever must not be lost is sent again by who owns it.
"""

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Protocol

import msgspec

MAX_MESSAGE_BYTES = 64 * 1024 * 1024


class Channel(IntEnum):
    """What a message is about. Channels share one connection fairly, so that a parcel does not hold up a vote."""

    LEDGER = 0  # consensus, transactions, blocks
    HANDOFF = 1  # custody's messages, small parcels inline
    MAIL = 2  # between agents and clients
    ADVERT = 3  # resources, probes, whereabouts of agents
    COMMAND = 4  # what owners ask of their agents elsewhere
    BULK = 5  # pieces of large states, which nothing else shall wait behind
    COPY = 6  # checkpoints of agents in held custody, to their holders


class Passport(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A host as the registry knows it."""

    host: str  # unique on the chain: lower case, letters, digits and "-"
    organisation: str
    key: bytes  # Ed25519 public key
    address: str  # "127.0.0.1:7001" or "[::1]:7001"


Receiver = Callable[[str, Channel, bytes], None]  # (sending host, channel, message); must not block


class Links(Protocol):
    """All links of one host. Callbacks run on the event loop."""

    def on_message(self, receiver: Receiver) -> None: ...

    def on_change(self, observer: Callable[[str, bool], None]) -> None:
        """`observer(host, up)` whenever a link comes up or goes down."""

    def send(self, host: str, channel: Channel, message: bytes) -> bool:
        """Queues `message`. False, and not queued: there is no link to `host` now, or too much waits for it already.

        Raises Misuse above MAX_MESSAGE_BYTES.
        """

    def up(self) -> frozenset[str]:
        """Hosts with a link now."""

    def admit(self, registry: Mapping[str, Passport]) -> None:
        """Replaces the registry: links to hosts that are no longer in it, or changed their key, are closed at once."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...
