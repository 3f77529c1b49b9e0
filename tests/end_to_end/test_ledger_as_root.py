"""Faults that only root can bring about: packets that are dropped, and a file system without room."""

import asyncio
import subprocess
from pathlib import Path
from random import Random

import pytest

from tests.helpers.ledger_chaos import Chaos
from tests.helpers.ledger_faults import crash, freeze, go_on, halves, isolate, suffer, too_many
from tests.helpers.namespaces import Namespaced, make_larger, mount_small, unmount, why_not

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
MEGABYTE = 2**20


async def test_partitions_that_drop_packets(tmp_path: Path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    async with Namespaced(tmp_path, 4) as four:
        await suffer(four, Random(4), [isolate, halves, crash, isolate, freeze, too_many])  # noqa: S311


async def test_no_space_left_on_the_device(tmp_path: Path) -> None:
    """The file system of one host fills up with the chain itself: it rests, and goes on by itself when it is larger."""
    small = tmp_path / "east-1"
    try:
        mount_small(small, MEGABYTE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a file system in memory cannot be mounted: {error}")
    try:
        async with Chaos(tmp_path, 4) as four:
            await four.load()
            east = four.processes["east-1"]
            async with asyncio.timeout(60):
                while not (await east.ask("status"))["full"]:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await go_on(four, Random(1))  # noqa: S311
            rested = (await east.ask("status"))["height"]
            await four.progress(5)
            assert (await east.ask("status"))["height"] == rested and east.failure is None
            make_larger(small, 64 * MEGABYTE)
            async with asyncio.timeout(60):
                while (await east.ask("status"))["height"] <= rested + 5:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            await four.progress(20)
            await four.calm()
            await four.judge()
    finally:
        unmount(small)
