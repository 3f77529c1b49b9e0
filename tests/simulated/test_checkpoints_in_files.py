"""The conversations of test_checkpoints, of agents whose checkpoints are files of the spool, as those of large states
are: each file is durable before the record that names it, and none is left that no record names.
"""

import pytest

from agentplatform.parcel import freight
from agentplatform.parcel.freight import Spooled
from agentplatform.parcel.spool import MemorySpool
from tests.helpers.runner_twin import RunnerTwin
from tests.simulated.test_checkpoints import at_every_point

pytest_plugins = "tests.helpers.edge_fixtures"


@pytest.fixture(autouse=True)
def in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RunnerTwin, "filed", True)
    monkeypatch.setattr(freight, "MAX_INLINE_BYTES", 0)


@pytest.mark.usefixtures("no_errors")
async def test_a_crash_at_many_points_of_a_conversation() -> None:
    await at_every_point(seeds=(0,), victims=("b",), every=4)


@pytest.mark.slow
@pytest.mark.usefixtures("no_errors")
@pytest.mark.parametrize("seed", range(3))
async def test_a_crash_at_every_point_of_a_conversation(seed: int) -> None:
    await at_every_point(seeds=(seed,))


class Careless(MemorySpool):
    """Its workers say that they have made their files durable, and have not."""

    def keep(self, state: bytes) -> Spooled:
        return self.take(state)


class Greedy(MemorySpool):
    """Keeps every file."""

    def remove(self, name: str) -> None: ...


async def test_files_that_are_not_durable_are_missed() -> None:
    with pytest.raises(KeyError):  # an agent is in custody, and does not run
        await at_every_point(seeds=(0,), victims=("b",), spool=Careless)


async def test_files_that_stay_are_found() -> None:
    with pytest.raises(AssertionError, match="a file of nobody"):
        await at_every_point(seeds=(0,), victims=("b",), spool=Greedy)
