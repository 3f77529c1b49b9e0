"""The edge at a held agent's host: what its holders get, and when what the agent caused may leave.

It stands between the mailroom and the journal: what the journal writes of a held agent goes to its holders too, and is
done when both have it. It chooses holders, and has the ledger name them.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Protocol

import msgspec

from agentplatform.custody.copies import (
    PIECES_AT_ONCE,
    Answered,
    Bound,
    Changes,
    Checkpointed,
    CopyMessage,
    Have,
    Joined,
    Op,
    Pieces,
    Refused,
    Settled,
    Unneeded,
    Whole,
    Wrote,
)
from agentplatform.custody.holders import NOTHING, Candidate, Copies, choose
from agentplatform.custody.journal import Journal
from agentplatform.custody.origins import Origin
from agentplatform.custody.residences import Ledger
from agentplatform.custody.waits import Wait
from agentplatform.mail import Change, Letter, Loose, Standing
from agentplatform.messages import Answer
from agentplatform.parcel.manifest import Birth
from agentplatform.settings import Holders
from ledger import codec
from ledger.contracts.residence import Hold
from ledger.errors import Misuse, PlatformError, Unavailable
from ledger.links.base import MAX_MESSAGE_BYTES

log = logging.getLogger(__name__)
MAX_BACKLOG_BYTES = 32 << 20  # of changes that a holder has not confirmed; then it gets a full copy
PATIENCE = 1.0  # seconds after which it is said that an agent waits for its holders
SOON, LATER = 0.05, 1.0  # seconds after which what a holder refused is tried again, at first and at last
FINDING_ROUNDS = 200  # looks for a holder, SOON apart, before an agent is refused
_FULL = "more than one message takes: let the agent have fewer letters without an answer"


class Around(Protocol):
    """What replication asks of the rest of its host."""

    def send_copy(self, host: str, message: bytes) -> bool:
        """Over the link; False when there is none now, or too much waits for it."""

    def candidates(self) -> list[Candidate]:
        """Hosts that may hold copies now: trusted, linked, with room."""

    def trusted(self, host: str) -> bool: ...

    def linked(self, host: str) -> bool: ...


class _Feed(msgspec.Struct, eq=False):
    """One holder of one agent's copy, or one that is to be."""

    sent: int = NOTHING  # up to here all was sent over the present link
    seen: int = NOTHING  # what it had at the last reminder
    copying: asyncio.Task[None] | None = None
    again: asyncio.TimerHandle | None = None  # when what it refused is tried again
    pause: float = SOON
    trouble: str = ""  # why it does not take more
    gone_since: float | None = None  # no link since then, by the loop's clock


class _Stay(msgspec.Struct, eq=False):
    """One held agent while it lives here."""

    birth: Birth
    subject: bytes
    epoch: int
    copies: Copies
    lazy: list[Op] = msgspec.field(default_factory=list)
    backlog: deque[tuple[int, list[bytes]]] = msgspec.field(default_factory=deque)  # position, messages
    backlog_bytes: int = 0
    waits: "deque[tuple[int, asyncio.Future[None], asyncio.Future[None]]]" = msgspec.field(default_factory=deque)
    feeds: dict[str, _Feed] = msgspec.field(default_factory=dict)
    naming: asyncio.Task[None] | None = None
    was_complete: bool = False
    waits_since: float | None = None  # something waits for holders since then, by the loop's clock


