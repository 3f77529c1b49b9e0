"""What is done with an agent at a message boundary: it is captured to move, kept while it sleeps, cloned."""

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentplatform.dataorders import CHANGES, MAX_ANSWER_BYTES, DataOrder, perform
from agentplatform.lifecycle import HOOKS, Event, State
from agentplatform.messages import Move
from agentplatform.parcel import state as states
from agentplatform.parcel.freight import Stowed
from agentplatform.runners.base import Upcalls
from agentplatform.runners.body import Body, is_own_cancellation, words
from agentplatform.runners.errands import Errand
from agentplatform.runners.place import plain
from agentplatform.runners.stowage import Stowage
from agentplatform.runners.wishes import FREEZING, MAX_REASON, Clone, Order, OtherCustody, Sleep, Vetoed, Wish
from agentplatform.ticket import Ticket
from ledger.errors import Misuse, Unavailable


class Captures(Body):
    """`patience`, in seconds, bounds each hook here, and with it the end of `run`."""

    def __init__(
        self, agent: str, name: str, upcalls: Upcalls, patience: float, stowage: Stowage, readable: Sequence[Path]
    ) -> None:
        super().__init__(agent, name, upcalls, stowage, readable)
        self._patience, self._stowage = patience, stowage
        self._frozen_for = Event.DISPATCH
        self._orders: list[Order] = []  # what others want of the agent; an empty deque takes 600 bytes

    async def _order(self, event: Event | None, move: Move | None = None, data: DataOrder | None = None) -> Any:
        """Waits until the agent has done it. Raises Unavailable when it does not come to it in time."""
        if self.state not in (State.RUNNING, State.CLONING):
            raise Misuse(f"{self.id} is {self.state} and on its way already, or not yet here")
        if event in FREEZING and any(each.event in FREEZING for each in self._orders):
            raise Misuse(f"{self.id} is about to go or to be deactivated already")
        order = Order(event, move, asyncio.get_running_loop().create_future(), data)
        self._orders.append(order)
        self._wake_up()
        await asyncio.wait([order.done], timeout=self._patience)
        if order in self._orders:
            self._orders.remove(order)
            raise Unavailable(f"{self.id} {self._busy()}; it did not {order.what}", retry_after=self._patience)
        return await order.done  # once it freezes, `_freeze` keeps the time

    def _busy(self) -> str:
        """Why it did not come to an order."""
        if self._place.wishes.held:
            return f"is in a critical section (`immovable`) since {self._patience:g} s or longer"
        if self._place.wishes.clones:
            return f"has waited for its clone for {self._patience:g} s"
        return f"was busy with one message for {self._patience:g} s"

    async def _do(self, wish: Wish) -> None:
        """What the agent asked for itself."""
        match wish:
            case Ticket(terms=True):
                self._upcalls.books(self.id, wish)  # the host asks for it when the terms allow
            case Ticket(host):
                try:
                    state = await self._freeze(Event.DISPATCH, host)
                    assert state is not None
                except Misuse as error:
                    await self._stay(str(error))
                else:
                    self._upcalls.wants_to_go(self.id, host, state)
            case Sleep(seconds):
                try:
                    await self._freeze(Event.DEACTIVATE)
                except Misuse as error:
                    self._upcalls.printed(self.id, "note", str(error))
                    await self._start_run()
                else:
                    self._upcalls.wants_to_sleep(self.id, sooner(seconds, self._place.errands.remaining()))
            case Clone():
                try:
                    await self._capture_clone()
                except Misuse as error:
                    self._upcalls.printed(self.id, "note", str(error))
                else:
                    self._place.wishes.clones += 1
                    self._upcalls.wants_clone(self.id)
            case OtherCustody(custody, consent):
                self._upcalls.wants_custody(self.id, custody, consent)  # the host asks for it when the ledger may be

    def _next_order(self) -> Order | None:
        """Who is in a critical section does not go; what else is asked of it, it does."""
        for order in self._orders:
            if not (self._place.wishes.stays and order.event in FREEZING):
                self._orders.remove(order)
                return order
        return None

    async def _obey(self, order: Order) -> None:
        result: Stowed | None = None
        try:
            match order.event, order.move:
                case None, _:
                    if order.data is not None:
                        result = plain(perform(self._place.data, order.data), "what it keeps", MAX_ANSWER_BYTES)
                    if order.data is None or order.data.act in CHANGES:
                        await self._keep()
                case Event.CLONE, _:
                    await self._capture_clone()
                case event, None:
                    result = await self._freeze(event)
                case event, move:
                    if move.by != "itself":
                        await self._ask_leave(move)
                    result = await self._freeze(event, move.destination)
        except Misuse as error:
            order.done.set_exception(error)
            if order.move is not None and order.move.by != "itself" and not isinstance(error, Vetoed):
                await self._stay(str(error))
            else:
                await self._start_run()
        except asyncio.CancelledError:
            order.done.set_exception(Misuse(f"{self.id} ended; it did not {order.what}"))
            raise
        else:
            order.done.set_result(result)

    def _call_off(self) -> None:
        """Nothing more is done here: who still waits hears so."""
        while self._orders:
            order = self._orders.pop(0)
            order.done.set_exception(Misuse(f"{self.id} is {self.state} by now; it did not {order.what}"))

    async def _ask_leave(self, move: Move) -> None:
        """Raises Misuse when the agent does not want to go."""
        try:
            async with asyncio.timeout(self._patience):
                verdict = await self._hook("may_move", move)
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._print_traceback(error)
            verdict = f"its may_move failed: {words(error)}"
        if verdict is not None and verdict is not True:
            reason = verdict if isinstance(verdict, str) and verdict else "its may_move gave no reason"
            raise Vetoed(f"{self.id} does not go to {move.destination}: {reason}"[:MAX_REASON])

    async def _freeze(self, event: Event, *destination: str) -> Stowed | None:
        """At a message boundary. What is captured to go elsewhere is returned; what stays is kept as a checkpoint.

        Raises Misuse when the agent cannot leave; then it is running again, without `run`.
        """
        self._step(event)
        try:
            async with asyncio.timeout(self._patience) as deadline:
                await self._stop_run()
                await self._hook(HOOKS[event], *destination)
            state = None
            if destination:
                state = await self._capture()
            else:
                await self._keep()
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._step(Event.FAILED)
            self._place.errands.begin(self._place.host)
            self._print_traceback(error)
            late = f"`run` or `{HOOKS[event]}` did not end within {self._patience:g} s"
            reason = late if deadline.expired() else words(error)
            what = f"leave for {destination[0]}" if destination else "be deactivated"
            raise Misuse(f"{self.id} could not {what}: {reason}") from error
        self._step(Event.CAPTURED)
        self._frozen_for = event
        # The daemon has the deliveries, and the agenda what is due. Answers to questions come only once, so they stay.
        self._inbox = deque(item for item in self._inbox if isinstance(item, Errand) and item.answer is not None)
        self._place.leave()
        self._call_off()
        return state

    async def _capture(self) -> Stowed:
        self._checkpoints.let_out(self._place.calling)
        self._place.errands.leave()
        self._checkpoints.pieces.forget()  # the captured state takes the place of what the host has kept
        return await self._stowage.pack(self.id, states.parts(self._alive()))

    async def _keep(self) -> None:
        """As it is now, its host has it on the disk."""
        self._checkpoints.fall_due()
        await self._checkpoints.take(self._alive(), lambda: self._place.calling)

    async def _capture_clone(self) -> None:
        """`on_cloning`, and a checkpoint that the host makes the clone from. Raises Misuse; the agent goes on."""
        self._step(Event.CLONE)
        try:
            async with asyncio.timeout(self._patience) as deadline:
                await self._hook(HOOKS[Event.CLONE])
            await self._keep()
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._step(Event.FAILED)
            self._print_traceback(error)
            reason = f"on_cloning took longer than {self._patience:g} s" if deadline.expired() else words(error)
            raise Misuse(f"{self.id} was not cloned: {reason}") from error
        self._step(Event.CAPTURED)


def sooner(one: float | None, other: float | None) -> float | None:
    """Of two times; None: never."""
    return min((each for each in (one, other) if each is not None), default=None)
