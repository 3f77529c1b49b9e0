"""The messages of the handoff between two hosts (docs/custody.md), in local and in held custody."""

import msgspec

from agentplatform.convoy import Convoy
from agentplatform.parcel.manifest import Parcel
from agentplatform.passes import Trail


class Cargo(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One agent of a transfer, and its epoch at the destination."""

    agent: str
    epoch: int
    subject: bytes = b""  # held custody: what its residence stands under on the ledger; local: empty

    @property
    def held(self) -> bool:
        return self.subject != b""


class _Message(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    transfer: bytes


class Offer(_Message, frozen=True):
    """Source to destination. It promises nothing. `parcels` stand in the order of `cargo`."""

    cargo: tuple[Cargo, ...]
    parcels: tuple[Parcel, ...]
    convoy: Convoy | None = None  # of which this is a part; then it does promise:
    signature: bytes = b""  # the source's under the ledger's entry for the convoy [H2]


class Accept(_Message, frozen=True):
    """Destination to source, when RECEIVED is durable: the copies are here, opened, and inert."""

    held: bool = False  # custody, as in the cargo
    promise: bytes = b""  # held: the destination's signature under the ledger's entry [H3]


class Refuse(_Message, frozen=True):
    """Destination to source, instead of Accept."""

    reason: str


class Notice(_Message, frozen=True):
    """Source to destination, when COMMIT is durable: yours. `mail` is what waited for the agents meanwhile."""

    mail: tuple[bytes, ...]


class Acknowledge(_Message, frozen=True):
    """Destination to source, when ACTIVE is durable."""


class Inquire(_Message, frozen=True):
    """Destination to source: it holds an inert copy and asks what became of the transfer."""

    held: bool = False


class Abort(_Message, frozen=True):
    """Source to destination: the transfer will never be committed; the inert copies may go."""

    reason: str


class Closed(_Message, frozen=True):
    """Source to destination: the transfer was finished long ago; only an inert copy may go."""


class Canvass(_Message, frozen=True):
    """Destination to every other host: the source is lost. Sign that nothing of these agents is with you."""

    source: str
    cargo: tuple[Cargo, ...]  # of the inert copies
    manifests: tuple[bytes, ...]  # that the source signed, in the order of `cargo`


class Forswear(_Message, frozen=True):
    """The answer, when FORSWORN is durable. `signature`: of ledger.contracts.losses.Statement."""

    signature: bytes = b""


class Object(_Message, frozen=True):
    """The answer of a host that runs, holds or forwarded one of them, or that cannot tell."""

    reason: str


class Life(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One start of a host on its data. Two lives of one number are of two copies of the data."""

    incarnation: int = 0  # the number of the start, counted from 1
    nonce: bytes = b""
    signer: bytes = b""  # the host's key at that time: nobody else can say that there was such a life
    signature: bytes = b""


class Sighting(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What one host knows of an agent that another one asks about."""

    agent: str
    epoch: int
    host: str  # where it is in this epoch: here, or where it went from here; "": it ended here
    settled: bool = True  # False: it just came here, or goes from here, and that is not durable
    trail: Trail = ()  # that led there
    transfer: bytes = b""  # by which it went from here, if that is not acknowledged yet


class Recall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """To every other host, when a link comes up: this is the life that I am in. What do you know of these agents?"""

    life: Life
    agents: tuple[str, ...]  # of those in local custody here


class Recalled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    """The answer."""

    nonce: bytes  # of the life that asked
    life: Life  # the newest of it that was told here before; of incarnation 0 when none was
    sightings: tuple[Sighting, ...]
    copies: tuple[bytes, ...] = ()  # held: what the ledger has with the asker, and is here as a holder's full copy


HandoffMessage = (
    Offer
    | Accept
    | Refuse
    | Notice
    | Acknowledge
    | Inquire
    | Abort
    | Closed
    | Canvass
    | Forswear
    | Object
    | Recall
    | Recalled
)
