"""A service that computes in batches, beside its messages.

    class Squares(BatchService):
        service, version = "squares", "1.0"

        @handles("square")
        def square(self, value: float, message: Message) -> Later:
            return self.submit(message, value)

        def compute(self, works: list[float]) -> list[float]:
            return [work * work for work in works]

While one batch is computed, in a thread, the requests that come are queued, and the next batch takes as many as there
are, up to `max_batch`: who comes alone does not wait for company. A full batch is handed to the thread while it is at
the one before, any other before the answers to that are given: so the thread always has something to do. The queue is
state: requests without an answer travel with the agent, and are computed where it goes on.
"""

import asyncio
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from math import inf
from time import monotonic
from typing import Any, ClassVar

from agentplatform.agent import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agentplatform.service_agent import ServiceAgent
from agents.serving.histogram import Histogram, told
from agents.serving.memory import keep_freed
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable

MOMENT = 0.05  # seconds that an agent may be held up by one request


class Request:
    """One request in the queue."""

    def __init__(self, agent: str, message: Message, later: Later, work: Any, size: int, space: int) -> None:
        self.agent, self.kind, self.until = agent, message.kind, message.until
        self.later, self.work, self.size, self.space = later, work, size, space
        self.since: float | None = monotonic()  # None: it came on another host, whose clock says nothing here

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "since": None, "until": None}


class Batch:
    """Requests that are computed as one."""

    def __init__(self, requests: list[Request]) -> None:
        self.requests = requests
        now = monotonic()  # of the others nobody waits for an answer any more
        self.wanted = [each for each in requests if each.until is None or each.until > now]
        self.computed: asyncio.Future[tuple[list[Any], float]]  # the answers to `wanted`, and seconds


