"""Trains DeepConvLSTM: `python -m agents.driver_profiling.train --out FILE.npz [--csv FILE]`

Without a CSV file of the OCSLab form (ocslab.py) it is trained on generated data (generate.py). The last drive of each
driver is held out, and what is printed is how many of its windows are recognised.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.device import pick
from agents.driver_profiling import generate, ocslab, trained
from agents.driver_profiling.can import cut
from agents.driver_profiling.model import DeepConvLSTM, Network, arrays_of
from agents.driver_profiling.ocslab import Drive
from agents.weights import Weights
from ledger.errors import Misuse, PlatformError

BATCH = 64
RATE = 2e-3  # of Adam


def split(drives: Sequence[Drive]) -> tuple[list[Drive], list[Drive]]:
    """(to learn from, to judge by): the last drive of each driver is held out. Raises Misuse when one has no other."""
    last = {drive.driver: at for at, drive in enumerate(drives)}
    learn = [drive for at, drive in enumerate(drives) if at not in last.values()]
    for driver in sorted(last.keys() - {drive.driver for drive in learn}):
        raise Misuse(f"driver {driver!r} has one drive alone, so none can be held out: add another, or leave it out")
    return learn, [drives[at] for at in sorted(last.values())]


def examples(drives: Sequence[Drive], drivers: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Windows, and of each the place of its driver."""
    windows = [cut(drive.samples) for drive in drives]
    who = [np.full(len(part), drivers.index(drive.driver)) for part, drive in zip(windows, drives, strict=True)]
    return np.concatenate(windows), np.concatenate(who).astype(np.int64)


def train(drives: Sequence[Drive], drivers: Sequence[str], rounds: int, filters: int, units: int, seed: int) -> Weights:
    windows, who = examples(drives, drivers)
    if not len(windows):
        raise Misuse("no drive is as long as one window: there is nothing to learn from")
    torch.manual_seed(seed)
    order = np.random.default_rng(seed)
    module = DeepConvLSTM(len(drivers), filters, units)
    module.mean = torch.from_numpy(windows.mean((0, 1)))
    module.deviation = torch.from_numpy(np.maximum(windows.std((0, 1)), 1e-3))
    learner = torch.optim.Adam(module.parameters(), RATE)
    for _ in range(rounds):
        for at in np.array_split(order.permutation(len(windows)), max(1, len(windows) // BATCH)):
            learner.zero_grad()
            loss = nn.functional.cross_entropy(module(torch.from_numpy(windows[at])), torch.from_numpy(who[at]))
            loss.backward()
            learner.step()
    return arrays_of(module)


def accuracy(weights: Weights, drives: Sequence[Drive], drivers: Sequence[str]) -> float:
    """The share of windows whose driver is recognised."""
    windows, who = examples(drives, drivers)
    network = Network(weights, pick("cpu"))
    found = np.concatenate([network(part).argmax(1) for part in np.array_split(windows, len(windows) // BATCH + 1)])
    return float((found == who).mean())


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m agents.driver_profiling.train", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="file of the weights (.npz)")
    parser.add_argument("--csv", type=Path, help="OCSLab's driving data; without it, data are generated")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8, help="how often each window is learnt from")
    parser.add_argument("--filters", type=int, default=32, help="of each convolution (the paper: 64)")
    parser.add_argument("--units", type=int, default=64, help="of each recurrent layer (the paper: 128)")
    options = parser.parse_args(arguments)
    try:
        drives = generate.drives(options.seed) if options.csv is None else ocslab.load(options.csv)
        drivers = sorted({drive.driver for drive in drives})
        learn, held_out = split(drives)
        weights = train(learn, drivers, options.rounds, options.filters, options.units, options.seed)
        trained.write(options.out, weights, drivers)
    except PlatformError as error:
        print(error, file=sys.stderr)
        return 1
    what = "generated data, which say nothing of people" if options.csv is None else options.csv.name
    share = accuracy(weights, held_out, drivers)
    print(f"{100 * share:.1f} % of the windows of drives that were held out, {len(drivers)} drivers, {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
