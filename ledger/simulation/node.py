"""One simulated host: a disk that survives, and an engine and a chain that do not."""

from collections.abc import Callable, Mapping
from random import Random

from ledger.block import Block
from ledger.certificate import Certificate, Members
from ledger.consensus.engine import Decide, Engine, Persist
from ledger.simulation.twins import TwinChain

MakeEngine = Callable[[str, TwinChain, Mapping[str, bytes], Certificate | None], Engine]


class Disk:
    """Keeps what was written before the last barrier; of what came later a crash keeps a part."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.blocks: list[tuple[Block, Certificate]] = []
        self._unsynced: list[Persist] = []

    def write(self, effect: Persist) -> None:
        self._unsynced.append(effect)

    def sync(self) -> None:
        for effect in self._unsynced:
            if effect.value is None:
                self.kept.pop(effect.key, None)
            else:
                self.kept[effect.key] = effect.value
        self._unsynced.clear()

    def decide(self, effect: Decide) -> None:
        """Block, certificate and what is forgotten, in one transaction."""
        self.sync()
        self.blocks.append((effect.block, effect.certificate))
        for key in effect.forget:
            self.kept.pop(key, None)

    def copy(self) -> "Disk":
        """A backup."""
        copy = Disk()
        copy.kept, copy.blocks = dict(self.kept), list(self.blocks)
        return copy

    def crash(self, random: Random) -> None:
        del self._unsynced[random.randint(0, len(self._unsynced)) :]
        self.sync()


class Node:
    def __init__(self, host: str, members: Members, make_engine: MakeEngine) -> None:
        self.host = host
        self.disk = Disk()
        self.skew = 0  # milliseconds that its clock is ahead
        self.wake: float | None = None
        self.up = False
        self._members = members
        self._make_engine = make_engine

    def boot(self) -> None:
        """A fresh engine and chain, from the disk alone."""
        self.chain = TwinChain(self._members)
        for block, certificate in self.disk.blocks:
            self.chain.append(block, certificate)
        last = self.disk.blocks[-1][1] if self.disk.blocks else None
        self.engine = self._make_engine(self.host, self.chain, dict(self.disk.kept), last)
        self.up = True
