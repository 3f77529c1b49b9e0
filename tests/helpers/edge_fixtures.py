"""Fixtures of the tests that crank hosts at the edge of custody."""

import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

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


@pytest.fixture
def worlds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[World]:
    """Those that the test's module makes, the newest last: for what their histories say."""
    made: list[World] = []

    class Remembered(World):
        def __init__(self, *names: str, **kinds: Any) -> None:
            super().__init__(*names, **kinds)
            made.append(self)

    monkeypatch.setattr(request.module, "World", Remembered)
    return made
