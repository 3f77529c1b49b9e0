"""A replica whose data is put back from a backup has forgotten what it signed: it must not sign again too early."""

from collections.abc import Mapping
from functools import partial
from random import Random

import pytest

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, Ballot, Certificate
from ledger.consensus.engine import RESTORED, Chain, Engine
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Blocks, ChangeView, Propose, Vote
from ledger.consensus.pbft import Pbft
from ledger.consensus.restored import Fence
from ledger.consensus.settings import Settings
from ledger.simulation import Mutant
from ledger.simulation.faults import Faults
from ledger.simulation.node import Disk
from ledger.simulation.twins import FastKey, fast_verify, make_members
from ledger.simulation.world import World
from tests.helpers.ipbft_script import Script


class SignsAtOnce(Ipbft):
    """Takes an old copy for its own newest data."""

    def __init__(self, host: str, signer: FastKey, chain: Chain, kept: Mapping[str, bytes], *rest: object) -> None:
        super().__init__(host, signer, chain, {k: v for k, v in kept.items() if k != RESTORED}, *rest)  # type: ignore


# Stories


def restored_primary(mutant: Mutant) -> Script:
    """`a` proposes block 1 and is set back to before that; a client comes with something else."""
    script = Script(4, mutant)
    backup = script.nodes["a"].disk.copy()
    script.tell(b"one", "a")
    script.deliver(Propose, to="b")
    script.drop()
    script.crash("a")
    backup.kept[RESTORED] = b""
    script.nodes["a"].disk = backup
    script.boot("a")
    script.tell(b"two", "a")
    script.settle("abcd")
    return script


def test_a_restored_primary_does_not_propose_again_and_takes_part_when_it_is_safe() -> None:
    script = restored_primary(Mutant())
    assert script.checker.faults == []
    assert RESTORED in script.nodes["a"].disk.kept
    for number in range(6):
        script.tell(b"%d" % number, "b", "c", "d")
        for _ in range(8):
            script.wait(3, "a", "b", "c", "d")
            script.settle("abcd")
    assert script.checker.faults == []
    assert script.height("a") == script.height("b") > 4
    assert RESTORED not in script.nodes["a"].disk.kept
    script.crash("d")  # now its vote is needed
    before = script.height("b")
    script.tell(b"last", "a", "b", "c")
    for _ in range(10):
        script.wait(5, "a", "b", "c")
        script.settle("abc")
    assert script.height("b") == script.height("a") > before
    assert script.checker.faults == []


def test_one_that_signs_at_once_is_caught() -> None:
    assert any("signs twice" in fault for fault in restored_primary(Mutant(engine=SignsAtOnce)).checker.faults)


def test_an_old_copy_that_nobody_marked_knows_itself_by_its_own_signatures() -> None:
    """The certificates of the blocks that it fetches have its COMMITs, which it knows nothing of.

    A certificate names only a quorum, so this is luck: b's blocks would not have shown it, those of c and d do.
    """
    script = Script(4)
    backup = script.nodes["a"].disk.copy()
    for number in range(3):
        script.tell(b"%d" % number, "a", "b", "c", "d")
        script.settle("abcd")
    assert script.height("a") == 3
    script.crash("a")
    script.nodes["a"].disk = backup
    script.boot("a")
    while script.height("a") < 3:
        script.settle("acd")
        script.wait(1, "a")
    assert RESTORED in script.nodes["a"].disk.kept
    script.tell(b"more", "a", "b", "c", "d")
    assert not [letter for letter in script.waiting((Propose, Vote)) if letter.sender == "a"]  # type: ignore[arg-type]


def test_an_honest_restart_is_not_taken_for_an_old_copy() -> None:
    script = Script(4)
    script.tell(b"one", "a", "b", "c", "d")
    script.deliver(Propose)
    script.deliver(Vote, vote="prepare")
    for host in "abcd":  # each has given its COMMIT, and nobody has decided
        script.crash(host)
        script.boot(host)
    script.drop()
    for _ in range(4):
        script.wait(3, "a", "b", "c", "d")
        script.settle("abcd")
    assert [script.height(host) for host in "abcd"] == [1] * 4
    assert not any(RESTORED in script.nodes[host].disk.kept for host in "abcd")


def told(script: Script, sender: str, to: str, block: Block, version: int, *kinds: str) -> None:
    """Votes in view 0 that `sender` makes by hand."""
    for kind in kinds:
        ballot = Ballot(block.header.chain, version, kind, block.header.height, 0, block.digest())
        script.hand(sender, to, script.signed_vote(sender, ballot))