class BatchService(ServiceAgent):
    """Subclasses take requests with `submit`, and answer them in `compute`."""

    light = False  # it computes: a worker of its own
    checkpoint = "hop"  # answers change nothing that a crash may not forget; `snapshot` where something does

    max_batch: ClassVar[int] = 8
    """Requests that are computed as one, each counted by its `size`; a larger one is computed alone."""

    steady: ClassVar[bool] = False
    """All requests take about as long as each other. One that comes alone is then computed without the thread, whose
    turn costs more than the queue, when the batch before took less than MOMENT. If it then never ends, the agent does
    nothing else any more, as in a handler that never ends: it can only be disposed of."""

    max_waiting: ClassVar[int] = 64
    """Requests without an answer; one more is refused with a time to come again."""

    max_waiting_bytes: ClassVar[int] = 64 << 20
    """What they take, all in all: they travel with the agent."""

    passing: ClassVar[tuple[str, ...]] = ("_wake", "_thread", "_current", "_ahead", "_latest")
    """Attributes that are of one process, and do not travel. A subclass adds its own."""

    def on_creation(self, init: Any) -> None:
        self.waiting: deque[Request] = deque()
        self.refused = 0
        self.latencies: dict[str, Histogram] = {}  # by kind of message: from its coming to its answer, on one host
        self.computing = Histogram()  # of whole batches

    def submit(self, message: Message, work: Any, size: int = 1, space: int = 0) -> Later:
        """Queues the work of a request, which takes `space` bytes; a handler returns what this returns. Raises
        Unavailable when the queue is full."""
        taken = sum(request.space for request in self.waiting)
        if len(self.waiting) >= self.max_waiting or (self.waiting and taken + space > self.max_waiting_bytes):
            self.refused += 1
            raise Unavailable(
                f"{self.name} has {len(self.waiting)} requests waiting ({taken} bytes), and takes {self.max_waiting} "
                f"({self.max_waiting_bytes} bytes): ask again later",
                retry_after=self._patience(),
            )
        assert message.later is not None
        self.waiting.append(Request(self.id, message, message.later, work, size, space))
        if self._wake is not None:
            self._wake.set()
            self._look_ahead(self.max_batch)
        return message.later

    def compute(self, works: list[Any]) -> list[Any]:
        """The answers to a batch, in order: plain data, or a PlatformError for one that cannot be answered.

        Runs in a thread, beside handlers, or between them: read what a handler may change once, as one value that is
        replaced and never changed. What it raises is the answer to all of the batch. If it never ends, the queue fills
        up and who asks is refused; metrics, moves and the end do not wait for it, and elsewhere it is begun anew.
        """
        raise NotImplementedError

    def prepare(self) -> None:
        """What a host's process must have before the first batch, such as a model made of weights. In the thread; when
        it fails, the log says why, and `compute` is asked all the same."""

    def timed(self, answer: Any, execution: float, end_to_end: float | None) -> Any:
        """The answer, with how long it took, if the service tells that: seconds of the batch that it was computed in,
        and from the request's coming to here, the queue included; None when it came on another host."""
        return answer

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
        keep_freed()
        self._wake = asyncio.Event()
        # A clone leaves to its original what that was asked: the same numbers are of other requests to it.
        self.waiting = deque(each for each in self.waiting if each.agent == self.id)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="computing")
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._prepared)
            while True:
                while not self.waiting:
                    self._wake.clear()
                    await self._wake.wait()
                batch, self._ahead = self._ahead or self._begin_batch(0), None
                self._current = batch
                self._look_ahead(self.max_batch)
                answers, execution = await batch.computed
                self._look_ahead(1)
                self._hand_out(batch, answers, execution)
                self._current = None
        finally:
            self._current = self._ahead = None
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _look_ahead(self, least: int) -> None:
        """Hands the next batch to the thread when at least so much waits behind the present one."""
        if self._current is not None and self._ahead is None:
            behind = len(self._current.requests)
            if sum(request.size for request in islice(self.waiting, behind, None)) >= least:
                self._ahead = self._begin_batch(behind)

    def _prepared(self) -> None:
        try:
            self.prepare()
        except Exception:
            traceback.print_exc()

    def _begin_batch(self, after: int) -> Batch:
        """Has those computed that wait behind the first `after`. They stay in the queue until they are answered: a move
        in the midst of it takes them along."""
        room = self.max_batch
        requests: list[Request] = []
        for request in islice(self.waiting, after, None):
            if requests and request.size > room:
                break
            requests.append(request)
            room -= request.size
        batch = Batch(requests)
        works = [request.work for request in batch.wanted]
        loop = asyncio.get_running_loop()
        if self.steady and after == 0 and len(self.waiting) == 1 and self._latest < MOMENT:
            batch.computed = loop.create_future()
            batch.computed.set_result(self._computed(works))
        else:
            batch.computed = loop.run_in_executor(self._thread, self._computed, works)
        return batch

    def _hand_out(self, batch: Batch, answers: list[Any], execution: float) -> None:
        now = monotonic()
        for request, answer in zip(batch.wanted, answers, strict=True):
            seconds = None if request.since is None else now - request.since
            if isinstance(answer, PlatformError):
                self.fail(request.later, answer)
            else:
                self._reply_or_fail(request.later, self.timed(answer, execution, seconds))
            if seconds is not None:
                self.latencies.setdefault(request.kind, Histogram()).observe(seconds)
        self.computing.observe(execution)
        for _ in batch.requests:
            self.waiting.popleft()

    def _reply_or_fail(self, later: Later, answer: Any) -> None:
        """One answer that is no plain data keeps nobody else waiting."""
        try:
            self.reply(later, answer)
        except Misuse as error:
            self.fail(later, error)

    def _computed(self, works: list[Any]) -> tuple[list[Any], float]:
        begin = monotonic()
        try:
            answers = self.compute(works) if works else []
            if len(answers) != len(works):
                raise ValueError(f"{len(answers)} answers to {len(works)} requests")
        except BaseException as error:  # also SystemExit: it would end the worker, and come again with the request
            traceback.print_exc()  # into the agent's log
            reason = error if isinstance(error, PlatformError) else PeerFault(self.name, f"failed: {error!r:.200}")
            answers = [reason] * len(works)
        self._latest = monotonic() - begin
        return answers, self._latest

    def _patience(self) -> float:
        """Seconds until there is room again, by the batches so far."""
        batches = self.computing.count
        each = self.computing.sum_ms / batches / 1000 if batches else 0.1
        return max(0.01, each * len(self.waiting) / self.max_batch)

    # Of `run`, and no state.
    _wake: asyncio.Event | None = None
    _thread: ThreadPoolExecutor | None = None
    _current: Batch | None = None
    _ahead: Batch | None = None
    _latest: float = inf  # seconds of the batch before, on this host

    def __getstate__(self) -> Any:
        return {name: value for name, value in super().__getstate__().items() if name not in self.passing}