class Replication:
    """Implements agentplatform.outbox.Outbox."""

    def __init__(
        self,
        host: str,
        organisation: str,
        journal: Journal,
        ledger: Ledger,
        around: Around,
        settings: Holders,
        run: Callable[[], int],
        origin: Callable[[str], Coroutine[Any, Any, Origin]],
    ) -> None:
        """`run` is this host's incarnation; `origin(agent)` reads the parcel of a resident agent."""
        self._host, self._organisation, self._journal, self._ledger = host, organisation, journal, ledger
        self._around, self._settings, self._run, self._origin = around, settings, run, origin
        self._stays: dict[str, _Stay] = {}
        self._positions: dict[str, int] = {}  # the last ones of agents that lived here before
        self._one_at_a_time = asyncio.Lock()  # a full copy is in memory
        self.completed: Callable[[], None] = lambda: None  # what was held back may leave

    # The agents that live here

    def begin(self, birth: Birth, epoch: int, subject: bytes) -> None:
        """A held agent lives here from now on, or has another epoch. Nothing leaves before its holders have it."""
        stay = self._stays.get(birth.agent)
        if stay is not None and stay.epoch == epoch:
            return
        if stay is None:
            copies = Copies(self._wanted(birth), self._positions.get(birth.agent, 0))
            stay = self._stays[birth.agent] = _Stay(birth, subject, epoch, copies)
        stay.epoch = epoch
        self._renew(stay)
        self._place(stay)
        self._advance(stay)

    async def findable(self, birth: Birth) -> None:
        """Before a held agent is created: until some host could hold its checkpoint. Raises Unavailable if none can."""
        if not self._wanted(birth):
            return
        elsewhere = self._settings.elsewhere
        for _ in range(FINDING_ROUNDS):
            if choose(birth.agent, 1, (), self._around.candidates(), self._organisation, elsewhere):
                return
            await asyncio.sleep(SOON)
        raise Unavailable(
            f"no other trusted host{' of another organisation' if elsewhere else ''} is linked to {self._host} and has"
            f" room, so none could hold the checkpoint of {birth.agent}; let one be linked, or choose local custody",
            retry_after=LATER,
        )

    async def ready(self, agent: str) -> None:
        """Until its holders have it."""
        stay = self._stays.get(agent)
        if stay is not None:
            await self._both(agent, _done())

    def _wanted(self, birth: Birth) -> int:
        return birth.copies or self._settings.copies

    def renewed(self, agent: str) -> None:
        """The state that a restart reads is another one now than its changes lead to."""
        stay = self._stays.get(agent)
        if stay is not None:
            self._renew(stay)
            self._feed_all(stay)

    def end(self, agent: str) -> None:
        """It does not live here any more: what waits here never leaves from here."""
        stay = self._stays.pop(agent, None)
        if stay is None:
            return
        self._positions[agent] = stay.copies.position
        for _, _, waiting in stay.waits:
            waiting.cancel()
        for host in list(stay.feeds):
            self._stop_feed(stay, host)
        if stay.naming is not None:
            stay.naming.cancel()

    def may_leave(self, agent: str) -> bool:
        """Its holders have all that it was when it began to live here. What it did since waits for itself."""
        stay = self._stays.get(agent)
        return stay is None or stay.copies.complete

    def waits(self) -> Iterator[Wait]:
        """What is blocked since some time, because holders do not have it."""
        now = asyncio.get_running_loop().time()
        for agent, stay in self._stays.items():
            if stay.waits_since is None or now - stay.waits_since < PATIENCE:
                continue
            troubles = [f"{host}: {feed.trouble}" for host, feed in stay.feeds.items() if feed.trouble]
            why = "what it does leaves when they have its checkpoint"
            if not stay.copies.required:
                why = "another trusted host must have its checkpoint before anything leaves, and none is found yet"
            hosts = ", ".join(stay.copies.waits_for) or ", ".join(stay.feeds) or "another host"
            yield Wait((agent,), hosts, "; ".join([why, *troubles]))

    # The mailroom's outbox

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]":
        return self._both(agent, self._journal.checkpoint(agent, change), Checkpointed(change))

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        return self._both(letter.sender, self._journal.keep_letter(letter, loose), Wrote(letter, loose))

    def reserve_numbers(self, agent: str, receiver: str, upto: int) -> "asyncio.Future[None]":
        return self._both(agent, self._journal.reserve_numbers(agent, receiver, upto), Settled(receiver, upto))

    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None:
        self._journal.keep_answer(agent, receiver, sequence, answer)
        self._later(agent, Answered(receiver, sequence, answer))

    def drop_loose(self, agent: str) -> None:
        self._journal.drop_loose(agent)
        self._later(agent, Bound())

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        self._journal.drop_letters(agent, receiver, upto)
        self._later(agent, Settled(receiver, upto))

    def keep_standing(self, agent: str, standing: Standing) -> None:
        self._journal.keep_standing(agent, standing)
        self._later(agent, Joined(standing))

    def keep_end(self, agent: str, at: int) -> None:
        self._journal.keep_end(agent, at)

    def replicated(self, agent: str) -> bool:
        """What comes of its letters is not safe when it is written behind them on this host alone."""
        return agent in self._stays

    def flush(self) -> "asyncio.Future[None] | None":
        durable = self._journal.flush()
        waits = [] if durable is None else [durable]
        for agent, stay in self._stays.items():
            if stay.lazy:
                self._add(stay)
            if stay.copies.safe < stay.copies.position:
                waits.append(self._both(agent, _done()))
        if len(waits) <= 1:
            return waits[0] if waits else None
        joined = asyncio.get_running_loop().create_future()
        asyncio.gather(*waits).add_done_callback(lambda done: _copy_outcome(done, joined))
        return joined

    def _both(self, agent: str, durable: "asyncio.Future[None]", *ops: Op) -> "asyncio.Future[None]":
        stay = self._stays.get(agent)
        if stay is None:
            return durable
        if ops:
            self._add(stay, *ops)
        waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        stay.waits.append((stay.copies.position, durable, waiting))
        durable.add_done_callback(lambda _: self._advance(stay))
        return waiting

    def _later(self, agent: str, op: Op) -> None:
        if agent in self._stays:
            self._stays[agent].lazy.append(op)

    def _add(self, stay: _Stay, *ops: Op) -> None:
        """One more change: what waited for the next one is in it."""
        ops, stay.lazy = (*stay.lazy, *ops), []
        messages = self._messages(stay, stay.copies.changed(), ops)
        stay.backlog.append((stay.copies.position, messages))
        stay.backlog_bytes += sum(map(len, messages))
        self._feed_all(stay)
        self._trim(stay)

    def _messages(self, stay: _Stay, position: int, ops: tuple[Op, ...]) -> list[bytes]:
        named = (stay.birth.agent, stay.subject, stay.epoch, self._run(), position)
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

    def _advance(self, stay: _Stay) -> None:
        """In their order: what is durable here and there may leave."""
        while stay.waits and stay.waits[0][1].done():
            position, durable, waiting = stay.waits[0]
            failed = not durable.cancelled() and durable.exception() is not None
            if not failed and not durable.cancelled() and position > stay.copies.safe:
                return
            stay.waits.popleft()
            _copy_outcome(durable, waiting)
        if stay.copies.complete and not stay.was_complete:
            stay.was_complete = True
            self.completed()

    # What holders get

    def _renew(self, stay: _Stay) -> None:
        stay.copies.renewed()
        stay.was_complete = False
        stay.backlog.clear()
        stay.backlog_bytes = 0
        for feed in stay.feeds.values():
            feed.sent = NOTHING
            if feed.copying is not None:
                feed.copying.cancel()
                feed.copying = None

    def _feed_all(self, stay: _Stay) -> None:
        for host in list(stay.feeds):
            self._feed(stay, host)

    def _feed(self, stay: _Stay, host: str) -> None:
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
                if not all(self._around.send_copy(host, message) for message in messages):
                    return  # the reminder tries again
                feed.sent = position

    async def _copy(self, stay: _Stay, host: str, feed: _Feed) -> None:
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

    async def _send_whole(self, stay: _Stay, host: str) -> int:
        agent, position = stay.birth.agent, stay.copies.position
        rows = await self._journal.kept.rows(agent)  # asked for in the step that read the position
        origin = await self._origin(agent)
        named = (agent, stay.subject, stay.epoch, self._run(), position)
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
        while not self._around.send_copy(host, message):
            if not self._around.linked(host):
                raise Unavailable("there is no link to it")
            await asyncio.sleep(SOON)

    def receive(self, host: str, message: CopyMessage) -> None:
        """What holders answer."""
        stay = self._stays.get(message.agent)
        feed = stay.feeds.get(host) if stay is not None else None
        if stay is None or feed is None or (message.epoch, message.run) != (stay.epoch, self._run()):
            return
        if isinstance(message, Have):
            stay.copies.has(host, message.position)
            if message.position == NOTHING and feed.copying is None:
                feed.sent = NOTHING
            else:
                feed.pause, feed.trouble = SOON, ""
            self._feed(stay, host)
            self._trim(stay)
            self._advance(stay)
            if host not in stay.copies.named:
                self._place(stay)
        elif isinstance(message, Refused) and feed.again is None:
            feed.trouble = message.reason
            feed.again = asyncio.get_running_loop().call_later(feed.pause, self._try_again, stay, host, feed)
            feed.pause = min(2 * feed.pause, LATER)

    def _try_again(self, stay: _Stay, host: str, feed: _Feed) -> None:
        feed.again = None
        feed.sent = stay.copies.at(host)
        self._feed(stay, host)

    def _trim(self, stay: _Stay) -> None:
        """Changes that all have are not kept; nor those that wait for one that is silent for long."""
        last = min((stay.copies.at(host) for host in stay.feeds), default=stay.copies.position)
        while stay.backlog and (stay.backlog[0][0] <= last or stay.backlog_bytes > MAX_BACKLOG_BYTES):
            stay.backlog_bytes -= sum(map(len, stay.backlog.popleft()[1]))

    # Who holds

    def follow(self) -> None:
        """The ledger, or a link, has changed. Call it from time to time too."""
        for stay in list(self._stays.values()):
            self._place(stay)

    def linked(self, host: str) -> None:
        """There is a new link: what was under way on the last one is lost."""
        for stay in self._stays.values():
            if (feed := stay.feeds.get(host)) is not None:
                feed.sent = stay.copies.at(host)
                self._feed(stay, host)

    def remind(self) -> None:
        """Once in a while: sends again where nothing moves, and replaces holders that are gone."""
        for stay in list(self._stays.values()):
            if stay.copies.safe >= stay.copies.position:
                stay.waits_since = None
            elif stay.waits_since is None:
                stay.waits_since = asyncio.get_running_loop().time()
            for host, feed in list(stay.feeds.items()):
                at = stay.copies.at(host)
                if at < stay.copies.position and at == feed.seen and feed.copying is None:
                    feed.sent = at
                feed.seen = at
                self._feed(stay, host)
        self.follow()

    def _place(self, stay: _Stay) -> None:
        now = self._ledger.find(stay.subject)
        if now is None or (now.host, now.epoch) != (self._host, stay.epoch):
            return  # our chain is behind, or custody is about to change
        copies = stay.copies
        if copies.proposed is None and now.holders != copies.named:
            copies.decided(now.holders)
            self._advance(stay)
        wanted = self._chosen(stay)
        for host in wanted:
            if host not in stay.feeds:
                stay.feeds[host] = _Feed()
                self._feed(stay, host)
        for host in set(stay.feeds) - set(wanted) - set(copies.required):
            named = (stay.birth.agent, stay.subject, stay.epoch, self._run(), copies.position)
            self._around.send_copy(host, codec.encode(Unneeded(*named)))
            self._stop_feed(stay, host)
        for host in copies.required:
            if host not in stay.feeds:
                stay.feeds[host] = _Feed()
                self._feed(stay, host)
        if wanted and set(wanted) != set(copies.named) and copies.ready(wanted):
            copies.propose(wanted)
            stay.naming = asyncio.ensure_future(self._name(stay, wanted))

    def _chosen(self, stay: _Stay) -> tuple[str, ...]:
        """Who shall hold it: those who do, unless they are not trusted or have been away for too long."""
        now = asyncio.get_running_loop().time()
        keep = []
        for host in stay.copies.named:
            feed = stay.feeds.setdefault(host, _Feed())
            feed.gone_since = None if self._around.linked(host) else feed.gone_since or now
            away = feed.gone_since is not None and now - feed.gone_since > self._settings.patience
            if self._around.trusted(host) and not away:
                keep.append(host)
        candidates = {each.host: each for each in self._around.candidates()}
        kept = [candidates.get(host, Candidate(host, "")) for host in keep]
        others = [each for host, each in candidates.items() if host not in keep]
        return choose(
            stay.birth.agent,
            stay.copies.wanted,
            keep,
            [*kept, *others],
            self._organisation,
            self._settings.elsewhere,
        )

    async def _name(self, stay: _Stay, holders: tuple[str, ...]) -> None:
        """Until the outcome is known, the old and the new ones are waited for."""
        while True:
            try:
                await self._ledger.submit(Hold(stay.subject, stay.epoch, holders))
            except Misuse as error:
                log.info("the ledger does not name %s holders of %s: %s", holders, stay.birth.agent, error)
            except PlatformError as error:  # it may become final yet
                log.warning("%s has no new holders yet: %s", stay.birth.agent, error)
                await asyncio.sleep(LATER)
                continue
            break
        now = self._ledger.find(stay.subject)
        stay.copies.decided(() if now is None else now.holders)
        stay.naming = None
        self._advance(stay)
        self._place(stay)

    def _stop_feed(self, stay: _Stay, host: str) -> None:
        feed = stay.feeds.pop(host)
        if feed.copying is not None:
            feed.copying.cancel()
        if feed.again is not None:
            feed.again.cancel()


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


def _done() -> "asyncio.Future[None]":
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _copy_outcome(done: "asyncio.Future[Any]", future: "asyncio.Future[None]") -> None:
    if future.done():
        return
    if done.cancelled():
        future.cancel()
    elif (error := done.exception()) is not None:
        future.set_exception(error)
    else:
        future.set_result(None)
