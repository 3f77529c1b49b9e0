"""Fixtures of the tests that crank hosts at the edge of custody."""

import logging
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.helpers.edge_world import World


@pytest.fixture
def no_errors(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What goes wrong in a callback or in a task of the edge is in the log alone."""
    yield
    logged = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR]
    assert logged == []


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World("a", "b")
    await world.boot()
    yield world
    world.close()
