"""One simulated host: a disk that survives, and an engine and a chain that do not."""

from collections.abc import Callable, Mapping
from random import Random

from ledger.block import Block
from ledger.certificate import Certificate, Members
from ledger.consensus.engine import Decide, Engine, Persist
from ledger.simulation.twins import TwinChain

MakeEngine = Callable[[str, TwinChain, Mapping[str, bytes], Certificate | None], Engine]


class Disk:
    """Keeps what was written before the last barrier; of what came later a crash keeps a part.

    It stands for ledger.store, with one more fault: there a step of the engine is written whole or not at all, here it
    may be torn between any two effects. tests/simulated/test_replica_lives.py has the store itself, on a lossy disk.
    """

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.blocks: list[tuple[Block, Certificate]] = []
        self._unsynced: list[Persist | Decide] = []

    @property
    def is_busy(self) -> bool:
        return bool(self._unsynced)

    def write(self, effect: Persist | Decide) -> None:
        self._unsynced.append(effect)

    def sync(self) -> list[Decide]:
        """What became durable of the decisions."""
        written, self._unsynced = self._unsynced, []
        for effect in written:
            match effect:
                case Decide(block, certificate, forget):  # in one transaction
                    self.blocks.append((block, certificate))
                    for key in forget:
                        self.kept.pop(key, None)
                case Persist(key, None):
                    self.kept.pop(key, None)
                case Persist(key, bytes(value)):
                    self.kept[key] = value
        return [effect for effect in written if isinstance(effect, Decide)]

    def copy(self) -> "Disk":
        """A backup."""
        copy = Disk()
        copy.kept, copy.blocks = dict(self.kept), list(self.blocks)
        return copy

    def crash(self, random: Random) -> list[Decide]:
        del self._unsynced[random.randint(0, len(self._unsynced)) :]
        return self.sync()


class Node:
    def __init__(self, host: str, members: Members, make_engine: MakeEngine) -> None:
        self.host = host
        self.disk = Disk()
        self.skew = 0  # milliseconds that its clock is ahead
        self.wake: float | None = None
        self.restored_at = 0.0  # seconds; messages of before are lost with the links that they were on
        self.up = False
        self._key = host  # the name of its key
        self._members = members
        self._make_engine = make_engine

    def boot(self) -> None:
        """A fresh engine and chain, from the disk alone."""
        self.chain = TwinChain(self._members)
        for block, certificate in self.disk.blocks:
            self.chain.append(block, certificate)
        last = self.disk.blocks[-1][1] if self.disk.blocks else None
        self._key = self.chain.key_name(self.host)
        self.engine = self._make_engine(self.host, self.chain, dict(self.disk.kept), last)
        self.up = True

    @property
    def has_new_key(self) -> bool:
        """Its key was rotated since it started."""
        return self.chain.key_name(self.host) != self._key
