"""The caller's side: `connect()` gives a Host, whose agents are AgentProxy objects."""

import os
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import Pyro5.api
import Pyro5.errors

from agentplatform.agenda import MAX_SECONDS, is_time
from agentplatform.agent import Agent
from agentplatform.commands import LIFE_MS, Command, Verb, sign
from agentplatform.custody.residences import consent
from agentplatform.dataorders import DataOrder
from agentplatform.faults import as_error
from agentplatform.frontdoor.owned import OwnedData
from agentplatform.frontdoor.server import MAX_CALL_BYTES, OBJECT, undone
from agentplatform.kinds import Found
from agentplatform.messages import PLAIN_DATA, Custody
from agentplatform.parcel.code import bundle_of
from agentplatform.parcel.manifest import MAX_NAME, NAME, agent_id, code_digest, give_birth
from agentplatform.settings import Home
from agentplatform.ticket import Ticket
from ledger import codec, keyfile
from ledger.contracts.residence import MAX_HOLDERS
from ledger.errors import Misuse, Unavailable
from ledger.identity import Identity

PATIENCE = 30.0  # seconds
HELLO_PATIENCE = 5.0  # seconds: a host that is stopped, or hangs, does not keep a caller from the others
CREATE_PATIENCE = 150.0  # seconds: an agent may train a model in on_creation; its host gives up after 120
MAX_MOVES = 5  # of an agent, while its owner signs for the host that it is on
MAX_ARGUMENT_BYTES = MAX_CALL_BYTES - (64 << 10)  # what else is in a call takes less
_MARGIN = 5.0  # seconds more for the front door, so that the daemon's own, better reason comes first


def default_root() -> Path:
    """Where this user's hosts live: $AGENTPLATFORM_ROOT, or ~/.agentplatform."""
    return Path(os.environ.get("AGENTPLATFORM_ROOT") or Path.home() / ".agentplatform")


def homes(root: Path) -> dict[str, Home]:
    """The folders of the hosts that were founded under `root`, by name."""
    return {path.parent.name: Home(path.parent) for path in sorted(root.glob("hosts/*/host.toml"))}


def connect(host: str | None = None, *, root: Path | str | None = None) -> "Host":
    """A host of this machine that is running: the one named, or the first that answers.

    Raises Misuse for a name that is not there, Unavailable when it does not run.
    """
    root = Path(root) if root is not None else default_root()
    known = homes(root)
    if not known:
        raise Misuse(f"no host was founded under {root}; make some with: agentplatform found")
    if host is not None and host not in known:
        raise Misuse(f"there is no host {host!r} under {root}; there are: {', '.join(known)}")
    candidates = [known[host]] if host else list(known.values())
    for home in candidates:
        try:
            return Host(home, root)
        except Unavailable:
            continue
    if host:
        raise Unavailable(f"{host} is not running; start it with: agentplatform start {host}")
    raise Unavailable(f"none of {', '.join(known)} is running; start them with: agentplatform start")


