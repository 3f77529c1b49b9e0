"""The base class of all agents. Start here.

    from agentplatform import Agent

    class Counter(Agent):
        def on_creation(self, init):
            self.value = init or 0

        def handle_message(self, message):
            if message.kind == "add":
                self.value += message.body
            return self.value

        def on_arrival(self, arrival):
            print(f"counting on at {arrival.host}")

An agent is an ordinary object. Its attributes are its state: they travel with it when it moves. Its hooks are
called one at a time; each may be a plain function or `async`. A hook that takes long should be async and await
something now and then, since light agents share one thread.
"""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

from agentplatform import handlers
from agentplatform.agenda import Agenda
from agentplatform.correspondence import Correspondence, Message, Post
from agentplatform.data import Data
from agentplatform.kinds import Found, Kind, Query, query
from agentplatform.messages import Arrival, Move
from agentplatform.ticket import Ticket
from ledger.errors import Misuse
from services.rms.resources import Needs


class Place(Post, Protocol):
    """What an agent's host offers it. The platform fills it in; agents use the methods of `Agent` instead."""

    @property
    def name(self) -> str: ...

    @property
    def host(self) -> str: ...

    @property
    def epoch(self) -> int: ...

    @property
    def data(self) -> Data: ...

    async def find(self, query: Query) -> list[Found]: ...

    def dispatch(self, where: str | Ticket) -> None: ...

    def clone(self) -> None: ...

    def deactivate(self, seconds: float | None) -> None: ...

    def snapshot(self) -> None: ...

    def require(self, needs: Needs, task_weight: float) -> None: ...

    def change_custody(self, custody: Literal["local", "held"], consent: bytes) -> None: ...

    def immovable(self) -> AbstractContextManager[None]: ...

    def shared_file(self, name: str) -> Path: ...

    def dispose(self) -> None: ...


