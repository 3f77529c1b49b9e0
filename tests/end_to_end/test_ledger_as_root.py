"""Faults that only root can bring about: packets that are dropped, and a file system without room."""

import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.helpers.ledger_chaos import Chaos
from tests.helpers.ledger_faults import crash, freeze, go_on, halves, isolate, stops_by_itself, suffer, too_many
from tests.helpers.namespaces import Namespaced, make_larger, mount_small, unmount, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MEGABYTE = 2**20


async def test_partitions_that_drop_packets(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    async with Namespaced(tmp_path, 4) as four:
        await suffer(four, Random(4), [isolate, halves, crash, isolate, freeze, too_many])  # noqa: S311


async def test_no_space_left_on_the_device(tmp_path: Path) -> None:
    """The file system of one host fills up with the chain itself; with more room it goes on."""
    small = tmp_path / "east-1"
    try:
        mount_small(small, MEGABYTE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system in memory cannot be mounted: {error}")
    try:
        async with Chaos(tmp_path, 4) as four:
            await four.load()
            await stops_by_itself(four, "east-1")
            await go_on(four, Random(1))  # noqa: S311
            await four.processes["east-1"].kill()
            make_larger(small, 64 * MEGABYTE)
            await four.restart("east-1")
            await four.progress(20)
            await four.calm()
            await four.judge()
    finally:
        unmount(small)
