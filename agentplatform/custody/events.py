"""What goes into the handoff machine, and what comes out of it (agentplatform.custody.handoff). Pure.

The edge (agentplatform.custody.carry) performs the effects of a step in their order, hands records to the log
in that order, and steps Durable(record) when the log says so.
"""

import msgspec

from agentplatform.custody.messages import Cargo, HandoffMessage, Life
from agentplatform.custody.records import Record


class _Value(msgspec.Struct, frozen=True):
    pass


# Events


class Created(_Value, frozen=True):
    """An agent began its life here, at epoch 0. In held custody the ledger has it already."""

    agent: str
    subject: bytes = b""  # held custody: as in Cargo


class Rehomed(_Value, frozen=True):
    """Held: the ledger gave an agent to this host as a holder of its checkpoint, which is in the journal now. Raises
    Misuse when the agent is, or was, here at that epoch."""

    agent: str
    epoch: int
    subject: bytes


class Disposed(_Value, frozen=True):
    """A resident agent ended."""

    agent: str


class Depart(_Value, frozen=True):
    """Agents are frozen and captured, to go to `to` under a transfer id never used before.

    `cargo` comes from Handoff.cargo. Raises Misuse when an agent is not here, or is on its way already. `signed`: held,
    the offer has the signature for the ledger's entry, so from the offer on the ledger alone decides (custody.convoys).
    """

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]
    signed: bool = False


class ChangeCustody(_Value, frozen=True):
    """An agent is frozen and captured, to be in the other kind of custody, here, from the next epoch on.

    `load` has that epoch, and the subject of its residence; `entry` is what the ledger is asked for that it be in held
    custody, and empty for the way back. Raises Misuse as Depart does.
    """

    transfer: bytes
    load: Cargo
    entry: bytes


class Message(_Value, frozen=True):
    """A message that the link says came from `sender`. Raises PeerFault for one that must not be sent."""

    sender: str
    message: HandoffMessage


class Admitted(_Value, frozen=True):
    """The edge's first answer to Examine, if it gives one: every parcel is verified, allowed and here, and is being
    opened. So RECEIVED is written meanwhile."""

    transfer: bytes


class Examined(_Value, frozen=True):
    """The edge's answer to Examine: None when every parcel is verified, allowed and open; else why not."""

    transfer: bytes
    refusal: str | None


class Durable(_Value, frozen=True):
    """A record of a Write is on disk."""

    record: Record


class GiveUp(_Value, frozen=True):
    """The edge's deadline passed, or the link is lost: aborts, unless COMMIT was handed to the log before."""

    transfer: bytes
    reason: str


class Remind(_Value, frozen=True):
    """Ask again about everything that waits for another host: step it from time to time, and when a link comes up."""


class Decided(_Value, frozen=True):
    """Held: the newest entry of the ledger for an agent, from this host's own chain.

    Step it for each new one, and at a start for every agent of this host that is in held custody. Late or repeated it
    does no harm. Of agents that came by one transfer first those whose entry that made: another one that has gone on
    since is here for a moment, and ends; heard of first, it would end them all.
    """

    agent: str
    epoch: int
    host: str  # "" when held custody has ended
    transfer: bytes  # of the handoff that made the entry; empty for any other


class Lost(_Value, frozen=True):
    """Local: the ledger's last declaration for an agent, from this host's own chain (ledger.contracts.losses).

    Step it for each new one, from time to time while the agent is on its way, and at a start before any agent runs.
    Late or repeated it does no harm.
    """

    agent: str
    epoch: int
    host: str  # whose inert copy is the agent now
    transfer: bytes  # by which that came


class Begin(_Value, frozen=True):
    """The host was started, or has to be more than its other lives: this is its life from now on."""

    life: Life


class Outdated(_Value, frozen=True):
    """Another host has shown that the data is an old copy."""


class Confirm(_Value, frozen=True):
    """An agent in quarantine was here last, by all that is known: it goes on at this fresh epoch. As Confirmed."""

    agent: str
    epoch: int
    floor: int
    transfers: tuple[bytes, ...] = ()


class Left(_Value, frozen=True):
    """An agent in quarantine went on elsewhere: in `epoch` it is, or was, on `host` ("": it has ended)."""

    agent: str
    epoch: int
    host: str


class Complete(_Value, frozen=True):
    """All other hosts have said what they know. Nothing comes of it while an agent is in quarantine."""


