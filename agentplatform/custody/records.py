"""What a host writes down about custody, in one order (agentplatform.custody.journal keeps it on disk).

The state of the handoff machine is a fold of these records: what it does while it runs and what it finds
after a restart come from the same few lines (Handoff.apply).
"""

from typing import Literal

import msgspec

from agentplatform.custody.messages import Cargo, Life

BIRTH = b""  # stands for a transfer's id where an agent did not come by one: it was created here
# How a transfer ended on this host. An abort in local custody leaves no trace: an id that is not known was aborted.
Outcome = Literal["Closed", "Active", "Declared", "Discarded", "Withdrawn", "Kept"]


class Beginning(msgspec.Struct, frozen=True, array_like=True):
    """What the journal keeps beside Born: of an agent that was created here, or that went on here from a checkpoint."""

    certificate: bytes  # of birth
    init: bytes  # what it was created with
    luggage: bytes = b""  # what it had when the checkpoint was begun


class _Record(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=True):
    pass


class Born(_Record, frozen=True):
    """An agent was created here. The journal keeps the bytes that it is restarted from beside it."""

    agent: str
    epoch: int
    subject: bytes = b""  # held custody: as in Cargo


class Ended(_Record, frozen=True):
    """An agent was disposed of here. In held custody the ledger has to be told."""

    agent: str


class Dismissed(_Record, frozen=True):
    """Held: the ledger knows that the agent, which ended here, is not here any more."""

    agent: str


class Prepare(_Record, frozen=True):
    """Source: the agents are captured and on offer to `to`. The parcels stand beside it."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]


class Convert(_Record, frozen=True):
    """The agent is captured, to change its custody here at the epoch of `cargo`, which has the subject that it stands
    under on the ledger. The parcel stands beside it. No entry is asked for before this is durable."""

    transfer: bytes
    cargo: tuple[Cargo, ...]  # of one
    entry: bytes  # to held custody: the ledger's entry, with its owner's signature; to local custody: empty


class Commit(_Record, frozen=True):
    """Source: the agents are the destination's. From the moment this is handed to the log nothing is aborted."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Aborted(_Record, frozen=True):
    """Source: the agents stay. Lazy: without it a restart aborts just the same (presumed abort)."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Withdrawn(_Record, frozen=True):
    """Source, held: the agents stay; the ledger was never asked. It is remembered: a host that does not know an id has
    lost its disk, and then only the ledger's word counts."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Kept(_Record, frozen=True):
    """Source, held: the ledger's entry for the cargo's epochs names this host: the agents stay [H4]. After a Convert
    they stay in the custody that the cargo says."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Revoked(_Record, frozen=True):
    """Held: the ledger's entry for `epoch` gave the agent, which was here, to `host`; "" when its custody ended."""

    agent: str
    epoch: int
    host: str


class Closed(_Record, frozen=True):
    """Source: the destination acknowledged. Lazy: without it the notice is sent again."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Received(_Record, frozen=True):
    """Destination: the copies are here, opened once, and inert. The parcels stand beside it."""

    transfer: bytes
    source: str
    cargo: tuple[Cargo, ...]


class Discarded(_Record, frozen=True):
    """Destination: the source will never commit; the inert copies are gone."""

    transfer: bytes


class Active(_Record, frozen=True):
    """Destination: the agents run here, and `mail` came with the notice."""

    transfer: bytes
    mail: tuple[bytes, ...]


class Declared(_Record, frozen=True):
    """Destination, local: the source is lost, and the ledger made these copies the agents. As Active, at the fresh
    epochs of `cargo`."""

    transfer: bytes
    cargo: tuple[Cargo, ...]


class Forsworn(_Record, frozen=True):
    """This host signed for `asker` that it has nothing of these agents, which came there from `source`. It takes none
    of them any more at an epoch that the declaration reaches."""

    transfer: bytes
    asker: str
    source: str
    cargo: tuple[Cargo, ...]  # at the fresh epochs


class Sworn(_Record, frozen=True):
    """All that is remembered of Forsworn, for ever. Written when the journal is shortened."""

    agent: str
    epoch: int  # the highest


class Started(_Record, frozen=True):
    """This host was started on its data for the so-manieth time. Durable before anything else is done or told."""

    life: Life


class Met(_Record, frozen=True):
    """Another host told this one of its life: the newest that was heard of."""

    host: str
    life: Life


class Restored(_Record, frozen=True):
    """The data was put back from a backup. Whatever it has in custody is in quarantine from here on."""


class Quarantined(_Record, frozen=True):
    """All that is remembered of Restored. Written when the journal is shortened; "" for no agent at all."""

    agent: str
    inert: bool


class Confirmed(_Record, frozen=True):
    """An agent in quarantine: its last place was this host, so it goes on here at a fresh epoch, from the older state.

    Whatever number its letters had in the life that was lost, it is below `floor`. By `transfers` it came in that life,
    and their sources wait for word.
    """

    agent: str
    epoch: int
    floor: int
    transfers: tuple[bytes, ...] = ()


class Whole(_Record, frozen=True):
    """Every other host has said what it knows, and nothing is in quarantine any more."""


class Known(_Record, frozen=True):
    """All that is remembered for ever of one agent that ever ran here. Written when the journal is shortened."""

    agent: str
    epoch: int  # the highest that was ever active on this host
    here: bool  # it is resident: it runs, or is frozen for a handoff without a COMMIT
    to: str | None  # where it went from here (then its epoch there is epoch + 1): the forwarding address
    kept: bytes  # the transfer whose parcel it is restarted from, or BIRTH
    mail: tuple[bytes, ...]  # what came with that transfer's notice
    subject: bytes = b""  # held custody: as in Cargo

    @property
    def held(self) -> bool:
        return self.subject != b""


class Past(_Record, frozen=True):
    """A finished transfer, remembered for ever. Written when the journal is shortened."""

    transfer: bytes
    outcome: Outcome


Record = (
    Born
    | Ended
    | Dismissed
    | Prepare
    | Convert
    | Commit
    | Aborted
    | Withdrawn
    | Kept
    | Revoked
    | Closed
    | Received
    | Discarded
    | Active
    | Declared
    | Forsworn
    | Sworn
    | Started
    | Met
    | Restored
    | Quarantined
    | Confirmed
    | Whole
    | Known
    | Past
)
