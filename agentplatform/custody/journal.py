"""The host's custody log on disk: records in one order, and beside them the bytes that they speak of.

Parcels stay while a transfer is open and while the agent is resident: a resident agent is restarted from
the last state that was written here, which is the one of its creation, of its arrival, or of a departure that
was aborted. What it did since then, at rest, is not kept yet.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from agentplatform.custody.records import (
    BIRTH,
    Aborted,
    Born,
    Closed,
    Commit,
    Discarded,
    Ended,
    Past,
    Prepare,
    Received,
    Record,
)
from agentplatform.custody.state import Custody
from ledger import codec
from ledger.disk import Database, Disk, Statement
from ledger.errors import Misuse
from ledger.sqlite import Schema

_RECORD: Any = Record
CHECKPOINT_RECORDS = 4096  # after so many a checkpoint is due: a start reads and folds them in about 50 ms

SCHEMA = Schema(
    "custody",
    1,
    (
        "CREATE TABLE records (position INTEGER PRIMARY KEY, kind TEXT NOT NULL, transfer BLOB, body BLOB NOT NULL)",
        # Finished transfers, for ever: no id is taken twice, and a late question gets its answer.
        "CREATE TABLE past (transfer BLOB PRIMARY KEY, outcome TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE parcels (agent TEXT NOT NULL, epoch INTEGER NOT NULL, transfer BLOB NOT NULL,
           body BLOB NOT NULL, UNIQUE (agent, transfer))""",
        "CREATE INDEX parcels_of ON parcels (transfer)",
        "CREATE TABLE code (digest BLOB PRIMARY KEY, bundle BLOB NOT NULL)",
        # A letter of NULL was replied to; its row remembers the number.
        """CREATE TABLE outbox (agent TEXT NOT NULL, receiver TEXT NOT NULL, sequence INTEGER NOT NULL, letter BLOB,
           PRIMARY KEY (agent, receiver, sequence)) WITHOUT ROWID""",
    ),
)

Letter = tuple[str, str, int, bytes]  # agent, receiver, sequence, encoded letter


