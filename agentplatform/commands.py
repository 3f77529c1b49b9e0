"""Commands for an agent that lives on another host: signed by its owner, performed where it is.

A request is sent again until its response comes, after the agent if it moves meanwhile. A host performs each command
once, and remembers the outcome for as long as the command holds, so nobody on the way makes two clones of one command
by repeating it. An agent that moves between two of the repeats may be cloned on both hosts; all else may be performed
twice without harm.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import msgspec

from agentplatform.agenda import MAX_SECONDS
from agentplatform.dataorders import DataOrder
from agentplatform.faults import as_data, as_error
from agentplatform.messages import CONSENT_BYTES, Custody
from agentplatform.parcel.manifest import TRANSFER_BYTES
from agentplatform.ticket import Ticket
from agentplatform.whereabouts import Whereabouts
from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, PlatformError, Unavailable
from ledger.identity import Identity, Signed

DOMAIN = "agentplatform/command"
LIFE_MS = 60_000
RESEND_EVERY = 0.5  # seconds
MAX_NONCE = 16  # bytes
MAX_REMEMBERED = 10_000  # commands of the last minute
MAX_PLAIN_BYTES = 64 * 1024  # of a request, or a response that may hold anything
MAX_KEPT_BYTES = 4096  # of an agent's data in a remembered outcome
MAX_AT_ONCE = 256  # requests of one host that are being performed; what comes then is sent again

Verb = Literal["dispatch", "retract", "clone", "deactivate", "activate", "snapshot", "custody", "dispose", "data"]


class Command(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    agent: str
    verb: Verb
    host: str  # where to dispatch or retract it; else empty
    expires: int  # milliseconds since 1970
    terms: Ticket | None = None  # of a dispatch
    seconds: float | None = None  # of a deactivation: None, until it is woken
    nonce: bytes = b""  # random: the same command twice is two commands
    custody: Custody | None = None  # that it is to be in
    consent: bytes = b""  # to held custody (agentplatform.custody.residences): its own, or that of a clone
    salt: bytes = b""  # of such a clone, from which its id follows
    data: DataOrder | None = None  # what to do with what it keeps

    def __post_init__(self) -> None:
        if (self.verb in ("dispatch", "retract")) != bool(self.host):
            raise ValueError(f"a command to {self.verb} has a host, or none, where it should not")
        if self.terms is not None and (self.verb != "dispatch" or self.terms.host != self.host):
            raise ValueError("terms are those of a dispatch, to the same host")
        if self.seconds is not None and not (self.verb == "deactivate" and 0 < self.seconds <= MAX_SECONDS):
            raise ValueError(f"an agent is deactivated for above 0 and at most {MAX_SECONDS:g} seconds")
        if (self.verb == "custody") != bool(self.custody) or bool(self.consent) != (
            self.custody == "held" or bool(self.salt)
        ):
            raise ValueError("a command to change the custody says which, and has the owner's consent to held custody")
        if self.salt and (self.verb != "clone" or len(self.salt) != TRANSFER_BYTES):
            raise ValueError(f"a command to clone has a salt of {TRANSFER_BYTES} bytes, or none")
        if (self.verb == "data") != (self.data is not None):
            raise ValueError("a command about an agent's data says what to do with it")
        if len(self.consent) > CONSENT_BYTES:
            raise ValueError(f"a consent has {CONSENT_BYTES} bytes")
        if len(self.nonce) > MAX_NONCE:
            raise ValueError(f"a nonce has at most {MAX_NONCE} bytes")

    @property
    def ticket(self) -> Ticket:
        return self.terms or Ticket(self.host)


def shown_by(verb: Verb, agent: str) -> str:
    """Which command shows what came of one that nobody answered."""
    if verb in ("clone", "dispose", "dispatch", "retract", "custody"):
        return "agents"
    return f"data {agent}" if verb == "data" else f"why {agent}"


def sign(command: Command, owner: Identity) -> bytes:
    return codec.encode(owner.signed(DOMAIN, codec.encode(command)))


def read_command(raw: bytes) -> Command:
    """What it says, whoever signed it. Raises PeerFault for what is no command."""
    return codec.decode(codec.decode(raw, Signed, "the client").body, Command, "the client")


def open_command(raw: bytes, owner: bytes, wall: int, sender: str) -> Command:
    """The command, if the agent's owner signed it and it is fresh; else PeerFault naming `sender`."""
    signed = codec.decode(raw, Signed, sender)
    if signed.signer != owner:
        raise PeerFault(sender, "sent a command for an agent that its owner did not sign")
    command = codec.decode(signed.verify(DOMAIN, sender), Command, sender)
    if command.expires < wall:
        raise PeerFault(sender, f"sent a command for {command.agent} that has expired")
    return command


class Request(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="request"):
    number: int
    origin: str  # host that waits for the response
    agent: str
    command: bytes


class Response(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="response"):
    number: int
    error: dict[str, Any] | None  # see agentplatform.faults
    outcome: dict[str, Any]


class _Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    data: bytes


