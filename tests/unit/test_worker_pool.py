"""Worker processes that are kept ready."""

from agentplatform.runners.process.handle import Came
from agentplatform.runners.process.pool import Pool
from agentplatform.runners.process.settings import WorkerSettings


async def test_who_stops_the_pool_waits_for_what_it_was_preparing() -> None:
    pool = Pool(WorkerSettings(), lambda *_: None, lambda *_: None)
    pool.expect(Came((b"owner", b"code", "local"), "Counter", b"its code"))
    (preparing,) = pool._preparing
    await pool.stop()
    assert preparing.cancelled()