class Agent(Correspondence):
    """Something that lives on a host, answers messages, and can move to another host with its state.

    Override the hooks that you need. Keep in attributes what must survive a move: everything that pickle can
    handle travels, with NumPy arrays among the cheapest. What cannot travel (a lock, a socket, an open file)
    is best left out in `__getstate__` and made in `on_creation` and `on_arrival`, or in `__setstate__`; start
    these from the ones of this class. An agent without checkpoints may also drop it in `on_dispatching`.
    """

    # Slots stay out of __dict__: the place is never captured, the others beside the attributes (parcel.state). What is
    # private here has names that no agent gives to attributes of its own.
    __slots__ = ("__dict__", "__weakref__", "_mae_agenda", "_mae_data", "_mae_place")
    _mae_place: Place | None
    _mae_agenda: Agenda
    _mae_data: Data
    _mae_handlers: ClassVar[dict[str, str]] = {}  # kind -> method

    light: ClassVar[bool] = False
    """True: may share a worker process with other light agents of the same owner and the same code. They start
    faster and cost less memory; one that blocks or crashes takes the others with it."""

    custody: ClassVar[Literal["local", "held"]] = "local"
    """Who agrees on where the agent runs, from its creation on (`change_custody`, for one that lives).

    "local": the two hosts of each move, by their logs. "held": the ledger, before the new host runs it; the agent then
    runs only while its host has a lease from a quorum of the members, and stands still without one."""

    copies: ClassVar[int] = 0
    """In held custody: how many other hosts have the agent's checkpoint, at most 8; with 0 as many as its host's
    settings say (1, as a rule). What it does leaves when all have it, and it goes on there if its own host is lost."""

    checkpoint: ClassVar[float | str] = "message"
    """How much of the agent's work outlives a crash of its host, after which it goes on from its last checkpoint.

    "message": each message is handled exactly once. The state, the answer and what was sent are written as one when the
    handler has returned, and leave only then. So the state must be such as can travel at any time, not after
    `on_dispatching` alone: leave what cannot out of `__getstate__`. A `call` in a handler leaves at once; when
    the handler must run again, the same call gets the same answer.

    A number of seconds: a checkpoint so long after the first act since the last one. "hop": the state in which it came
    (or was created). What it did since then is forgotten, also when it answered for it, and may be done again.
    Answers leave at once, and letters when they are written. "none": as "hop", and its letters are not written either:
    those that nobody has answered are lost; nor does it outlive the end of its worker, when that ends alone.

    `snapshot`, `clone` and `deactivate` write a checkpoint whatever stands here."""

    needs: ClassVar[Needs] = Needs()
    """What its agents need where they run, from their creation on (`require`, for one that lives). No host takes them
    that is short of `least`, or has not all of `has`; decisions look for what it `prefers`.

        needs = Needs(least=Minima(memory=2 << 30), prefers=Minima(cpu_cores=2.0), has=("cv2",))"""

    task_weight: ClassVar[float] = 1.0
    """How much work one is beside others, above zero: Falcon's task weight (docs/decisions.md)."""

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls._mae_handlers = handlers.found_in(cls)

    @classmethod
    def kind_of(cls, init: Any) -> Kind | None:
        """What stands in the birth certificate of one that is created with `init` (agentplatform.kinds): None for
        most, else see ServiceAgent and UserAgent. Raises Misuse."""
        return None

    # Hooks

    def on_creation(self, init: Any) -> Any:
        """The first hook of an agent's life, called once. `init` is the plain data given to `create`.

        An exception here refuses the creation, and its text reaches who asked for it. What is sent here leaves when
        the creation has succeeded. An agent that keeps no checkpoints is created again when its host was restarted.
        """

    def run(self) -> Any:
        """What the agent does on its own, beside answering messages. Usually `async`, often with a loop.

        It starts after `on_creation`, and anew after each arrival, activation and failed move, each restart of its
        host, and on a clone. When the agent is about to move, or to be deactivated, it is cancelled
        (`asyncio.CancelledError` at its current `await`): keep progress in attributes. When it returns the agent lives
        on and answers messages. What it does between two `await`s, with what it sends there, is kept as one.
        """

    def handle_message(self, message: Message) -> Any:
        """Answers one message; what it returns is the answer (plain data). Messages come one at a time, in order.
        What it sends leaves when it has returned, together with the answer (see `checkpoint`).

        An exception becomes an error for the one who asked and a traceback in the agent's log; the agent lives on.
        Who does not override this marks methods with `@handles(kind)` (agentplatform.handlers).
        """
        return handlers.dispatch(self, self._mae_handlers, message)

    def on_dispatching(self, destination: str) -> Any:
        """The agent is about to leave for `destination`: the last hook here. An exception cancels the move."""

    def on_reverting(self, destination: str) -> Any:
        """The agent is called back to `destination` (`retract`): the last hook here. If it is not overridden it calls
        `on_dispatching`, which is not called beside it. An exception cancels the move."""
        return self.on_dispatching(destination)

    def may_move(self, event: Move) -> Any:
        """Whether the agent lets others move it: None or True to go, a text to refuse, which they are told.

        `event.by` says who wants it ("owner", "retraction": its owner calls it back, "decision": the EDS), `event.why`
        in which words, `event.destination` whereto. It is not asked for moves of its own wish, and never when its
        owner ends it. An exception refuses too.
        """

    def on_arrival(self, arrival: Arrival) -> Any:
        """The agent has moved: `arrival.host` and `arrival.source` are host names, `arrival.epoch` counts
        moves (and changes of custody).

        Also when its host was started again, or its worker ended: then `arrival.source` is None, and the state that of
        the last checkpoint.
        """

    def on_move_failed(self, reason: str) -> Any:
        """The agent asked to go, or was sent, and is still here. `reason` says why, for people to read."""

    def on_cloning(self) -> Any:
        """Another one is about to be made of this agent, which goes on. An exception cancels that."""

    def on_clone(self) -> Any:
        """The first hook of a clone's life, in place of `on_creation`: it has a copy of the attributes, an id of its
        own and epoch 0, on the same host. Mail that waits, calls under way and timers are not copied. If its host ends
        before it runs, `on_arrival` is called instead when that is up again."""

    def on_cloned(self, clone: str) -> Any:
        """On the original: `clone` is the id of the new agent, which runs. When the host ends just then, the original
        does not hear it."""

    def on_deactivating(self) -> Any:
        """The agent is about to be deactivated: the last hook for now. An exception cancels that."""

    def on_activation(self) -> Any:
        """The agent was deactivated, and goes on; `run` follows."""

    def on_disposing(self) -> Any:
        """The last hook of an agent's life: it ends when this returns."""

    # What an agent may ask

    @property
    def id(self) -> str:
        """The agent's id: its name and 16 hex digits. It never changes."""
        return self._mae_where().id

    @property
    def name(self) -> str:
        """The name that its owner gave it."""
        return self._mae_where().name

    @property
    def host(self) -> str:
        """The name of the host that it is on."""
        return self._mae_where().host

    @property
    def epoch(self) -> int:
        """The number of its changes of host, and of its custody. It only grows."""
        return self._mae_where().epoch

    @property
    def data(self) -> Data:
        """What the agent keeps by key, with snapshots (agentplatform.data, docs/data.md). It is a part of its state as
        the attributes are, but of many values only those are written and sent again that changed."""
        return self._mae_where().data

    async def find(self, service: str, version: str | None = None, *, owner: str | None = None) -> list[Found]:
        """The agents that offer a service, the nearest first: on this host, then by the measured round trip. `version`
        "1.2" is served by any 1.x from 1.2 on. It may be empty.

        Anyone may offer a service of any name: name an `owner` (hexadecimal, as in `Found.owner`) where that matters.
        Send to `found[0].agent`: an id stays valid when that moves. What comes back is news, not kept: asked again
        after a crash, it may differ. Raises Misuse for what is no service, version or owner.
        """
        return await self._mae_where().find(query(service, version, owner))

    def dispatch(self, where: str | Ticket) -> None:
        """Asks to go to a host, by its name or on the terms of a Ticket. Returns at once; the move begins when the
        present hook or handler returns, and the last wish counts.

        A running `run` is cancelled then. What follows is `on_dispatching` here, and either `on_arrival` there or
        `on_move_failed` here. While a Ticket's move is tried again the agent lives on; it hears of the end alone.
        """
        self._mae_where().dispatch(where)

    def clone(self) -> None:
        """Asks for another agent like this one, on this host. Returns at once; it is made when the present hook or
        handler returns. `on_cloning` and `on_cloned` follow here, before the agent goes anywhere, and `on_clone`
        there; a failure is a note in its log."""
        self._mae_where().clone()

    def require(self, needs: Needs, task_weight: float | None = None) -> None:
        """Says what it needs where it runs, and how much work it is (None: as its class says), from the next message
        boundary on, in place of all that was said before. It travels with the agent. A clone begins with what its class
        says. Raises Misuse for what nobody can need."""
        self._mae_where().require(needs, type(self).task_weight if task_weight is None else task_weight)

    def deactivate(self, *, for_: float | None = None) -> None:
        """Asks to be set aside: on the disk alone, also when its host is started again, until `for_` seconds have
        passed, a timer of its own is due, somebody activates it, or a message comes. Returns at once; it happens when
        the present hook or handler returns."""
        self._mae_where().deactivate(for_)

    def snapshot(self) -> None:
        """Asks for a checkpoint now, whatever `checkpoint` says. Returns at once; it is written when the present hook
        or handler returns, and what `reply` answered by then leaves together with it."""
        self._mae_where().snapshot()

    def change_custody(self, custody: Literal["local", "held"], consent: bytes = b"") -> None:
        """Asks to be in the other kind of custody from now on, on this host. Returns at once; it happens when the
        present hook or handler returns and the ledger has said so.

        To the agent it is like a restart of its host: `on_dispatching` with the host that it is on, and `on_arrival`
        without a source, at the next epoch; or `on_move_failed`. Held custody takes its owner's `consent`, which is for
        the host and epoch that the agent is at (`AgentProxy.consent`, sent to it in a message).
        """
        self._mae_where().change_custody(custody, consent)

    def immovable(self) -> AbstractContextManager[None]:
        """`with self.immovable():` is a critical section, such as an `await` in `run` that must not be cut short. Until
        it ends the agent is neither moved nor deactivated: its own wishes wait, others wait as long as their patience
        goes and then hear why. It does not keep its owner from ending it."""
        return self._mae_where().immovable()

    def shared_file(self, name: str) -> Path:
        """A file of the host that it is on, such as a model's weights: by its absolute path, or by a relative one in
        the first of the folders that its operator shares with agents (`[workers] readable` in host.toml). To be read
        alone. It does not travel, and may be missing elsewhere: keep the name, and ask again in `on_arrival`. Raises
        Misuse that names every place looked at."""
        return self._mae_where().shared_file(name)

    def dispose(self) -> None:
        """Asks to end. Returns at once; `on_disposing` is called when the present hook or handler returns."""
        self._mae_where().dispose()

    def __getstate__(self) -> Any:
        """What travels: a copy of the attributes."""
        return dict(self.__dict__)

    def __setstate__(self, state: Any) -> None:
        self.__dict__.update(state)

    def _mae_where(self) -> Place:
        place: Place | None = getattr(self, "_mae_place", None)
        if place is None:
            raise Misuse(
                f"this {type(self).__name__} lives on no host. Create it with connect().create({type(self).__name__}), "
                "or in a test with Inline().create(...)"
            )
        return place