class Journal:
    """Writes are queued at once, in the order of the calls, and durable when their future is done."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._since_checkpoint = 0
        self._due_at = CHECKPOINT_RECORDS

    @classmethod
    async def open(cls, disk: Disk) -> "Journal":
        """Raises Misuse for a database that is none of ours, or corrupt."""
        return cls(await disk.open("custody", SCHEMA))

    async def close(self) -> None:
        await self._database.close()

    # Records

    def write(
        self, record: Record, parcels: Sequence[bytes] = (), letters: Sequence[Letter] = ()
    ) -> "asyncio.Future[None]":
        """One transaction: the record, with Born, Prepare and Received the agents' bytes (in the order of the
        cargo), letters that agents send with it, and the removal of the parcels that it makes needless."""
        self._since_checkpoint += 1
        return self._database.write(
            _insert(record), *_store(record, parcels), *_clean(record), *(_keep(*letter) for letter in letters)
        )

    async def load(self) -> list[Record]:
        """All records, for Handoff.recover. The disk has synced them before it lets them be read [L2]."""
        past = await self._database.read("SELECT transfer, outcome FROM past")
        bodies = await self._database.read("SELECT body FROM records ORDER BY position")
        self._since_checkpoint = len(bodies)
        records: list[Record] = [Past(transfer, outcome) for transfer, outcome in past]
        records += [codec.decode(body, _RECORD, "the custody journal") for (body,) in bodies]
        return records

    async def parcel(self, transfer: bytes, agent: str) -> bytes:
        """The bytes that were written for `agent` with the PREPARE or RECEIVED of `transfer`, or at BIRTH."""
        rows = await self._database.read(
            "SELECT body FROM parcels WHERE agent = ? AND transfer = ?", (agent, transfer)
        )
        if not rows:
            origin = f"handoff {transfer.hex()}" if transfer else "its birth"
            raise Misuse(
                f"the custody journal has no parcel of {agent} for {origin}; "
                "its file was changed from outside: stop the host and restore a backup"
            )
        return bytes(rows[0][0])

    @property
    def due(self) -> bool:
        """Enough was written that a checkpoint pays."""
        return self._since_checkpoint >= self._due_at

    def checkpoint(self, machine: Custody) -> "asyncio.Future[None]":
        """Puts a short log in the place of the long one. Call it when every Write of the last step was handed over.

        Nothing is forgotten that a late message may ask for: finished transfers' ids and outcomes, every agent's
        highest epoch and where it went.
        """
        summary = machine.summary()
        self._since_checkpoint = 0
        self._due_at = max(CHECKPOINT_RECORDS, 2 * len(summary))
        return self._database.write(
            (
                "INSERT OR IGNORE INTO past SELECT transfer, kind FROM records"
                " WHERE kind IN ('Closed', 'Active', 'Discarded')",
                (),
            ),
            ("DELETE FROM records", ()),
            *(_insert(record) for record in summary),
        )

    # Code bundles, by digest

    def put_code(self, digest: bytes, bundle: bytes) -> "asyncio.Future[None]":
        return self._database.write(("INSERT OR IGNORE INTO code VALUES (?, ?)", (digest, bundle)))

    async def get_code(self, digest: bytes) -> bytes | None:
        rows = await self._database.read("SELECT bundle FROM code WHERE digest = ?", (digest,))
        return bytes(rows[0][0]) if rows else None

    # Letters that agents have sent since they came here and that have no reply

    def keep_letter(self, agent: str, receiver: str, sequence: int, letter: bytes) -> "asyncio.Future[None]":
        return self._database.write(_keep(agent, receiver, sequence, letter))

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        """All letters to `receiver` up to this number were replied to. The number stays known."""
        mine = "WHERE agent = ? AND receiver = ? AND sequence"
        self._database.write(
            (f"DELETE FROM outbox {mine} < ?", (agent, receiver, upto)),
            (f"UPDATE outbox SET letter = NULL {mine} = ?", (agent, receiver, upto)),
        )

    async def letters(self, agent: str) -> list[tuple[str, int, bytes | None]]:
        """(receiver, sequence, letter), in order; a letter of None was replied to."""
        rows = await self._database.read(
            "SELECT receiver, sequence, letter FROM outbox WHERE agent = ? ORDER BY receiver, sequence", (agent,)
        )
        return [(receiver, sequence, letter) for receiver, sequence, letter in rows]


def _insert(record: Record) -> Statement:
    return (
        "INSERT INTO records (kind, transfer, body) VALUES (?, ?, ?)",
        (type(record).__name__, getattr(record, "transfer", None), codec.encode(record)),
    )


def _store(record: Record, parcels: Sequence[bytes]) -> list[Statement]:
    match record:
        case Prepare(transfer, _, cargo) | Received(transfer, _, cargo):
            owners = [(load.agent, load.epoch, transfer) for load in cargo]
        case Born(agent, epoch):
            owners = [(agent, epoch, BIRTH)]
        case _:
            owners = []
    if len(owners) != len(parcels):
        raise Misuse(f"{type(record).__name__} has {len(owners)} agents and {len(parcels)} parcels; give one for each")
    return [
        ("INSERT OR REPLACE INTO parcels VALUES (?, ?, ?, ?)", (*owner, parcel))
        for owner, parcel in zip(owners, parcels, strict=True)
    ]


def _clean(record: Record) -> list[Statement]:
    """Removes what no recovery from here on can need."""
    match record:
        case Commit(_, cargo):  # unanswered letters went with the agent's luggage
            return [("DELETE FROM outbox WHERE agent = ?", (load.agent,)) for load in cargo]
        case Closed(_, cargo):  # a copy that came back has a higher epoch
            return [
                ("DELETE FROM parcels WHERE agent = ? AND epoch <= ?", (load.agent, load.epoch)) for load in cargo
            ]
        case Aborted(transfer, cargo):  # the agent stays, and is restarted from this parcel from now on
            return [
                ("DELETE FROM parcels WHERE agent = ? AND transfer != ?", (load.agent, transfer)) for load in cargo
            ]
        case Discarded(transfer):
            return [("DELETE FROM parcels WHERE transfer = ?", (transfer,))]
        case Ended(agent):
            return [
                ("DELETE FROM parcels WHERE agent = ?", (agent,)),
                ("DELETE FROM outbox WHERE agent = ?", (agent,)),
            ]
    return []


def _keep(agent: str, receiver: str, sequence: int, letter: bytes) -> Statement:
    return ("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)", (agent, receiver, sequence, letter))
