"""The queue, the batches and the histograms that ready-made services share."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from agentplatform import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agentplatform.runners.inline import Inline
from agents.serving.histogram import BOUNDS_MS, Histogram
from agents.serving.service import MOMENT, BatchService
from ledger.errors import Misuse, PeerFault, Unavailable


class Squares(BatchService):
    service, version = "squares", "1.0"
    max_batch, max_waiting = 4, 6
    gate = threading.Event()  # `compute` waits for it
    entered = threading.Event()
    batches: ClassVar[list[list[Any]]] = []

    @handles("square")
    def square(self, value: Any, message: Message) -> Later:
        return self.submit(message, value)

    @handles("squares")
    def squares(self, values: list[int], message: Message) -> Later:
        return self.submit(message, values, size=len(values), space=100 * len(values))

    def compute(self, works: list[Any]) -> list[Any]:
        type(self).batches.append(list(works))
        self.entered.set()
        assert self.gate.wait(10)
        if "all fail" in works:
            raise ZeroDivisionError("on purpose")
        if works == ["odd"]:
            return [object()]
        if works == ["exit"]:
            raise SystemExit(1)
        if works == ["too few"]:
            return []
        return [Misuse("no number") if isinstance(work, str) else squared(work) for work in works]


def squared(work: Any) -> Any:
    return [each * each for each in work] if isinstance(work, list) else work * work


class Telling(Squares):
    """Tells how long it took, and cannot prepare itself."""

    def prepare(self) -> None:
        raise Misuse("not prepared")

    def timed(self, answer: Any, execution: float, end_to_end: float | None) -> Any:
        return [answer, execution, end_to_end]


class Steady(Squares):
    steady = True

    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        self.threads: list[str] = []

    def compute(self, works: list[Any]) -> list[Any]:
        own = threading.current_thread().name == "inline agents"
        self.threads.append("own" if own else "pooled")
        return super().compute(works)


class AfterTheAnswers(Squares):
    """A broken twin: the thread idles while answers are given."""

    async def run(self) -> None:
        self._wake = asyncio.Event()
        while True:
            while not self.waiting:
                self._wake.clear()
                await self._wake.wait()
            batch = self._begin_batch(0)
            answers, execution = await batch.computed
            self._hand_out(batch, answers, execution)


@pytest.fixture
def inline() -> Iterator[Inline]:
    Squares.gate.clear()
    Squares.entered.clear()
    Squares.batches.clear()
    with Inline() as inline:
        yield inline
        Squares.gate.set()


def asked(inline: Inline, agent: Any, values: list[Any], kind: str = "square") -> list[threading.Thread]:
    """Each from a thread of its own; the answers, or errors, are in `thread.answer`."""

    def ask(thread: list[Any], value: Any) -> None:
        try:
            thread[0].answer = agent.call(kind, value)
        except (PeerFault, Unavailable) as error:
            thread[0].answer = error

    threads = []
    for value in values:
        cell: list[Any] = []
        thread = threading.Thread(target=ask, args=(cell, value))
        cell.append(thread)
        threads.append(thread)
        waited = len(agent.agent.waiting)
        thread.start()
        while thread.is_alive() and len(agent.agent.waiting) == waited:  # in this order
            thread.join(0.001)
    return threads


def answers(threads: list[threading.Thread]) -> list[Any]:
    for thread in threads:
        thread.join(10)
    return [thread.answer for thread in threads]  # type: ignore[attr-defined]


def test_who_comes_alone_is_computed_at_once_and_the_rest_in_batches(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [1])
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [2, 3, 4, 5, 6])
    Squares.gate.set()
    assert answers(threads) == [1, 4, 9, 16, 25, 36]
    assert Squares.batches == [[1], [2, 3, 4, 5], [6]]
    metrics = agent.call("metrics")
    assert metrics["waiting"] == 0
    assert metrics["latencies"]["square"]["count"] == 6
    assert metrics["computing"]["count"] == 3


def test_a_full_queue_refuses_and_says_so(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [1, 2, 3, 4, 5, 6, 7])
    Squares.gate.set()
    *taken, refused = answers(threads)
    assert taken == [1, 4, 9, 16, 25, 36]
    assert "6 requests waiting" in str(refused) and isinstance(refused, Unavailable)
    assert refused.retry_after is not None and refused.retry_after > 0
    assert agent.call("metrics")["refused"] == 1


def test_a_queue_is_bounded_in_bytes_and_one_request_always_fits(
    inline: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Squares, "max_waiting_bytes", 300)
    agent = inline.create(Squares)
    threads = asked(inline, agent, [[1, 2, 3, 4], [5]], "squares")
    assert "1 requests waiting (400 bytes), and takes 6 (300 bytes)" in str(answers(threads[1:])[0])
    Squares.gate.set()
    assert answers(threads)[0] == [1, 4, 9, 16]


def test_one_bad_request_fails_alone_and_a_broken_batch_as_a_whole(inline: Inline) -> None:
    agent = inline.create(Squares)
    Squares.gate.set()
    assert "no number" in str(answers(asked(inline, agent, ["two"]))[0])
    assert "ZeroDivisionError('on purpose')" in str(answers(asked(inline, agent, ["all fail"]))[0])
    assert "plain data" in str(answers(asked(inline, agent, ["odd"]))[0])
    assert "SystemExit(1)" in str(answers(asked(inline, agent, ["exit"]))[0])
    assert "0 answers to 1 requests" in str(answers(asked(inline, agent, ["too few"]))[0])
    assert agent.call("square", 3) == 9  # it lives


def test_requests_without_an_answer_move_with_the_agent(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [1, 2, 3])
    assert Squares.entered.wait(10)
    agent.hop("elsewhere")
    assert agent.host == "elsewhere"
    Squares.gate.set()
    assert answers(threads) == [1, 4, 9]


def test_a_computation_that_never_ends_keeps_the_service_from_nothing_else(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [1, 2])
    assert Squares.entered.wait(10)
    Squares.entered.clear()
    agent.hop("elsewhere")
    assert Squares.entered.wait(10), "it is computed anew there"
    Squares.entered.clear()
    assert agent.call("metrics")["waiting"] == 2
    threads += asked(inline, agent, [3, 4, 5, 6, 7])
    assert "6 requests waiting" in str(answers(threads[-1:])[0])
    agent.deactivate()
    agent.activate()
    assert Squares.entered.wait(10)
    Squares.entered.clear()
    assert agent.call("metrics")["waiting"] == 6
    other = inline.create(Squares)
    other.send("square", 8)
    assert Squares.entered.wait(10)
    other.dispose()
    assert not Squares.gate.is_set(), "none of this waited for it"
    Squares.gate.set()
    assert answers(threads)[:-1] == [1, 4, 9, 16, 25, 36]


def test_a_clone_leaves_to_its_original_what_that_was_asked(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [2])
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [3])
    clone = agent.clone()
    threads += asked(inline, clone, [4])
    Squares.gate.set()
    assert answers(threads) == [4, 9, 16]
    assert sorted(Squares.batches) == [[2], [3], [4]]


def test_batches_are_counted_by_size_and_a_large_request_goes_alone(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [[1]], "squares")
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [[2, 3, 4], [5], [6], [1, 2, 3, 4, 5], [7]], "squares")
    Squares.gate.set()
    assert answers(threads)[-2:] == [[1, 4, 9, 16, 25], [49]]
    assert Squares.batches == [[[1]], [[2, 3, 4], [5]], [[6]], [[1, 2, 3, 4, 5]], [[7]]]


def test_a_full_batch_waits_in_the_thread_and_another_one_for_company(inline: Inline) -> None:
    agent = inline.create(Squares)
    threads = asked(inline, agent, [1])
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [2, 3, 4])
    service = agent.agent
    assert isinstance(service, Squares)
    assert service._ahead is None
    threads += asked(inline, agent, [5])
    assert service._ahead is not None
    assert [request.work for request in service._ahead.requests] == [2, 3, 4, 5]
    Squares.gate.set()
    assert answers(threads) == [1, 4, 9, 16, 25]


@pytest.mark.parametrize(("kind", "waiting"), [(Squares, 2), (AfterTheAnswers, 1)])
def test_the_next_batch_is_begun_before_the_answers_are_given(inline: Inline, kind: Any, waiting: int) -> None:
    """Told by how many wait when the second batch is begun: the first one, not answered yet, is still among them."""
    agent = inline.create(kind)
    queue: list[int] = []
    begin_batch = agent.agent._begin_batch

    def watched(*after: int) -> Any:
        queue.append(len(agent.agent.waiting))
        return begin_batch(*after)

    agent.agent._begin_batch = watched
    threads = asked(inline, agent, [1])
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [2])
    Squares.gate.set()
    assert answers(threads) == [1, 4]
    assert queue == [1, waiting]


def test_answers_tell_how_long_they_took_and_a_failed_preparation_keeps_nobody_waiting(
    inline: Inline, capsys: pytest.CaptureFixture[str]
) -> None:
    agent = inline.create(Telling)
    Squares.gate.set()
    answer, execution, end_to_end = answers(asked(inline, agent, [3]))[0]
    assert answer == 9 and 0 < execution < end_to_end
    assert "not prepared" in capsys.readouterr().err
    Squares.gate.clear()
    Squares.entered.clear()
    threads = asked(inline, agent, [4])
    assert Squares.entered.wait(10)
    agent.hop("elsewhere")
    Squares.gate.set()
    assert answers(threads)[0][2] is None, "two hosts' clocks are not compared"


def test_where_requests_are_alike_one_alone_is_computed_without_the_thread_and_company_in_it(inline: Inline) -> None:
    agent = inline.create(Steady)
    Squares.gate.set()
    assert [answers(asked(inline, agent, [each])) for each in (2, 3)] == [[4], [9]]
    instance = agent.agent
    assert isinstance(instance, Steady)
    assert instance.threads == ["pooled", "own"], "how long the first one takes is not known yet"
    instance._latest = MOMENT
    Squares.gate.clear()
    Squares.entered.clear()
    threads = asked(inline, agent, [4])
    assert Squares.entered.wait(10)
    threads += asked(inline, agent, [5, 6])
    Squares.gate.set()
    assert answers(threads) == [16, 25, 36]
    assert instance.threads[2:] == ["pooled", "pooled"], "one that took long, and two at once"


def test_quantiles_are_the_ends_of_buckets() -> None:
    histogram = Histogram()
    assert histogram.quantile(0.5) is None
    for ms in (0.1, 0.2, 0.3, 7.0, 1e9):
        histogram.observe(ms / 1000)
    assert [histogram.quantile(share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)] == [0.25, 0.25, 0.5, 10.0, BOUNDS_MS[-1]]
    assert histogram.as_data()["buckets"][:2] == [[0.25, 2], [0.5, 3]]
    assert histogram.as_data()["count"] == 5
