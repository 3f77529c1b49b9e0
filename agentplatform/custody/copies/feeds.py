"""How copies and changes of a held agent's checkpoint come to its holders: in order, again when they may be lost, and
as a full copy when a holder cannot go on from what it has.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from agentplatform.custody.copies.holders import NOTHING, Copies
from agentplatform.custody.copies.messages import (
    PIECES_AT_ONCE,
    Changes,
    Checkpointed,
    Op,
    Pieces,
    Refused,
    Unneeded,
    Whole,
)
from agentplatform.custody.copies.origins import Origin
from agentplatform.custody.journal import Journal
from agentplatform.parcel.manifest import Birth
from ledger import codec
from ledger.errors import PlatformError, Unavailable
from ledger.links.base import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
MAX_BACKLOG_BYTES = 32 << 20  # of changes that a holder has not confirmed; then it gets a full copy
SOON, LATER = 0.05, 1.0  # seconds after which what a holder refused is tried again, at first and at last
QUIET_ROUNDS = 5  # reminders without a word of a holder, after which all is sent again
_FULL = "more than one message takes: let the agent have fewer letters without an answer"


class Feed(msgspec.Struct, eq=False):
    """One holder of one agent's copy, or one that is to be."""

    sent: int = NOTHING  # up to here all was sent over the present link
    seen: int = NOTHING  # what it had at the last reminder
    quiet: int = 0  # reminders since it had more
    copying: asyncio.Task[None] | None = None
    again: asyncio.TimerHandle | None = None  # when what it refused is tried again
    pause: float = SOON
    trouble: str = ""  # why it does not take more
    gone_since: float | None = None  # no link since then, by the loop's clock


class Stay(msgspec.Struct, eq=False):
    """One held agent while it lives here."""

    birth: Birth
    subject: bytes
    epoch: int
    copies: Copies
    feeds: dict[str, Feed] = msgspec.field(default_factory=dict)
    lazy: list[Op] = msgspec.field(default_factory=list)  # what goes with the next change
    backlog: deque[tuple[int, list[bytes]]] = msgspec.field(default_factory=deque)  # position, messages
    backlog_bytes: int = 0
    # What waits: the position that it rests on, when it is durable here, and when there, too.
    waits: "deque[tuple[int, asyncio.Future[None], asyncio.Future[None]]]" = msgspec.field(default_factory=deque)
    naming: asyncio.Task[None] | None = None
    leaving_for: str = ""  # a host that it is about to go to: that cannot hold its checkpoint for it
    was_complete: bool = False
    waits_since: float | None = None  # something waits for holders since then, by the loop's clock


