"""What replicas did, recorded and gone through again: ledger.recording and ledger.replay."""

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from ledger import codec
from ledger.block import Block
from ledger.certificate import VOTE_DOMAIN
from ledger.client import Client
from ledger.consensus import messages
from ledger.consensus.engine import Decide, Effect, Send
from ledger.consensus.ipbft.engine import Ipbft
from ledger.consensus.messages import Propose, Vote, encode_blocks
from ledger.consensus.settings import Settings
from ledger.engines import EngineKind
from ledger.recording import Life, Step, encoded, lives, recorded
from ledger.replay import contradictions, replay
from tests.helpers.founders import NAMES, genesis, identity, join
from tests.helpers.ledger_chaos import SETTINGS, Chaos
from tests.helpers.replicas import Cluster

FAST = Settings(
    view_timeout=0.3, max_view_timeout=2.0, relay_after=0.05, resend_every=0.05, status_every=0.2, fetch_after=0.02
)
IPBFT = EngineKind(partial(Ipbft, settings=FAST), encode_blocks)


async def votes(four: Cluster, action: object) -> int:
    """Of two organisations whose hosts run, each through its own; the greatest height."""
    two = list(four.replicas.items())[:2]
    clients = [Client(replica, identity(host.removesuffix("-1"))) for host, replica in two]
    return max(receipt.height for receipt in await asyncio.gather(*(each.call("trust", action) for each in clients)))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> list[Life]:
    """Four replicas decide; the primary loses power and comes back; they decide."""
    folder = tmp_path_factory.mktemp("recordings")

    async def live() -> None:
        async with Cluster(genesis(4), recorded(IPBFT, folder)) as four:
            await four.same_height(await votes(four, join("upper")))
            primary = four.replicas["north-1"].members().members[0].host
            await four.kill(primary)
            await four.same_height(await votes(four, join("lower")))
            await four.start(primary)
            await four.same_height(await votes(four, join("inner")))

    asyncio.run(live())
    return lives(folder)


def is_of(kind: type, effect: Effect) -> bool:
    return isinstance(effect, Send) and isinstance(messages.decode(effect.message, ""), kind)


def count(run: list[Life], verb: str) -> int:
    return sum(step.verb == verb for life in run for step in life.steps)


def test_the_engine_does_again_what_it_did(run: list[Life]) -> None:
    assert sorted(life.began.host for life in run) == sorted([f"{name}-1" for name in NAMES[:4]] + [run_twice(run)])
    assert all(count(run, verb) for verb in ("start", "command", "message", "tick"))
    assert [replay(life, IPBFT.create) for life in run] == [None] * 5


def run_twice(run: list[Life]) -> str:
    """The host that was started again, on what it had kept."""
    hosts = [life.began.host for life in run]
    (host,) = {host for host in hosts if hosts.count(host) == 2}
    assert [life.began.best.header.height > 0 for life in run if life.began.host == host] == [False, True]
    return host


def test_the_replicas_do_not_contradict_each_other(run: list[Life]) -> None:
    assert contradictions(run) == []


# What is wrong is found


def test_a_changed_effect_is_named(run: list[Life]) -> None:
    life = run[0]
    number, step = next((n, step) for n, step in enumerate(life.steps) if len(step.effects) > 2)
    changed = msgspec.structs.replace(step, effects=(*step.effects[:1], step.effects[2]))
    steps = [changed if each is step else each for each in life.steps]
    difference = replay(life._replace(steps=steps), IPBFT.create)
    assert difference is not None and f"step {number} " in difference and "effect 1 was" in difference


def test_an_engine_that_does_not_commit_is_told_from_the_recorded_one(run: list[Life]) -> None:
    class Deaf(Ipbft):
        def _commit(self) -> bool:
            return False

    difference = replay(run[1], partial(Deaf, settings=FAST))
    assert difference is not None and "effect" in difference


