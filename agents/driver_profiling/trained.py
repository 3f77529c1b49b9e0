"""Trained weights as a file: those of the network, and with them the names of the drivers that it knows."""

from pathlib import Path

import numpy as np

from agents.weights import Weights, load, save
from ledger.errors import Misuse

DRIVERS = "drivers"
MAX_DRIVERS = 10_000  # texts without letters take no room in a file: it may claim any number of them


def write(path: Path, weights: Weights, drivers: list[str]) -> None:
    save(path, weights | {DRIVERS: np.array(drivers, np.str_)})


def read(path: Path) -> tuple[Weights, list[str]]:
    """Raises Misuse for a file that is damaged, or has no drivers' names."""
    weights = load(path)
    names = weights.pop(DRIVERS, None)
    if names is None or names.dtype.kind != "U" or names.ndim != 1 or len(names) > MAX_DRIVERS:
        raise Misuse(
            f"{path.name} does not say whom it knows: it has no list of texts {DRIVERS!r}; "
            "train some with python -m agents.driver_profiling.train --out FILE.npz"
        )
    return weights, [str(name) for name in names]
