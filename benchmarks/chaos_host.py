"""One host of the chaos driver: production's daemon on a disk and links that can fail, or with a rule left out.

Everything is put in place from outside, here: production code knows neither faults nor mutants.
"""

import argparse
import json
import signal
import threading
import time
from pathlib import Path
from random import Random

import ledger.disk
from agentplatform import daemon, ground
from agentplatform.runners.process import jail
from tests.helpers.custody_mutants import MUTANTS
from tests.helpers.losing_disk import LosingDisk
from tests.helpers.unruly_links import unruly

CLOCK, VIA = "clock-offset", "via.json"  # files in the host's folder: seconds; where to dial whom
LOOK_EVERY = 0.1


def jump(folder: Path) -> None:
    """From now on this process's wall clock follows the file CLOCK."""
    true_time, offset = time.time, [0.0]

    def follow() -> None:
        while True:
            try:
                offset[0] = float((folder / CLOCK).read_text() or 0)
            except (FileNotFoundError, ValueError):
                offset[0] = 0.0
            time.sleep(LOOK_EVERY)

    time.time = lambda: true_time() + offset[0]
    threading.Thread(target=follow, daemon=True).start()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos_host", description=__doc__)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--history", type=Path, required=True)
    parser.add_argument("--seed", required=True, help="of this start of this host")
    parser.add_argument("--parent", type=int, required=True, help="the driver: the host ends with it")
    parser.add_argument("--mutant", choices=MUTANTS)
    options = parser.parse_args()
    jail.die_with_parent(options.parent, signal.SIGKILL)
    random = Random(options.seed)  # noqa: S311
    mutant = MUTANTS.get(options.mutant)
    lacks = () if mutant is None else mutant.disk
    disk = LosingDisk(options.home, random, syncs="syncs" not in lacks, syncs_first="syncs_first" not in lacks)
    ledger.disk.connect = disk.connect
    ground.TlsLinks = unruly(json.loads((options.home / VIA).read_text()), random)  # type: ignore[misc]
    if mutant is not None:
        mutant.apply()
    jump(options.home)
    return daemon.run(options.home, options.history)


if __name__ == "__main__":
    raise SystemExit(main())