class Feeder:
    def __init__(
        self,
        journal: Journal,
        send: Callable[[str, bytes], bool],
        linked: Callable[[str], bool],
        run: Callable[[], int],
        origin: Callable[[str], Coroutine[Any, Any, Origin]],
    ) -> None:
        self._journal, self._send_now, self._linked = journal, send, linked
        self._run, self._origin = run, origin
        self._one_at_a_time = asyncio.Lock()  # a full copy is in memory

    def change(self, stay: Stay, ops: tuple[Op, ...]) -> None:
        """One more change: what waited for the next one is in it."""
        ops, stay.lazy = (*stay.lazy, *ops), []
        messages = self._messages(stay, stay.copies.changed(), ops)
        stay.backlog.append((stay.copies.position, messages))
        stay.backlog_bytes += sum(map(len, messages))
        self.feed_all(stay)
        self._trim(stay)

    def renew(self, stay: Stay) -> None:
        """Every holder gets a full copy."""
        stay.copies.renewed()
        stay.backlog.clear()
        stay.backlog_bytes = 0
        for feed in stay.feeds.values():
            feed.sent = NOTHING
            if feed.copying is not None:
                feed.copying.cancel()
                feed.copying = None
        self.feed_all(stay)

    def start(self, stay: Stay, host: str) -> Feed:
        """It is a holder, or is to be one."""
        feed = stay.feeds.get(host)
        if feed is None:
            feed = stay.feeds[host] = Feed()
            self._feed(stay, host)
        return feed

    def stop(self, stay: Stay, host: str) -> None:
        feed = stay.feeds.pop(host)
        if feed.copying is not None:
            feed.copying.cancel()
        if feed.again is not None:
            feed.again.cancel()

    def dismiss(self, stay: Stay, host: str) -> None:
        """Others hold it now."""
        self.stop(stay, host)
        self._send_now(host, codec.encode(Unneeded(*self._named(stay, stay.copies.position))))

    # What holders say

    def has(self, stay: Stay, host: str, position: int) -> None:
        feed = stay.feeds[host]
        stay.copies.has(host, position)
        if position == NOTHING:
            self._pause(stay, host, "it has no copy yet")
            return
        feed.pause, feed.trouble = SOON, ""
        self._feed(stay, host)
        self._trim(stay)

    def refused(self, stay: Stay, host: str, message: Refused) -> None:
        self._pause(stay, host, message.reason)

    def _pause(self, stay: Stay, host: str, trouble: str) -> None:
        feed = stay.feeds[host]
        if feed.again is None and feed.copying is None:
            feed.trouble = trouble
            feed.again = asyncio.get_running_loop().call_later(feed.pause, self._try_again, stay, host, feed)
            feed.pause = min(2 * feed.pause, LATER)

    def _try_again(self, stay: Stay, host: str, feed: Feed) -> None:
        feed.again = None
        feed.sent = stay.copies.at(host)
        self._feed(stay, host)

    def relinked(self, stay: Stay, host: str) -> None:
        """There is a new link: what was under way on the last one is lost; so may be what the holder had."""
        at = stay.feeds[host].sent = stay.copies.at(host)
        if at != NOTHING:
            self._send_now(host, codec.encode(Changes(*self._named(stay, at), ())))  # a repeat: it says what it has
        self._feed(stay, host)

    def remind(self, stay: Stay) -> None:
        """Sends again where nothing moves."""
        for host, feed in list(stay.feeds.items()):
            at = stay.copies.at(host)
            feed.quiet = feed.quiet + 1 if feed.seen == at < stay.copies.position else 0
            feed.seen = at
            if feed.quiet >= QUIET_ROUNDS and feed.copying is None:
                feed.quiet, feed.sent = 0, at
            self._feed(stay, host)

    # What they get

    def feed_all(self, stay: Stay) -> None:
        for host in list(stay.feeds):
            self._feed(stay, host)

    def _named(self, stay: Stay, position: int) -> tuple[str, bytes, int, int, int]:
        return stay.birth.agent, stay.subject, stay.epoch, self._run(), position

    def _messages(self, stay: Stay, position: int, ops: tuple[Op, ...]) -> list[bytes]:
        named = self._named(stay, position)
        messages: list[bytes] = []
        lean: list[Op] = []
        for op in ops:
            if isinstance(op, Checkpointed) and op.change.state is not None:
                fresh, size = op.change.state.fresh, sum(len(body) for _, body in op.change.state.fresh)
                if size > PIECES_AT_ONCE:
                    messages += [codec.encode(Pieces(*named, part)) for part in _parts(fresh)]
                    state = msgspec.structs.replace(op.change.state, fresh=())
                    op = Checkpointed(msgspec.structs.replace(op.change, state=state))
            lean.append(op)
        return [*messages, codec.encode(Changes(*named, tuple(lean)))]

    def _feed(self, stay: Stay, host: str) -> None:
        """Sends what it has not got: the changes that follow, or a full copy."""
        feed = stay.feeds[host]
        if feed.copying is not None or feed.again is not None:
            return
        after = max(feed.sent, stay.copies.at(host))
        first = stay.backlog[0][0] if stay.backlog else stay.copies.position + 1
        if after == NOTHING or after + 1 < first:
            feed.copying = asyncio.ensure_future(self._copy(stay, host, feed))
            return
        for position, messages in stay.backlog:
            if position > after:
                if not all(self._send_now(host, message) for message in messages):
                    return  # the reminder tries again
                feed.sent = position

    async def _copy(self, stay: Stay, host: str, feed: Feed) -> None:
        """A full copy, as of one moment."""
        try:
            async with self._one_at_a_time:
                feed.sent = await self._send_whole(stay, host)
            feed.trouble = ""
        except PlatformError as error:
            feed.trouble = str(error)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("a copy of %s for %s failed", stay.birth.agent, host)
        feed.copying = None
        if feed.sent != NOTHING and stay.feeds.get(host) is feed:
            self._feed(stay, host)

    async def _send_whole(self, stay: Stay, host: str) -> int:
        agent, position = stay.birth.agent, stay.copies.position
        rows = await self._journal.kept.rows(agent)  # asked for in the step that read the position
        origin = await self._origin(agent)
        named = self._named(stay, position)
        head, digests, pieces = rows.head, rows.digests, rows.pieces
        if head is None:
            head, digests, pieces = origin.head, origin.digests, dict(origin.pieces)
        for part in _parts(tuple((digest, pieces[digest]) for digest in dict.fromkeys(digests))):
            await self._send(host, codec.encode(Pieces(*named, part)))
        parcel = origin.certificate, origin.init, origin.code, origin.luggage
        whole = Whole(*named, *parcel, head, digests, rows.seen, rows.sent, rows.loose, rows.standing)
        await self._send(host, codec.encode(whole))
        return position

    async def _send(self, host: str, message: bytes) -> None:
        if len(message) > MAX_MESSAGE_BYTES:
            raise Unavailable(f"a full copy has {len(message)} bytes, {_FULL}")
        while not self._send_now(host, message):
            if not self._linked(host):
                raise Unavailable("there is no link to it")
            await asyncio.sleep(SOON)

    def _trim(self, stay: Stay) -> None:
        """Changes that all have are not kept; nor those that wait for one that is silent for long."""
        last = min((stay.copies.at(host) for host in stay.feeds), default=stay.copies.position)
        while stay.backlog and (stay.backlog[0][0] <= last or stay.backlog_bytes > MAX_BACKLOG_BYTES):
            stay.backlog_bytes -= sum(map(len, stay.backlog.popleft()[1]))


def _parts(pieces: tuple[tuple[bytes, bytes], ...]) -> list[tuple[tuple[bytes, bytes], ...]]:
    """In messages of about PIECES_AT_ONCE bytes."""
    parts: list[list[tuple[bytes, bytes]]] = []
    size = PIECES_AT_ONCE
    for piece in pieces:
        if size + len(piece[1]) > PIECES_AT_ONCE:
            parts.append([])
            size = 0
        parts[-1].append(piece)
        size += len(piece[1])
    return [tuple(part) for part in parts]
