"""A service that computes in batches, beside its messages.

    class Squares(BatchService):
        service, version = "squares", "1.0"

        @handles("square")
        def square(self, value: float, message: Message) -> Later:
            return self.submit(message, value)

        def compute(self, works: list[float]) -> list[float]:
            return [work * work for work in works]

While one batch is computed, in a thread, the requests that come are queued, and the next batch takes as many as there
are, up to `max_batch`: who comes alone does not wait for company. The queue is state: requests without an answer travel
with the agent, and are computed where it goes on.
"""

import asyncio
import traceback
from collections import deque
from itertools import islice
from time import monotonic
from typing import Any, ClassVar

from agentplatform.agent import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agentplatform.service_agent import ServiceAgent
from agents.serving.histogram import Histogram, told
from ledger.errors import PeerFault, PlatformError, Unavailable


class Request:
    """One request in the queue."""

    def __init__(self, kind: str, later: Later, work: Any, until: float | None) -> None:
        self.kind, self.later, self.work = kind, later, work
        self.since: float | None = monotonic()  # None: it came on another host, whose clock says nothing here
        self.until = until

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "since": None, "until": None}


class BatchService(ServiceAgent):
    """Subclasses take requests with `submit`, and answer them in `compute`."""

    light = False  # it computes: a worker of its own
    checkpoint = "hop"  # answers change nothing that a crash may not forget; `snapshot` where something does

    max_batch: ClassVar[int] = 8
    """Requests that are computed as one."""

    max_waiting: ClassVar[int] = 64
    """Requests without an answer; one more is refused with a time to come again."""

    def on_creation(self, init: Any) -> None:
        self.waiting: deque[Request] = deque()
        self.refused = 0
        self.latencies: dict[str, Histogram] = {}  # by kind of message: from its coming to its answer, on one host
        self.computing = Histogram()  # of whole batches

    def submit(self, message: Message, work: Any) -> Later:
        """Queues the work of a request; a handler returns what this returns. Raises Unavailable when the queue is
        full."""
        if len(self.waiting) >= self.max_waiting:
            self.refused += 1
            raise Unavailable(
                f"{self.name} has {len(self.waiting)} requests waiting, which is all that it takes: ask again later",
                retry_after=self._patience(),
            )
        assert message.later is not None
        self.waiting.append(Request(message.kind, message.later, work, message.until))
        if self._wake is not None:
            self._wake.set()
        return message.later

    def compute(self, works: list[Any]) -> list[Any]:
        """The answers to a batch, in order: plain data, or a PlatformError for one that cannot be answered.

        Runs in a thread, beside handlers: read what a handler may change once, as one value that is replaced and never
        changed. What it raises is the answer to all of the batch.
        """
        raise NotImplementedError

    @handles("metrics")
    def metrics(self) -> dict[str, Any]:
        """Plain data; the histograms are as `Histogram.as_data`, in milliseconds."""
        return {
            "waiting": len(self.waiting),
            "refused": self.refused,
            "latencies": told(self.latencies),
            "computing": self.computing.as_data(),
        }

    async def run(self) -> None:
        self._wake = asyncio.Event()
        while True:
            while not self.waiting:
                self._wake.clear()
                await self._wake.wait()
            await self._answer_some()

    async def _answer_some(self) -> None:
        """Requests stay in the queue until they are answered: a move in the midst of it takes them along."""
        batch = list(islice(self.waiting, self.max_batch))
        begin = monotonic()
        wanted = [request for request in batch if request.until is None or request.until > begin]
        answers = await asyncio.to_thread(self._computed, [request.work for request in wanted])
        end = monotonic()
        for request, answer in zip(wanted, answers, strict=True):
            if isinstance(answer, PlatformError):
                self.fail(request.later, answer)
            else:
                self.reply(request.later, answer)
            if request.since is not None:
                self.latencies.setdefault(request.kind, Histogram()).observe(end - request.since)
        self.computing.observe(end - begin)
        for _ in batch:
            self.waiting.popleft()

    def _computed(self, works: list[Any]) -> list[Any]:
        """Of requests that nobody waits for any more, none."""
        try:
            return self.compute(works) if works else []
        except Exception as error:
            traceback.print_exc()  # into the agent's log
            reason = error if isinstance(error, PlatformError) else PeerFault(self.name, f"failed: {error!r:.200}")
            return [reason] * len(works)

    def _patience(self) -> float:
        """Seconds until there is room again, by the batches so far."""
        batches = self.computing.count
        each = self.computing.sum_ms / batches / 1000 if batches else 0.1
        return max(0.01, each * len(self.waiting) / self.max_batch)

    _wake: asyncio.Event | None = None  # of `run`

    def __getstate__(self) -> Any:
        return {name: value for name, value in super().__getstate__().items() if name != "_wake"}
