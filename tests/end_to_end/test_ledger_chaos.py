"""Replica processes under faults: no fork, nothing acknowledged is lost, and while f are down the others go on."""

from pathlib import Path
from random import Random

import pytest

from ledger.block import Block
from ledger.chain import Chain
from tests.helpers.founders import call, decide, genesis, join
from tests.helpers.ledger_chaos import Chaos, judge, read_chain
from tests.helpers.ledger_faults import FAULTS, suffer


async def chaos(folder: Path, size: int, seed: int, rounds: int = 1) -> None:
    """Every fault, in an order that is drawn, on hosts that are drawn."""
    print(f"seed {seed}, {size} members")
    random = Random(f"chaos {seed}/{size}")  # noqa: S311  repeatable
    faults = [fault for _ in range(rounds) for fault in random.sample(list(FAULTS.values()), len(FAULTS))]
    async with Chaos(folder, size) as members:
        await suffer(members, random, faults)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [1, 2])
async def test_four_processes_under_every_fault(tmp_path: Path, seed: int) -> None:
    await chaos(tmp_path, 4, seed)


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_seven_processes_under_every_fault(tmp_path: Path) -> None:
    await chaos(tmp_path, 7, 3)


async def test_four_processes_go_on_without_their_primary(tmp_path: Path) -> None:
    async with Chaos(tmp_path, 4) as four:
        await four.load()
        await four.progress(20)
        await four.kill("north-1")  # leads view 0
        await four.progress(20)
        await four.restart("north-1")
        await four.calm()
        await four.judge()


# The harness catches what is broken


@pytest.mark.slow
async def test_a_replica_that_acknowledges_too_early_is_caught(tmp_path: Path) -> None:
    """All are killed: what was under way is lost, and some of it had been acknowledged."""
    async with Chaos(tmp_path, 4, {"east-1": "hasty"}) as four:
        await four.load()
        await four.progress(50)
        await four.abandon_load()
        await four.kill(*four.hosts)
        chain = await read_chain(tmp_path / "north-1", four.genesis)
        with pytest.raises(AssertionError, match="acknowledged transactions are lost"):
            judge({"north-1": chain}, four.acknowledged)


def chain_of(*names: str) -> list[Block]:
    chain = Chain(genesis(4))
    return [decide(chain, call(chain.id, "north", nonce, join(name))) for nonce, name in enumerate(names)]


def test_the_judge_knows_a_fork_a_lost_one_a_double_one_and_a_short_chain() -> None:
    ours, fork = chain_of("upper", "lower"), chain_of("upper", "inner")
    (first,) = ours[0].transactions
    judge({"a": ours, "b": ours}, {first: 1})
    for chains, acknowledged, says in [
        ({"a": ours, "b": fork}, {}, "fork: a and b have two blocks 2"),
        ({"a": ours, "b": ours[:1]}, {}, "different heights"),
        ({"a": ours[1:]}, {}, "lacks block 1"),
        ({"a": ours}, {first: 2}, "in other blocks"),
        ({"a": ours}, {b"another": 1}, "are lost"),
        ({"a": [ours[0], Block(ours[1].header, ours[0].transactions)]}, {}, "in several blocks"),
    ]:
        with pytest.raises(AssertionError, match=says):
            judge(chains, acknowledged)
