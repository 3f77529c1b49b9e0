"""What a host keeps of the agents that live on it, beside its custody log: their states, read letters and sent letters.

A checkpoint is one transaction of these: a state, what the agent had read by then, and what it sent. It counts until
the agent's next parcel is written, which is newer. The statements run in the journal's database.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from agentplatform.custody.sealed import SealedDatabase, Secret
from agentplatform.mail import Change, Letter, Loose, Luggage, Reply, Seen, Standing
from agentplatform.messages import Answer, Captured
from agentplatform.parcel.freight import Freight, Spooled, Stowed
from agentplatform.runners.place import DIGEST_BYTES, MAX_STATE_BYTES
from ledger import codec
from ledger.database import Statement
from ledger.errors import PeerFault
from services.dms.sealing import OVERHEAD

_OWN = "the custody journal"

TABLES = (
    # A state is the head, and behind it the pieces whose digests stand in a row in `pieces`.
    # Of a large one the head is the table of the file in the spool that has it.
    """CREATE TABLE states (agent TEXT PRIMARY KEY, head BLOB NOT NULL, pieces BLOB NOT NULL, file TEXT)
       WITHOUT ROWID""",
    "CREATE TABLE pieces (agent TEXT NOT NULL, digest BLOB NOT NULL, body BLOB NOT NULL, UNIQUE (agent, digest))",
    # What an agent has handled. The newest row of each sender says how far; a reply of NULL is not asked for any more.
    """CREATE TABLE inbox (agent TEXT NOT NULL, sender TEXT NOT NULL, sequence INTEGER NOT NULL,
       epoch INTEGER NOT NULL, reply BLOB, PRIMARY KEY (agent, sender, sequence)) WITHOUT ROWID""",
    # What it has sent. All up to a letter of NULL was replied to; that row remembers the number.
    """CREATE TABLE outbox (agent TEXT NOT NULL, receiver TEXT NOT NULL, sequence INTEGER NOT NULL, letter BLOB,
       PRIMARY KEY (agent, receiver, sequence)) WITHOUT ROWID""",
    # Letters that left before the state that knows of them, in their order, and the answers that came.
    """CREATE TABLE loose (position INTEGER PRIMARY KEY, agent TEXT NOT NULL, receiver TEXT NOT NULL,
       sequence INTEGER NOT NULL, body BLOB NOT NULL, answer BLOB, UNIQUE (agent, receiver, sequence))""",
    # What an agent belongs to, since it is here; it is newer than what stands in the agent's parcel.
    "CREATE TABLE standings (agent TEXT PRIMARY KEY, body BLOB NOT NULL) WITHOUT ROWID",
    # Residents that are deactivated, and when they are to wake, in milliseconds since 1970; NULL: not by themselves.
    "CREATE TABLE asleep (agent TEXT PRIMARY KEY, until INTEGER) WITHOUT ROWID",
    # When agents ended that ended here: whoever writes to them is told.
    "CREATE TABLE ends (agent TEXT PRIMARY KEY, at INTEGER NOT NULL) WITHOUT ROWID",
)


class Rows(NamedTuple):
    """All that is kept of one agent, as of one moment."""

    head: bytes | None  # of the state, if there is one
    digests: tuple[bytes, ...]  # of its pieces
    pieces: dict[bytes, bytes]
    seen: tuple[Seen, ...]
    sent: tuple[tuple[str, int, Letter | None], ...]
    loose: tuple[tuple[Loose, Answer | None], ...]
    standing: Standing | None


_STATE = "INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)"
_ROWS = """
SELECT 'state', '', 0, 0, head, pieces, '' FROM states WHERE agent = ?1
UNION ALL SELECT 'piece', '', 0, 0, digest, body, '' FROM pieces WHERE agent = ?1
UNION ALL SELECT 'seen', sender, sequence, epoch, reply, NULL, '' FROM inbox WHERE agent = ?1
UNION ALL SELECT 'sent', receiver, sequence, 0, letter, NULL, '' FROM outbox WHERE agent = ?1
UNION ALL SELECT 'loose', '', position, sequence, body, answer, receiver FROM loose WHERE agent = ?1
UNION ALL SELECT 'standing', '', 0, 0, body, NULL, '' FROM standings WHERE agent = ?1
ORDER BY 1, 2, 3"""

_SINCE = """
SELECT 'seen', sender, sequence, epoch, reply FROM inbox WHERE agent = ?1
UNION ALL SELECT 'sent', receiver, sequence, 0, letter FROM outbox WHERE agent = ?1
UNION ALL SELECT 'standing', '', 0, 0, body FROM standings WHERE agent = ?1
ORDER BY 1, 2, 3"""


class Kept:
    """Writes by giving statements; knows which pieces of whose state are there, or on their way to the disk."""

    def __init__(self, database: SealedDatabase) -> None:
        self._database = database
        self._pieces: dict[str, dict[bytes, int]] = {}  # agent -> digest -> bytes
        self.files: dict[str, str] = {}  # agent -> the file of the spool that its last checkpoint names

    def checkpoint(self, agent: str, change: Change) -> list[Statement]:
        """Raises PeerFault, and writes nothing, for a state that no honest worker sends."""
        statements = [] if change.state is None else self._state(agent, change.state)
        for sender, upto in change.forgotten:
            statements.append(
                ("DELETE FROM inbox WHERE agent = ? AND sender = ? AND sequence <= ?", (agent, sender, upto))
            )
        statements += [_seen(agent, each) for each in change.seen]
        statements += [letter(each) for each in change.letters] + [loose(each) for each in change.loose]
        return statements + [
            ("DELETE FROM loose WHERE agent = ? AND receiver = ? AND sequence = ?", (agent, *key))
            for key in change.done
        ]

    def _state(self, agent: str, state: Captured) -> list[Statement]:
        before = self._pieces.get(agent, {})
        if state.file is not None:
            self._pieces.pop(agent, None)
            self.files[agent] = state.file
            pieces = [("DELETE FROM pieces WHERE agent = ?", (agent,))] if before else []
            return [*pieces, (_STATE, (agent, _head(agent, state.head), b"", state.file))]
        sizes = {digest: len(piece) for digest, piece in state.fresh} | before
        if any(digest not in sizes for digest in state.pieces):
            raise PeerFault("worker", f"sent a checkpoint of {agent} with pieces that it never sent")
        if len(state.head) + sum(sizes[digest] for digest in state.pieces) > MAX_STATE_BYTES:
            raise PeerFault("worker", f"sent a checkpoint of {agent} of more than {MAX_STATE_BYTES} bytes")
        self.files.pop(agent, None)
        now = self._pieces[agent] = {digest: sizes[digest] for digest in state.pieces}
        row = agent, _head(agent, state.head), b"".join(state.pieces), None
        gone = [digest for digest in before if digest not in now]
        return [
            # After a restart the worker tells of all: of what lies here already nothing is written again.
            *(_piece(agent, *piece) for piece in state.fresh if piece[0] not in before),
            *(("DELETE FROM pieces WHERE agent = ? AND digest = ?", (agent, digest)) for digest in gone),
            (_STATE, row),
        ]

    def adopt(self, agent: str, rows: Rows) -> list[Statement]:
        """These, in the place of all that is kept of the agent. Its pieces may be there already."""
        pieces = self.add_pieces(agent, tuple(rows.pieces.items()))
        known = self._pieces.get(agent, {})
        statements = [each for each in self.forget(agent) if "pieces" not in each[0]]
        self._pieces[agent] = known
        if rows.head is None:
            del self._pieces[agent]
            pieces = [("DELETE FROM pieces WHERE agent = ?", (agent,))]
        else:
            pieces += self._state(agent, Captured(rows.head, rows.digests, ()))
        statements += pieces
        for seen in rows.seen:
            statements.append(_seen(agent, seen))
        for receiver, sequence, each in rows.sent:
            statements.append(_sent(agent, receiver, sequence, each))
        for one, answer in rows.loose:
            statements.append(loose(one))
            if answer is not None:
                statements.append(answered(agent, one.letter.receiver, one.letter.sequence, answer))
        return statements if rows.standing is None else [*statements, standing(agent, rows.standing)]

    def add_pieces(self, agent: str, pieces: Sequence[tuple[bytes, bytes]]) -> list[Statement]:
        """Those of a state that follows. What no state refers to goes with the next one."""
        self._pieces.setdefault(agent, {}).update((digest, len(body)) for digest, body in pieces)
        return [_piece(agent, *piece) for piece in pieces]

    def lacks(self, agent: str, digests: Iterable[bytes]) -> bool:
        """Whether one of these pieces is not here."""
        known = self._pieces.get(agent, {})
        return any(digest not in known for digest in digests)

    def state_bytes(self, agent: str) -> int:
        """Of the pieces that are here."""
        return sum(self._pieces.get(agent, {}).values())

    def forget_state(self, agent: str) -> list[Statement]:
        """There is a newer one in a parcel, or none any more."""
        self._pieces.pop(agent, None)
        self.files.pop(agent, None)
        return [(f"DELETE FROM {table} WHERE agent = ?", (agent,)) for table in ("states", "pieces", "inbox", "loose")]

    def forget(self, agent: str) -> list[Statement]:
        """It does not live here any more."""
        tables = ("outbox", "standings", "asleep")
        return [*self.forget_state(agent), *((f"DELETE FROM {table} WHERE agent = ?", (agent,)) for table in tables)]

    def copy(self, agent: str, clone: str) -> list[Statement]:
        """The last checkpoint of an agent is the first of its clone; its mail is not."""
        self._pieces[clone] = dict(self._pieces.get(agent, {}))
        if agent in self.files:
            self.files[clone] = self.files[agent]
        return [
            (
                "INSERT INTO states SELECT ?, reseal(?, ?, head), pieces, file FROM states WHERE agent = ?",
                (clone, _of_head(agent), _of_head(clone), agent),
            ),
            ("INSERT INTO pieces SELECT ?, digest, body FROM pieces WHERE agent = ?", (clone, agent)),
        ]

    # After a restart

    async def asleep(self) -> dict[str, float | None]:
        """Residents that are deactivated, and when they are to wake, in seconds since 1970."""
        rows = await self._database.read("SELECT agent, until FROM asleep")
        return {agent: None if until is None else until / 1000 for agent, until in rows}

    async def state(self, agent: str) -> Stowed | None:
        """That of the last checkpoint, if there was one since its parcel."""
        rows = await self._database.read("SELECT head, pieces, file FROM states WHERE agent = ?", (agent,))
        if not rows:
            return None
        ((sealed, digests, file),) = rows
        head = self._database.open(agent, _of_head(agent), sealed)
        if file is not None:
            self.files[agent] = file
            return Spooled(codec.decode(head, Freight, _OWN), file)
        if not digests:
            return head
        found = await self._database.read("SELECT digest, body FROM pieces WHERE agent = ?", (agent,))
        pieces = {digest: self._database.open(agent, _of_piece(digest), body) for digest, body in found}
        self._pieces[agent] = {digest: len(body) for digest, body in pieces.items()}  # the next one makes some needless
        order = (digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES))
        return b"".join((head, *(pieces[digest] for digest in order)))

    async def rows(self, agent: str) -> Rows:
        """All of them. Asked for in the step in which this is called: what is written later is not among them."""
        head, digests, pieces, mine = None, b"", {}, None
        seen, sent, loose = [], [], []
        for kind, name, number, epoch, body, more, other in await self._database.read(_ROWS, (agent,)):
            match kind:
                case "state":
                    head, digests = self._database.open(agent, _of_head(agent), body), more
                case "piece":
                    pieces[body] = self._database.open(agent, _of_piece(body), more)
                case "seen":
                    seen.append(self._read_seen(agent, name, number, epoch, body))
                case "sent":
                    sent.append((name, number, self._read_sent(agent, name, number, body)))
                case "loose":
                    loose.append(self._read_loose(agent, other, epoch, body, more))
                case _:
                    mine = self._read_standing(agent, body)
        order = tuple(digests[at : at + DIGEST_BYTES] for at in range(0, len(digests), DIGEST_BYTES))
        return Rows(head, order, pieces, tuple(seen), tuple(sent), tuple(loose), mine)

    async def know_pieces(self) -> None:
        """Of all agents, after a start."""
        for agent, digest, size in await self._database.read("SELECT agent, digest, length(body) FROM pieces"):
            self._pieces.setdefault(agent, {})[digest] = size - OVERHEAD

    async def recall(self, agent: str, luggage: Luggage) -> None:
        """What it read, sent and joined since its luggage was written, into that: a number is never used twice."""
        for kind, name, number, epoch, body in await self._database.read(_SINCE, (agent,)):
            match kind:
                case "seen":
                    luggage.recall_seen(self._read_seen(agent, name, number, epoch, body))
                case "sent":
                    luggage.recall_sent(name, number, self._read_sent(agent, name, number, body))
                case _:
                    luggage.standing = self._read_standing(agent, body)

    async def loose(self, agent: str) -> list[tuple[Loose, Answer | None]]:
        """What left before the state that knows of it, in its order."""
        select = "SELECT receiver, sequence, body, answer FROM loose WHERE agent = ? ORDER BY position"
        return [self._read_loose(agent, *row) for row in await self._database.read(select, (agent,))]

    async def ends(self) -> dict[str, int]:
        """Agents that ended here, and when: milliseconds since 1970."""
        return dict(await self._database.read("SELECT agent, at FROM ends"))

    def _read_seen(self, agent: str, sender: str, sequence: int, epoch: int, sealed: bytes | None) -> Seen:
        reply = None if sealed is None else self._database.open(agent, _of_reply(agent, sender, sequence), sealed)
        return Seen(sender, sequence, epoch, None if reply is None else codec.decode(reply, Reply, _OWN))

    def _read_sent(self, agent: str, receiver: str, sequence: int, sealed: bytes | None) -> Letter | None:
        if sealed is None:
            return None
        return codec.decode(self._database.open(agent, _of_letter(agent, receiver, sequence), sealed), Letter, _OWN)

    def _read_loose(
        self, agent: str, receiver: str, sequence: int, sealed: bytes, answer: bytes | None
    ) -> tuple[Loose, Answer | None]:
        key = agent, receiver, sequence
        one = codec.decode(self._database.open(agent, _of_loose(*key), sealed), Loose, _OWN)
        if answer is None:
            return one, None
        return one, codec.decode(self._database.open(agent, _of_answer(*key), answer), Answer, _OWN)

    def _read_standing(self, agent: str, sealed: bytes) -> Standing:
        return codec.decode(self._database.open(agent, _of_standing(agent), sealed), Standing, _OWN)


def _seen(agent: str, each: Seen) -> Statement:
    bound = _of_reply(agent, each.sender, each.sequence)
    reply = None if each.reply is None else Secret(agent, bound, codec.encode(each.reply))
    row = (agent, each.sender, each.sequence, each.epoch, reply)
    return ("INSERT OR REPLACE INTO inbox VALUES (?, ?, ?, ?, ?)", row)


def _head(agent: str, head: bytes) -> Secret:
    return Secret(agent, _of_head(agent), head)


def _piece(agent: str, digest: bytes, body: bytes) -> Statement:
    return ("INSERT OR REPLACE INTO pieces VALUES (?, ?, ?)", (agent, digest, Secret(agent, _of_piece(digest), body)))


def standing(agent: str, each: Standing) -> Statement:
    row = agent, Secret(agent, _of_standing(agent), codec.encode(each))
    return ("INSERT OR REPLACE INTO standings VALUES (?, ?)", row)


def end(agent: str, at: int) -> Statement:
    return ("INSERT OR IGNORE INTO ends VALUES (?, ?)", (agent, at))


def bound(agent: str) -> Statement:
    """No letter of it is loose any more."""
    return ("DELETE FROM loose WHERE agent = ?", (agent,))


def letter(each: Letter) -> Statement:
    return _sent(each.sender, each.receiver, each.sequence, each)


def _sent(agent: str, receiver: str, sequence: int, each: Letter | None) -> Statement:
    sealed = None if each is None else Secret(agent, _of_letter(agent, receiver, sequence), codec.encode(each))
    return ("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, ?)", (agent, receiver, sequence, sealed))


def loose(each: Loose) -> Statement:
    key = each.letter.sender, each.letter.receiver, each.letter.sequence
    row = (*key, Secret(each.letter.sender, _of_loose(*key), codec.encode(each)))
    return ("INSERT OR REPLACE INTO loose (agent, receiver, sequence, body) VALUES (?, ?, ?, ?)", row)


def answered(agent: str, receiver: str, sequence: int, answer: Answer) -> Statement:
    """A loose letter was."""
    key = agent, receiver, sequence
    row = Secret(agent, _of_answer(*key), codec.encode(answer)), *key
    return ("UPDATE loose SET answer = ? WHERE agent = ? AND receiver = ? AND sequence = ?", row)


def replied(agent: str, receiver: str, upto: int) -> list[Statement]:
    """All letters to `receiver` up to this number were replied to. The number stays known."""
    return [
        ("DELETE FROM outbox WHERE agent = ? AND receiver = ? AND sequence < ?", (agent, receiver, upto)),
        ("INSERT OR REPLACE INTO outbox VALUES (?, ?, ?, NULL)", (agent, receiver, upto)),
    ]


# What is sealed is bound to its place. A piece is bound to what is in it alone: a clone has those of its original.


def _of_head(agent: str) -> str:
    return f"state {agent}"


def _of_piece(digest: bytes) -> str:
    return f"piece {digest.hex()}"


def _of_standing(agent: str) -> str:
    return f"standing {agent}"


def _of_reply(agent: str, sender: str, sequence: int) -> str:
    return f"reply {agent} {sender} {sequence}"


def _of_letter(agent: str, receiver: str, sequence: int) -> str:
    return f"letter {agent} {receiver} {sequence}"


def _of_loose(agent: str, receiver: str, sequence: int) -> str:
    return f"loose {agent} {receiver} {sequence}"


def _of_answer(agent: str, receiver: str, sequence: int) -> str:
    return f"answer {agent} {receiver} {sequence}"