_Answer = Admitted | Examined | Durable  # of the edge and the log
_Wish = Created | Rehomed | Disposed | Depart | ChangeCustody
_Restored = Outdated | Confirm | Left | Complete
Event = _Wish | Message | _Answer | GiveUp | Remind | Decided | Lost | Begin | _Restored


# Effects


class Write(_Value, frozen=True):
    """Hand `record` to the log; beside Born, Prepare, Convert and Received with the bytes of its agents."""

    record: Record


class Send(_Value, frozen=True):
    """It may be lost. The edge puts the parcels into an Offer, and the waiting mail into a Notice.

    Of one transfer, every Notice carries the same mail: what came later is sent there by its senders [L6].
    """

    to: str
    message: HandoffMessage


class Examine(_Value, frozen=True):
    """Verify the offered parcels, ask policy and space, open them in workers; then step Examined, and, while they are
    being opened, Admitted."""

    transfer: bytes
    source: str
    cargo: tuple[Cargo, ...]


class Activate(_Value, frozen=True):
    """The opened copies begin to run. The gateway holds what they do until Active is durable."""

    transfer: bytes
    source: str
    cargo: tuple[Cargo, ...]
    mail: tuple[bytes, ...]


class Discard(_Value, frozen=True):
    """End the inert copies; none of them ever ran. `Examined` of this transfer may be left out from now on."""

    transfer: bytes
    cargo: tuple[Cargo, ...]
    reason: str


class Resume(_Value, frozen=True):
    """The frozen agents go on here, with `on_move_failed(reason)`."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]
    reason: str


class Release(_Value, frozen=True):
    """COMMIT is durable: end the frozen copies here, and say that they are on `to`."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]


class Restore(_Value, frozen=True):
    """After a restart, a PREPARE without COMMIT: start the agents from its parcels, with `on_move_failed(reason)`."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]
    reason: str


class Restart(_Value, frozen=True):
    """After a restart, a resident agent: start it from the parcel that the journal has under (kept, agent).

    `mail` came with that transfer for all its agents: give this one its own; its cursors refuse what it had.
    """

    agent: str
    epoch: int
    kept: bytes
    mail: tuple[bytes, ...]


class Reopen(_Value, frozen=True):
    """After a restart, an inert copy: open it again from the journal; it stays inert, whatever comes of it."""

    transfer: bytes
    source: str
    cargo: tuple[Cargo, ...]


class Ask(_Value, frozen=True):
    """Held, source: sign the ledger's entry that gives the agent to `to`, and submit it with `to`'s own signature. The
    outcome comes as Decided. It may be asked for again. For a change of custody `to` is this host: submit `entry`, or,
    if that is empty, the one that ends the residence."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]
    entry: bytes = b""


class Withdraw(_Value, frozen=True):
    """Held, source: submit the entry that leaves the agent here at its next epoch, so that a delayed one fails [H4].
    The outcome comes as Decided. It may be asked for again. With an `entry`: the one that takes that back."""

    transfer: bytes
    cargo: tuple[Cargo, ...]
    entry: bytes = b""


class Return(_Value, frozen=True):
    """Held: the ledger left the frozen agents here. They go on at the epochs of `cargo`, with `on_move_failed(reason)`;
    from the parcels of PREPARE where no worker has them any more."""

    transfer: bytes
    to: str
    cargo: tuple[Cargo, ...]
    reason: str


class Changed(_Value, frozen=True):
    """The ledger changed the custody of an agent that stays here. End the frozen copy, if there is one, and start the
    agent from the parcel of `transfer`, at the epoch and in the custody of `load`."""

    transfer: bytes
    load: Cargo


class Revoke(_Value, frozen=True):
    """End the copy here, without a hook; the agent is at `host` since `epoch` ("": it ended), by the ledger's word; or,
    `restored`, by what other hosts showed when this one was restored from a backup."""

    agent: str
    epoch: int
    host: str
    restored: bool = False


class Dismiss(_Value, frozen=True):
    """Held: submit the entry that ends the custody of an agent that ended here. It may be asked for again."""

    agent: str
    subject: bytes
    epoch: int  # the new one


Effect = (
    Write
    | Send
    | Examine
    | Activate
    | Discard
    | Resume
    | Release
    | Restore
    | Restart
    | Reopen
    | Ask
    | Withdraw
    | Return
    | Changed
    | Revoke
    | Dismiss
)