def test_when_the_members_changed_meanwhile_those_of_now_are_asked_too() -> None:
    """c is Byzantine: it helps to decide blocks 2 to 4 and denies it. Block 2 puts e in the place of d.

    a has given its COMMIT to block 4, which e alone has decided. None of those who were members when the copy was made
    and say where they stand (b, c, d) knows of anything above block 1.
    """
    script = Script(5)
    script.tell(b"members a b c d", "a")
    script.settle("abcde")
    backup = script.nodes["a"].disk.copy()
    a = script.nodes["a"].disk
    for transaction, other, version in ((b"members a b c e", "d", 1), (b"three", "e", 2), (b"four", "e", 2)):
        if other == "e" and script.height("e") == 1:
            script.hand("a", "e", Blocks(tuple(a.blocks[1:])))
        script.tell(transaction, "a")
        block = script.waiting(Propose)[-1].content.block
        script.deliver(Propose, to=other)
        for host in "a" + other:
            told(script, "c", host, block, version, PREPARE)
        script.deliver(Vote, to="a" + other, sender="a" + other, vote=PREPARE)
        decides = "e" if transaction == b"four" else "a"
        told(script, "c", decides, block, version, COMMIT)
        script.deliver(Vote, to=decides, sender="a" + other, vote=COMMIT)
        if transaction == b"three":
            script.hand("a", "e", Blocks(tuple(a.blocks[2:])))
        script.drop()
    assert [script.height(host) for host in "abcde"] == [3, 1, 1, 1, 4]

    script.crash("a", "e")
    backup.kept[RESTORED] = b""
    script.nodes["a"].disk = backup
    script.boot("a")
    for _ in range(3):
        script.settle("abcd")
        script.wait(3, "a")
    for host in "ab":
        script.hand("c", host, Blocks(tuple(script.nodes["e"].disk.blocks[1:3])))
    assert [script.height(host) for host in "ab"] == [3, 3]
    script.drop()
    script.wait(20, "a")
    signed = (Propose, Vote, ChangeView)
    assert not [letter for letter in script.waiting(signed) if letter.sender == "a"]  # type: ignore[arg-type]

    script.boot("e")
    for _ in range(3):
        script.settle("abe")
        script.wait(3, "a", "e")
    assert script.decided("a")[3] == (b"four",)
    assert codec.decode(script.nodes["a"].disk.kept[RESTORED], Fence) == Fence(6, 1, members_version=2)
    assert script.checker.faults == script.accused == []


# Random lives


def life(seed: int, engine: type[Ipbft] | type[Pbft]) -> tuple[World, str]:
    """Somebody is set back to a copy of a while ago, in a bad network."""
    random = Random(f"old backup {seed}")  # noqa: S311  repeatable
    members = make_members(4)

    def make(host: str, chain: Chain, kept: Mapping[str, bytes], certificate: Certificate | None) -> Engine:
        settings = Settings(max_view_timeout=8.0, checkpoint_every=3)
        return engine(host, FastKey(host), chain, kept, settings, certificate, fast_verify)

    faults = Faults(loss=random.choice((0.0, 0.1, 0.3)), delay=0.2)
    world = World(random, members, make, engine.standing.view_change, faults)
    hosts = list(world.nodes)
    unlucky = random.choice(hosts[:2])
    copies: list[Disk] = []
    for host in hosts:
        world.boot(host)
    for number in range(60):
        told = random.sample(hosts, random.randint(1, 4))
        world.at(random.uniform(0, 20), partial(world.submit, b"%d" % number, told))
    moment = random.uniform(3, 12)
    world.at(moment - random.uniform(0, 1), lambda: copies.append(world.nodes[unlucky].disk.copy()))
    world.at(moment, lambda: world.restore(unlucky, copies[0]))
    world.run(20)
    world.faults = Faults()
    for number in range(200, 206):
        world.submit(b"%d" % number, hosts)
        world.run(world.now + 20)
    return world, unlucky


SEEDS = 25


@pytest.mark.parametrize("engine", [Ipbft, Pbft])
def test_random_lives_with_an_old_backup_are_safe_and_live(engine: type[Ipbft] | type[Pbft]) -> None:
    for seed in range(SEEDS):
        world, unlucky = life(seed, engine)
        assert world.checker.faults == [], seed
        assert RESTORED not in world.nodes[unlucky].disk.kept, f"seed {seed}: it never takes part again"
        assert all(b"205" in node.chain.decided for node in world.nodes.values()), seed


def test_random_lives_catch_one_that_signs_at_once() -> None:
    assert any(life(seed, SignsAtOnce)[0].checker.faults for seed in range(60))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_random_lives_with_an_old_backup() -> None:
    for seed in range(1000, 1600):
        assert life(seed, Ipbft)[0].checker.faults == [], seed
