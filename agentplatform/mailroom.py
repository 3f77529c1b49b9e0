"""The mailroom of a host: takes letters from agents, clients and other hosts to where they go.

The rules are in agentplatform.mail; here they meet the wire, the runner and the disk.
"""

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from msgspec.structs import replace

from agentplatform.mail import MAX_BODY_BYTES, Letter, Luggage, Mailbox, Post, Reply
from agentplatform.messages import Answer, Delivery, Outgoing
from agentplatform.whereabouts import Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault, Unavailable

_POST: Any = Post


class Outbox(Protocol):
    """Where an agent's letters are kept until they are replied to (custody's journal)."""

    def keep_letter(self, agent: str, receiver: str, sequence: int, letter: bytes) -> "asyncio.Future[None]": ...

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None: ...


class Client:
    """One client of this host: its numbering, and the letters that it waits for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: dict[str, int] = {}
        self.pending: dict[tuple[str, int], tuple[Letter, asyncio.Future[Reply]]] = {}

    def settled(self, receiver: str) -> int:
        open_ones = [sequence for agent, sequence in self.pending if agent == receiver]
        return min(open_ones) - 1 if open_ones else self.sent.get(receiver, 0)


class Mailroom:
    def __init__(
        self,
        host: str,
        whereabouts: Whereabouts,
        release: Callable[[str, Callable[[], None]], None],
        outbox: Outbox,
        send: Callable[[str, bytes], object],
        deliver: Callable[[str, Delivery], None],
        answer: Callable[[str, int, Answer], None],
    ) -> None:
        """`release` is the gateway's, `send(host, bytes)` the link's, `deliver` and `answer` the runner's."""
        self.host = host
        self.boxes: dict[str, Mailbox] = {}
        self._epochs: dict[str, int] = {}
        self._whereabouts, self._release, self._outbox = whereabouts, release, outbox
        self._send, self._deliver, self._answer = send, deliver, answer
        self._clients: dict[str, Client] = {}
        self._calls: dict[tuple[str, str, int], int] = {}  # (agent, receiver, sequence) -> the agent's own number
        self._unwritten: set[tuple[str, str, int]] = set()  # letters (agent, receiver, sequence) that may not leave yet
        self._tickets = itertools.count(1)
        self._ticket: dict[str, int] = {}  # of the letter that is with the agent

    # Residents

    def admit(self, agent: str, epoch: int, luggage: Luggage, waiting: Iterable[Letter] = ()) -> None:
        """A new resident. Its letters are delivered from now on."""
        box = self.boxes[agent] = Mailbox(luggage)
        self._epochs[agent] = epoch
        for letter in waiting:
            box.take(letter)
        self.reopen(agent)

    def close(self, agent: str) -> Luggage:
        """The agent is frozen. Its letters wait; the luggage is as it was at the freeze."""
        box = self.boxes[agent]
        box.close()
        self._ticket.pop(agent, None)
        return box.luggage

    def reopen(self, agent: str) -> None:
        self.boxes[agent].open = True
        self._pump(agent)

    def waiting(self, agent: str) -> list[Letter]:
        return list(self.boxes[agent].waiting)

    def remove(self, agent: str) -> None:
        self.boxes.pop(agent, None)
        self._epochs.pop(agent, None)
        self._ticket.pop(agent, None)
        for key in [key for key in self._calls if key[0] == agent]:
            del self._calls[key]

    # From clients

    async def ask(self, client: str, receiver: str, kind: str, body: bytes, patience: float) -> Reply:
        """Sends a client's message and waits `patience` seconds for the reply, wherever the agent is or goes."""
        _check_size(body)
        desk = self._clients.setdefault(client, Client(client))
        settled = desk.settled(receiver)
        sequence = desk.sent[receiver] = desk.sent.get(receiver, 0) + 1
        letter = Letter(client, 0, sequence, settled, receiver, self.host, kind, body)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        desk.pending[receiver, sequence] = letter, future
        self.route(letter)
        try:
            return await asyncio.wait_for(future, patience)
        except TimeoutError:
            where = self._whereabouts.host_of(receiver)
            place = f"last heard of on {where}" if where else "not heard of"
            raise Unavailable(
                f"{receiver} ({place}) did not answer {kind!r} within {patience:g} s; it may still do so. "
                "Look at: agentplatform status",
                retry_after=patience,
            ) from None
        finally:
            desk.pending.pop((receiver, sequence), None)

    def forget_client(self, client: str) -> None:
        self._clients.pop(client, None)

    # From agents (the runner's upcalls)

    def sent(self, agent: str, outgoing: Outgoing) -> None:
        """Numbers what an agent sends and keeps it; it leaves when it is durable."""
        box = self.boxes.get(agent)
        if box is None:
            return  # a late frame of an agent that left
        try:
            _check_size(outgoing.body)
            receiver = self._whereabouts.resolve(outgoing.receiver)
        except Misuse as error:
            if outgoing.call is not None:
                self._answer(agent, outgoing.call, Answer(False, codec.encode(str(error))))
            return
        luggage = box.luggage
        sequence = luggage.sent[receiver] = luggage.sent.get(receiver, 0) + 1
        settled = luggage.settled().get(receiver, sequence - 1)
        epoch = self._epochs[agent]
        letter = Letter(agent, epoch, sequence, settled, receiver, self.host, outgoing.kind, outgoing.body)
        luggage.outbox.append(letter)
        if outgoing.call is not None:
            self._calls[agent, receiver, sequence] = outgoing.call
        self._unwritten.add((agent, receiver, sequence))
        durable = self._outbox.keep_letter(agent, receiver, sequence, codec.encode(letter))
        durable.add_done_callback(lambda future: self._leave(letter, future))

    def _leave(self, letter: Letter, durable: "asyncio.Future[None]") -> None:
        if not durable.cancelled() and durable.exception() is None:
            self._unwritten.discard((letter.sender, letter.receiver, letter.sequence))
            self.route(letter)

    def answered(self, agent: str, ticket: int, answer: Answer) -> None:
        box = self.boxes.get(agent)
        if box is None or self._ticket.get(agent) != ticket:
            return
        del self._ticket[agent]
        try:
            _check_size(answer.body)
        except Misuse as error:
            answer = Answer(False, codec.encode(str(error)))
        reply = box.handled(answer.ok, answer.body)
        if reply is not None:
            self._release(agent, lambda: self.route(reply))
        self._pump(agent)

    # On the way

    def receive(self, host: str, raw: bytes) -> None:
        """Post from another host. Raises PeerFault for what is none."""
        post: Post = codec.decode(raw, _POST, host)
        if post.sequence < 1 or len(post.body) > MAX_BODY_BYTES:
            raise PeerFault(host, "sent post with no proper number, or too large a body")
        if isinstance(post, Letter) and not 0 <= post.settled < post.sequence:
            raise PeerFault(host, f"sent a letter of {post.sender} that claims to be settled itself")
        self.route(post, came_from=host)

    def route(self, post: Post, came_from: str | None = None) -> None:
        if isinstance(post, Letter):
            self._route_letter(post, came_from)
        else:
            self._route_reply(post, came_from)

    def resend(self) -> None:
        """Sends again what has no reply yet: after a pause, a link's return, or news of an agent's place."""
        for desk in self._clients.values():
            for letter, _ in list(desk.pending.values()):
                self.route(replace(letter, settled=desk.settled(letter.receiver)))
        for box in list(self.boxes.values()):
            settled = box.luggage.settled()
            for letter in list(box.luggage.outbox):
                if (letter.sender, letter.receiver, letter.sequence) not in self._unwritten:
                    # As of now: a receiver that was restarted may have forgotten what was settled before.
                    self.route(replace(letter, settled=settled[letter.receiver]))

    def _route_letter(self, letter: Letter, came_from: str | None) -> None:
        box = self.boxes.get(letter.receiver)
        if box is not None:
            repeat = box.take(letter)
            if repeat is not None:
                self._release(letter.receiver, lambda: self.route(repeat))  # it may be held still
            self._pump(letter.receiver)
            return
        host = self._whereabouts.host_of(letter.receiver)
        if host == "":
            error = codec.encode(f"{letter.receiver} was disposed of")
            self.route(Reply(letter.receiver, letter.sender, letter.sequence, letter.origin, False, error))
        elif host and host not in (self.host, came_from):  # never back: two hosts with stale hints would play tennis
            self._send(host, codec.encode(letter))

    def _route_reply(self, reply: Reply, came_from: str | None) -> None:
        client = self._clients.get(reply.receiver)
        if client is not None:
            _, future = client.pending.get((reply.sender, reply.sequence), (None, None))
            if future is not None and not future.done():
                future.set_result(reply)
            return
        box = self.boxes.get(reply.receiver)
        if box is not None:
            self._settle(reply.receiver, box.luggage, reply)
            return
        host = self._whereabouts.host_of(reply.receiver) or reply.origin
        if host not in (self.host, came_from):
            self._send(host, codec.encode(reply))

    def _settle(self, agent: str, luggage: Luggage, reply: Reply) -> None:
        mine = [each for each in luggage.outbox if (each.receiver, each.sequence) == (reply.sender, reply.sequence)]
        if not mine:
            return  # a repeat
        luggage.outbox.remove(mine[0])
        upto = luggage.settled().get(reply.sender, luggage.sent[reply.sender])
        self._outbox.drop_letters(agent, reply.sender, upto)
        call = self._calls.pop((agent, reply.sender, reply.sequence), None)
        if call is not None:
            self._answer(agent, call, Answer(reply.ok, reply.body))

    def _pump(self, agent: str) -> None:
        letter = self.boxes[agent].next()
        if letter is not None:
            ticket = self._ticket[agent] = next(self._tickets)
            self._deliver(agent, Delivery(ticket, letter.sender, letter.kind, letter.body))


def _check_size(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise Misuse(f"a message has at most {MAX_BODY_BYTES} bytes; this one has {len(body)}")