class _Large(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="response"):
    """A response that brings much of what an agent keeps, and nothing else: as plain data of any kind so many bytes
    may take 70 times their size, and this host a second."""

    number: int
    error: None
    outcome: _Kept


_PAPER: Any = Request | Response
Perform = Callable[[str, bytes, str], Awaitable[dict[str, Any]]]  # (agent, command, sender) -> outcome


class Commands:
    """One host's side: asks others, performs what others ask."""

    def __init__(
        self, host: str, whereabouts: Whereabouts, send: Callable[[str, bytes], bool], perform: Perform
    ) -> None:
        """`send(host, message)` says whether it left."""
        self._host, self._whereabouts, self._send, self._perform = host, whereabouts, send, perform
        self._waiting: dict[int, asyncio.Future[Response]] = {}
        self._performing: dict[tuple[str, int], asyncio.Task[None]] = {}  # requests
        self._done: dict[bytes, asyncio.Future[dict[str, Any]]] = {}  # outcomes, by digest of the command

    async def ask(self, agent: str, command: bytes, patience: float) -> dict[str, Any]:
        """Has the command performed wherever the agent is. Raises the reason, or Unavailable in the end: its kind
        OutcomeUnknown when a host may have it."""
        order, number = read_command(command), secrets.randbits(62)
        verb, goal = order.verb, order.host
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        request = codec.encode(Request(number, self._host, agent, command))
        asked, before = "", None  # the last host that may have it; the agent's host a round ago
        try:
            async with asyncio.timeout(patience):
                while not future.done():
                    host = self._whereabouts.host_of(agent)
                    if asked and host == goal != before:
                        pass  # by this command, it may be: whom we asked knows more of that, and says it within a round
                    elif host == "":
                        raise Misuse(f"{agent} was disposed of")
                    elif host == self._host:
                        asked = host
                        return await self._perform_once(agent, command, self._host)
                    elif host and self._send(host, request):
                        asked = host
                    before = host
                    await asyncio.wait([future], timeout=RESEND_EVERY)
        except TimeoutError:
            if asked:
                raise OutcomeUnknown(
                    f"{verb} {agent} was not done within {patience:g} s, but {asked} has it and may do it yet; "
                    f"look at: agentplatform {shown_by(verb, agent)}"
                ) from None
            host = self._whereabouts.host_of(agent)
            where = f"it was last heard of on {host}" if host else "no host that is linked knows where it is"
            raise Unavailable(
                f"{verb} {agent} was asked of nobody within {patience:g} s; {where}. Look at: agentplatform hosts",
                retry_after=patience,
            ) from None
        finally:
            del self._waiting[number]
        response = future.result()
        if response.error is not None:
            raise as_error(response.error)
        return response.outcome

    def receive(self, host: str, raw: bytes) -> None:
        """From another host. Raises PeerFault for what is neither request nor response."""
        paper: Request | Response
        if len(raw) > MAX_PLAIN_BYTES:
            large = codec.decode(raw, _Large, host)
            paper = Response(large.number, None, {"data": large.outcome.data})
        else:
            paper = codec.decode(raw, _PAPER, host)
        if isinstance(paper, Response):
            future = self._waiting.get(paper.number)
            if future is not None and not future.done():
                future.set_result(paper)
        elif (host, paper.number) not in self._performing:  # else it was sent again while it is performed
            if sum(asked_by == host for asked_by, _ in self._performing) >= MAX_AT_ONCE:
                return  # whoever repeats one long command under new numbers costs a task for each
            task = asyncio.ensure_future(self._answer(host, paper))
            self._performing[host, paper.number] = task
            task.add_done_callback(lambda _: self._performing.pop((host, paper.number)))

    async def _answer(self, host: str, request: Request) -> None:
        if self._whereabouts.host_of(request.agent) not in (self._host, ""):
            return  # it left: the origin hears of that, and asks there
        try:
            response = Response(request.number, None, await self._perform_once(request.agent, request.command, host))
        except PlatformError as error:
            response = Response(request.number, as_data(error), {})
        self._send(host, codec.encode(response))

    async def _perform_once(self, agent: str, command: bytes, sender: str) -> dict[str, Any]:
        """What failed may be tried again, and so may looking at much data, which changes nothing."""
        digest = codec.digest(DOMAIN, command)
        if (done := self._done.get(digest)) is None:
            if len(self._done) >= MAX_REMEMBERED:
                raise Unavailable(f"{self._host} performed {len(self._done)} commands within a minute", retry_after=1.0)
            done = self._done[digest] = asyncio.ensure_future(self._perform(agent, command, sender))
            done.add_done_callback(lambda each: self._remember(digest, each))
        return await asyncio.shield(done)

    def _remember(self, digest: bytes, done: "asyncio.Future[dict[str, Any]]") -> None:
        if done.cancelled() or done.exception() is not None or len(done.result().get("data", b"")) > MAX_KEPT_BYTES:
            del self._done[digest]
        else:
            asyncio.get_running_loop().call_later(LIFE_MS / 1000, self._done.pop, digest, None)
