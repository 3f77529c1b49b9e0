"""The outbox: nothing is seen before what it promises is durable, and nothing overtakes."""

import asyncio

from ledger.errors import Unavailable
from ledger.outbox import Outbox


async def test_acts_wait_for_the_writes_ahead_of_them_in_order() -> None:
    done: list[str] = []
    outbox = Outbox(failed=lambda error: done.append(str(error)))
    first, second = (asyncio.get_running_loop().create_future() for _ in range(2))
    outbox.put(lambda: done.append("a"))
    outbox.behind(first)
    outbox.put(lambda: done.append("b"))
    outbox.behind(second)
    outbox.put(lambda: done.append("c"))
    second.set_result(None)
    await asyncio.sleep(0)
    assert done == ["a"]
    first.set_result(None)
    await asyncio.sleep(0)
    assert done == ["a", "b", "c"]
    outbox.put(lambda: done.append("d"))
    assert done[-1] == "d"


async def test_after_a_failed_write_nothing_is_done_any_more() -> None:
    done: list[str] = []
    outbox = Outbox(failed=lambda error: done.append(str(error)))
    write = asyncio.get_running_loop().create_future()
    outbox.behind(write)
    outbox.put(lambda: done.append("a"))
    write.set_exception(Unavailable("the disk is full"))
    await asyncio.sleep(0)
    outbox.put(lambda: done.append("b"))
    assert done == ["the disk is full"]


async def test_a_write_that_was_given_up_is_not_durable() -> None:
    failures: list[BaseException] = []
    outbox = Outbox(failures.append)
    write = asyncio.get_running_loop().create_future()
    outbox.behind(write)
    write.cancel()
    await asyncio.sleep(0)
    assert isinstance(failures[0], Unavailable)


async def test_an_act_that_puts_another_is_not_overtaken_by_it() -> None:
    done: list[str] = []
    outbox = Outbox(failed=lambda error: None)

    def outer() -> None:
        outbox.put(lambda: done.append("inner"))
        done.append("outer")

    outbox.put(outer)
    assert done == ["outer", "inner"]
