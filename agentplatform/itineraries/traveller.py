"""An agent that follows an itinerary.

Each step is a message from the agent to itself, by a timer that is part of its state: what `on_stop` changed, what it
sent, and how far the itinerary is are kept as one. After a crash the agent goes on where it was; a stop counts once.
"""

import inspect
import traceback
from typing import Any

from agentplatform.agent import Agent
from agentplatform.correspondence import Message
from agentplatform.handlers import handles
from agentplatform.itineraries import meeting
from agentplatform.itineraries.meeting import Gather, Late, Meeting, Present
from agentplatform.itineraries.route import Done, Failed, Go, Over, Ready, Route, Wait, Where, Work, host_of
from agentplatform.messages import Arrival
from ledger.errors import Misuse, PlatformError

STEP = "itinerary: step"
PRESENT = "itinerary: present"


class Traveller(Agent):
    """Override `on_stop`, and `on_end` where you need it.

    A subclass that overrides `on_arrival`, `on_dispatching`, `on_move_failed`, `on_activation`, `on_clone` or
    `handle_message` calls that of this class too. Others may dispatch the agent meanwhile: from there it goes on to
    where it wanted to be. A clone follows nothing.
    """

    itinerary: Route | None = None
    """What it follows, or followed last: `visits` has what became of each stop. A value; keep what you like of it."""

    __following = False
    __turn: int | None = None  # the timer of the next step
    __bound = ""  # where the last attempt to move went

    @property
    def following(self) -> bool:
        """Whether the itinerary is under way."""
        return self.__following

    def follow(self, itinerary: Route) -> None:
        """From now on the agent goes this way; the one before is forgotten. From any hook or handler."""
        if not isinstance(itinerary, Route):
            raise Misuse(
                f"a traveller follows an itinerary, such as Sequence(('east', 'south')), not {itinerary!r:.60}"
            )
        self.__leave_meeting()
        self.itinerary, self.__following = itinerary, True
        self.__wake(0.0)

    def on_stop(self) -> Any:
        """The agent is where its itinerary wants it. What this returns is the value of the visit; an exception is its
        error, and the agent goes on. It may be `async`; messages wait until it has returned."""

    def on_end(self) -> Any:
        """The itinerary is over: look at `self.itinerary.visits`, or follow another."""

    # Steps

    @handles(STEP)
    async def __take_step(self, message: Message) -> None:
        if message.sender != self.id:
            raise Misuse(f"only {self.name} itself takes the next step of its itinerary")
        action = self.__feed(Late(self.host) if message.body == "late" else Ready(self.host))
        if isinstance(action, Work):
            action = await self.__work(action)
        if isinstance(action, Go):
            await self.__go(action.where)
        elif isinstance(action, Gather):
            self.__gather(action)
        elif isinstance(action, Over):
            self.__leave_meeting()
            self.__following = False
            await _awaited(self.on_end())
        elif action is not None:
            self.__do_soon(action)

    async def __work(self, work: Work) -> meeting.Action | None:
        """What is next after it; None when the work itself has given the agent another itinerary."""
        itinerary, value, error, enough = self.itinerary, None, "", False
        try:
            value = await _awaited(self.__method(work.task)())
            enough = bool(work.until and await _awaited(self.__method(work.until)()))
        except Exception as failure:
            traceback.print_exc()
            error = str(failure) if isinstance(failure, PlatformError) else f"{type(failure).__name__}: {failure}"
        if self.itinerary is not itinerary:
            return None
        return self.__feed(Done(self.host, value, error, enough))

    def __method(self, name: str) -> Any:
        """Only what the agent's own class has: an itinerary that came from elsewhere must not end it, say."""
        method = getattr(self, name, None)
        given = hasattr(Traveller, name) and name != "on_stop"
        if given or name.startswith("_") or not callable(method):
            raise Misuse(f"{type(self).__name__} has no method {name!r} for its itinerary")
        return method

    async def __go(self, where: Where) -> None:
        self.__bound = ""
        try:
            self.dispatch(where)
        except Misuse as refusal:
            await _awaited(self.on_move_failed(str(refusal)))

    def __feed(self, event: meeting.Event) -> meeting.Action | None:
        if not self.__following or self.itinerary is None:
            return None
        self.itinerary, action = self.itinerary.step(event)  # type: ignore[arg-type]
        return action

    def __do_soon(self, action: meeting.Action | None) -> None:
        self.__wake(action.seconds if isinstance(action, Wait) else 0.0)

    def __wake(self, seconds: float, how: str = "") -> None:
        """There is one next step: what was to be it is not any more."""
        if self.__turn is not None:
            self.cancel(self.__turn)
        self.__turn = self.after(seconds, STEP, how)

    # Moves

    def on_arrival(self, arrival: Arrival) -> Any:
        if self.__following:
            self.__wake(0.0)

    def on_dispatching(self, destination: str) -> Any:
        self.__bound = destination

    def on_move_failed(self, reason: str) -> Any:
        if not self.__following or self.itinerary is None:
            return
        if not self.itinerary.over and self.__bound in ("", self.itinerary.stop().host):  # not where others sent it
            self.__do_soon(self.__feed(Failed(self.host, reason)))
        else:
            self.__wake(0.0)

    def on_activation(self) -> Any:
        where = self.itinerary
        if self.__following and where is not None and (where.over or where.stop().host != self.host):
            self.__wake(0.0)  # its wish to go was forgotten; where it has a stop, a timer is set

    def on_clone(self) -> Any:
        self.__following = False  # the way is the original's

    # Meetings

    def __gather(self, gather: Gather) -> None:
        self.subscribe(gather.topic)
        self.multicast(gather.topic, PRESENT, {"topic": gather.topic, "asks": True})
        if isinstance(self.__feed(Present(self.host, self.id)), Work):
            self.__wake(0.0)
        else:
            self.__wake(gather.seconds, "late")

    @handles(PRESENT)
    def __hear_of(self, topic: str, asks: bool, message: Message) -> None:
        where = self.itinerary
        if not self.__following or not isinstance(where, Meeting) or host_of(where.host) != self.host:
            return
        if where.topic != topic or not where.invites(message.sender):
            return
        if asks:
            self.send(message.sender, PRESENT, {"topic": topic, "asks": False})
        if isinstance(self.__feed(Present(self.host, message.sender)), Work):
            self.__wake(0.0)

    def __leave_meeting(self) -> None:
        if self.__following and isinstance(self.itinerary, Meeting):
            self.unsubscribe(self.itinerary.topic)


async def _awaited(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
