"""The production engine in a seeded world: `run(seed, members)` is one life of a cluster, safe and then live."""

from ledger.simulation.run import Mutant, Result, run

__all__ = ["Mutant", "Result", "run"]