class Host:
    """A running host. Safe to use from several threads."""

    def __init__(self, home: Home, root: Path) -> None:
        self.home, self._root = home, root
        self._threads = threading.local()
        self.client = f"client-{secrets.token_hex(8)}"  # letters are numbered for each client
        hello = self.call("hello", patience=HELLO_PATIENCE)
        self.name: str = hello["host"]
        self.chain = bytes.fromhex(hello["chain"])

    def call(self, verb: str, *, patience: float = PATIENCE, **arguments: Any) -> Any:
        """One verb of the daemon (see agentplatform.desk), with plain data. Raises the daemon's PlatformError;
        Unavailable without an answer, its kind OutcomeUnknown when the verb may have been done."""
        patience = _seconds(patience)
        size = sum(len(each) for each in arguments.values() if isinstance(each, bytes))
        if size > MAX_ARGUMENT_BYTES:  # the daemon would hang up without a word
            raise Misuse(f"{verb!r:.60} was not asked with {size} bytes; at most {MAX_ARGUMENT_BYTES} go into one call")
        sent = False
        try:
            proxy = self._proxy()
            proxy._pyroTimeout = patience + _MARGIN  # a daemon that hangs does not hang its callers
            proxy._pyroBind()
            sent = True
            reply = proxy.call(verb, arguments, patience)
        except (Pyro5.errors.SerializeError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise Misuse(f"{verb!r:.60} was not asked: its arguments must be plain data: {error}") from None
        except (Pyro5.errors.CommunicationError, Pyro5.errors.SecurityError, OSError) as error:
            self._threads.proxy = None
            silent = f"{self.home.folder.name} does not answer: {error}. Is it running?"
            raise (undone(verb, silent) if sent else Unavailable(silent)) from None
        if "error" in reply:
            raise as_error(reply)
        return reply["value"]

    def create(
        self,
        agent: type[Agent],
        name: str | None = None,
        init: Any = None,
        *,
        custody: Custody | None = None,
        patience: float = CREATE_PATIENCE,
    ) -> "AgentProxy":
        """Starts an agent of this class here. `init` is plain data for `on_creation`; `custody` takes the place of the
        class's, `name` that which is made from the class's.

        Raises Misuse with the reason; Unavailable, its kind OutcomeUnknown after `patience` seconds: then it is called
        off, and `agentplatform agents` shows whether it was born before.
        """
        if not (isinstance(agent, type) and issubclass(agent, Agent)):
            raise Misuse(f"an agent is created from a subclass of Agent; {agent!r:.60} is none")
        bundle = bundle_of(agent)
        label = _name_of(agent) if name is None else name
        owner, kind, salt = self.owner(), agent.custody if custody is None else custody, os.urandom(16)
        _check_class(agent, kind)
        about = code_digest(bundle.raw), bundle.class_name, agent.light, kind, agent.checkpoint != "none"
        birth = give_birth(label, owner, salt, *about, copies=agent.copies, kind=agent.kind_of(init))
        consents = {}
        if kind == "held":
            consents["consent"] = consent(self.chain, owner, agent_id(label, owner.public, salt), self.name)
        created = self.call("create", patience=patience, birth=birth, code=bundle.raw, init=plain(init), **consents)
        return AgentProxy(self, created["agent"])

    def agent(self, name: str) -> "AgentProxy":
        """An agent that lives anywhere in the consortium, by id, name, or the beginning of its id."""
        return AgentProxy(self, self.call("resolve", agent=name)["agent"])

    def find(self, service: str, version: str | None = None, *, owner: str | None = None) -> list[Found]:
        """As Agent.find, from this host's directory: `host.agent(found[0].agent)` talks to the nearest."""
        rows = self.call("services", service=service, version=version, owner=owner)
        return msgspec.convert(rows, list[Found])

    def owner(self) -> Identity:
        """The key that owns what is created here; drawn at the first use."""
        return keyfile.load_or_create(self._root / "owner.key")

    def _proxy(self) -> Any:
        """This thread's connection; a new one when the daemon was started again, which draws another token."""
        try:
            token = self.home.token.read_text()
        except OSError:
            name = self.home.folder.name
            raise Unavailable(f"{name} is not running; start it with: agentplatform start {name}") from None
        proxy = getattr(self._threads, "proxy", None)
        if proxy is None or proxy._pyroHandshake != token:
            proxy = self._threads.proxy = Pyro5.api.Proxy(f"PYRO:{OBJECT}@./u:{self.home.socket}")
            proxy._pyroSerializer = "msgpack"
            proxy._pyroHandshake = token
        return proxy


class AgentProxy:
    """An agent, wherever it is: the proxy stays valid when it moves."""

    def __init__(self, host: Host, agent: str) -> None:
        self._host, self.id = host, agent

    def call(self, kind: str, body: Any = None, *, patience: float = PATIENCE) -> Any:
        """Sends a message and waits for the answer. `kind` is a text, `body` plain data.

        Raises Misuse with the agent's own error, Unavailable when it says to come again later (a busy service), or
        after `patience` seconds.
        """
        question = {"agent": self.id, "kind": kind, "body": plain(body), "client": self._host.client}
        patience = _seconds(patience)
        answer = self._host.call("ask", patience=patience + _MARGIN, waiting=patience, **question)
        return codec.decode(answer["body"], object, self.id)

    def send(self, kind: str, body: Any = None) -> None:
        """Sends a message and does not wait."""
        self._host.call("tell", agent=self.id, kind=kind, body=plain(body), client=self._host.client)

    def dispatch(self, where: str | Ticket, *, patience: float = PATIENCE) -> dict[str, Any]:
        """Moves the agent to a host, by its name or on the terms of a Ticket, and waits until it runs there.

        Returns the hop (empty: it was there). Raises Misuse or Unavailable with the reason when it stayed. A Ticket's
        retries end with `patience`, in seconds.
        """
        ticket = Ticket.to(where)
        return self._order("dispatch", patience, host=ticket.host, terms=ticket if ticket.terms else None)

    def retract(self, *, patience: float = PATIENCE) -> dict[str, Any]:
        """Calls the agent back to the host of this connection, as `dispatch` does."""
        return self._order("retract", patience, host=self._host.name)

    def clone(self, *, custody: Literal["local"] | None = None, patience: float = PATIENCE) -> "AgentProxy":
        """Another agent like it, on the same host. It begins in the custody that its original is in, for which held
        custody takes the signature of its owner: the key of this connection; or in local custody, if that is said.

        Raises Misuse with the reason when there is none."""
        if custody not in (None, "local"):
            raise Misuse(f"the custody of a clone is its original's, or local, not {custody!r:.60}")
        if custody == "local":
            return AgentProxy(self._host, self._order("clone", patience)["clone"])
        owner, salt = self._host.owner(), os.urandom(16)
        clone = agent_id(self.id.rpartition("-")[0], owner.public, salt)

        def order(host: str, _: int) -> dict[str, Any]:
            return self._order("clone", patience, salt=salt, consent=consent(self._host.chain, owner, clone, host))

        return AgentProxy(self._host, self._with_consent(order)["clone"])

    def deactivate(self, *, for_: float | None = None, patience: float = PATIENCE) -> None:
        """Sets the agent aside, on the disk of its host alone: until `for_` seconds have passed, a message comes, or it
        is activated."""
        self._order("deactivate", patience, seconds=for_)

    def activate(self, *, patience: float = PATIENCE) -> None:
        """Wakes a deactivated agent, and opens one again that is stranded. Does nothing for one that runs."""
        self._order("activate", patience)

    def snapshot(self, *, patience: float = PATIENCE) -> None:
        """Has a checkpoint written, and waits until it is durable."""
        self._order("snapshot", patience)

    @property
    def data(self) -> OwnedData:
        """What the agent keeps (`Agent.data`), to look at and to restore."""

        def order(each: DataOrder) -> Any:
            return codec.decode(self._order("data", PATIENCE, data=each)["data"], object, self.id)

        return OwnedData(order)

    def change_custody(self, custody: Custody, *, patience: float = PATIENCE) -> None:
        """Puts the agent into the other kind of custody, where it is, and waits until it goes on in that; for one that
        is in it already, it does nothing. Held custody takes the signature of its owner: the key of this connection.

        Raises Misuse for what cannot be, Unavailable when it goes on as it was, or after `patience` seconds: then
        `agentplatform why` says what it waits for."""
        _check_custody(custody)
        if custody == "local":
            self._order("custody", patience, custody=custody)
        else:
            self._with_consent(
                lambda *at: self._order("custody", patience, custody=custody, consent=self._consent(*at))
            )

    def consent(self) -> bytes:
        """The owner's signature that the agent be in held custody from its next epoch on, on the host that it is on;
        for `Agent.change_custody`."""
        return self._consent(*self._place())

    def _place(self) -> tuple[str, int]:
        """Its host and epoch, as far as is known."""
        found = self._host.call("resolve", agent=self.id)
        return str(found["host"]), int(found["epoch"])

    def _with_consent(self, act: Callable[[str, int], dict[str, Any]]) -> dict[str, Any]:
        """`act(host, epoch)` has the owner's signature for the agent there; again when it has moved meanwhile."""
        for _ in range(MAX_MOVES):
            place = self._place()
            try:
                return act(*place)
            except Misuse:
                if self._place() == place:
                    raise
        raise Unavailable(f"{self.id} moved {MAX_MOVES} times while its owner signed for the host that it is on")

    def _consent(self, host: str, epoch: int) -> bytes:
        return consent(self._host.chain, self._host.owner(), self.id, host, epoch + 1)

    def dispose(self, *, patience: float = PATIENCE) -> None:
        """Ends the agent, after `on_disposing`."""
        self._order("dispose", patience)

    def _order(
        self,
        verb: Verb,
        patience: float,
        host: str = "",
        terms: Ticket | None = None,
        seconds: float | None = None,
        custody: Custody | None = None,
        consent: bytes = b"",
        salt: bytes = b"",
        data: DataOrder | None = None,
    ) -> dict[str, Any]:
        """The agent may live anywhere; elsewhere only its owner's signature counts."""
        expires = int(time.time() * 1000) + LIFE_MS
        patience = _seconds(patience)
        if seconds is not None:
            seconds = _seconds(seconds)
        try:
            nonce = secrets.token_bytes(8)
            command = Command(self.id, verb, host, expires, terms, seconds, nonce, custody, consent, salt, data)
        except ValueError as error:
            raise Misuse(str(error)) from None
        order = {"agent": self.id, "command": sign(command, self._host.owner())}
        return dict(self._host.call("order", patience=patience + _MARGIN, waiting=patience, **order))

    @property
    def host(self) -> str:
        """Where the agent is now."""
        return str(self._host.call("resolve", agent=self.id)["host"])

    def __repr__(self) -> str:
        return f"AgentProxy({self.id})"


def plain(value: Any) -> bytes:
    """`value` as MessagePack. Raises Misuse for what is not plain data."""
    try:
        return codec.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Misuse(f"messages are {PLAIN_DATA}: {error}") from None


def _name_of(agent: type[Agent]) -> str:
    """What an agent is called if nobody says how. Raises Misuse for a class whose name makes no name."""
    name = agent.__name__.lower().strip("_").replace("_", "-")[:MAX_NAME]
    if NAME.fullmatch(name) is None:
        raise Misuse(f"{agent.__name__} makes no name for an agent; give one: create({agent.__name__}, 'name')")
    return name


def _check_class(agent: type[Agent], custody: Any) -> None:
    """What stands in a birth certificate. Raises Misuse."""
    _check_custody(custody)
    if not isinstance(agent.light, bool):
        raise Misuse(f"{agent.__name__}.light is True or False, not {agent.light!r:.60}")
    if type(agent.copies) is not int or not 0 <= agent.copies <= MAX_HOLDERS:
        raise Misuse(f"{agent.__name__}.copies is a number of hosts from 0 to {MAX_HOLDERS}, not {agent.copies!r:.60}")


def _check_custody(value: Any) -> None:
    if value not in get_args(Custody):
        raise Misuse(f"custody is one of {', '.join(get_args(Custody))}, not {value!r:.60}")


def _seconds(value: Any) -> float:
    """A time that a caller gave. Raises Misuse for what is none."""
    if not is_time(value):
        raise Misuse(f"a time is a number of seconds above 0, at most {MAX_SECONDS:.0f}, not {value!r:.60}")
    return float(value)