def test_an_engine_with_another_chain_is_told_from_the_recorded_one(run: list[Life]) -> None:
    life = run[0]
    steps = [msgspec.structs.replace(step, answers=()) for step in life.steps]
    difference = replay(life._replace(steps=steps), IPBFT.create)
    assert difference is not None and "asked for nothing more" in difference


async def test_a_replica_that_signs_twice_contradicts_itself(tmp_path: Path) -> None:
    class SignsTwice(Ipbft):
        def _prepare(self, propose: Propose) -> None:
            super()._prepare(propose)
            ballot = self._at.ballot("prepare", self._at.view, b"another block".ljust(32))
            self._send(None, Vote(ballot, self._at._signer.sign(VOTE_DOMAIN, ballot.encode())))

    async with Cluster(genesis(4), recorded(IPBFT, tmp_path), ["north-1", "east-1", "south-1"]) as four:
        four.engine = recorded(EngineKind(partial(SignsTwice, settings=FAST), encode_blocks), tmp_path)
        await four.start("west-1")
        await four.same_height(await votes(four, join("upper")))
    run = lives(tmp_path)
    assert any(fault.startswith("west-1 signed twice: prepare at height 1") for fault in contradictions(run))
    assert [life.began.host for life in run if replay(life, IPBFT.create)] == ["west-1"]


def with_step(life: Life, place: int, step: Step) -> Life:
    return life._replace(steps=[*life.steps[:place], step, *life.steps[place + 1 :]])


def test_a_fork_is_found(run: list[Life]) -> None:
    life = run[2]
    for place, step in enumerate(life.steps):
        for name, raw in step.effects:
            if name == Decide.__name__:
                decide = codec.decode(raw, Decide)
                header = msgspec.structs.replace(decide.block.header, timestamp=1)
                other = msgspec.structs.replace(decide, block=Block(header, decide.block.transactions))
                forked = with_step(life, place, msgspec.structs.replace(step, effects=encoded([other])))
                faults = contradictions([*run[:2], forked])
                assert any("decided another block" in fault for fault in faults)
                return
    pytest.fail("it decided nothing")


def test_a_message_that_nobody_said_is_found(run: list[Life]) -> None:
    silent = [life._replace(steps=[]) if life.began.host == "east-1" else life for life in run]
    faults = contradictions(silent)
    assert faults and all("heard from east-1 what it had not said" in fault for fault in faults)


def test_what_a_crash_cut_off_is_left_out(run: list[Life], tmp_path: Path) -> None:
    frames = [codec.encode(frame) for frame in (run[0].began, run[0].steps[0])]
    raw = b"".join(len(frame).to_bytes(4, "big") + frame for frame in frames)
    cut = tmp_path / "north-1.0"
    for length in sorted({*range(0, len(raw), 17), *range(len(raw) - 8, len(raw) + 1)}):
        cut.write_bytes(raw[:length])
        found = lives(tmp_path)
        if length == len(raw):
            assert found == [Life(run[0].began, run[0].steps[:1])]
        elif length >= 4 + len(frames[0]):
            assert found == [Life(run[0].began, [])]
        else:
            assert found == []


# Processes


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_processes_whose_primary_is_killed_did_what_the_engine_does(tmp_path: Path) -> None:
    async with Chaos(tmp_path, 4, record=True) as four:
        await four.load()
        await four.progress(50)
        await four.kill("north-1")  # leads view 0
        await four.progress(50)
        await four.restart("north-1")
        await four.progress(50)
        await four.calm()
        await four.judge()
    run = lives(tmp_path / "recordings")
    create = partial(Ipbft, settings=Settings(**SETTINGS))
    print(f"{sum(len(life.steps) for life in run)} steps of {len(run)} lives")
    assert len(run) == 5 and sum(life.began.host == "north-1" for life in run) == 2
    assert [replay(life, create) for life in run] == [None] * 5
    assert contradictions(run) == []
