"""A service tells drivers apart by the signals of their car; it moves with its weights, and answers there as here.

python examples/10_driver_profiling.py
"""

import sys
from importlib.util import find_spec

from agentplatform import connect
from agents.driver_profiling.agent import DriverProfiling
from agents.driver_profiling.can import cut
from agents.driver_profiling.generate import drives

if __name__ == "__main__":
    if find_spec("torch") is None:
        print("this example needs PyTorch: in the folder of these sources, say: pip install '.[torch]'")
        sys.exit()
    (drive,) = drives(seed=1, drivers="A", each=1)  # generated: ten minutes in a car that there never was
    window = cut(drive.samples)[0]
    # Weights by chance; `python -m agents.driver_profiling.train --out FILE.npz` makes better ones.
    service = connect("north").create(DriverProfiling, init={"weights": "random", "seed": 1})
    here = service.call("profile", {"window": window.tobytes()})
    print(f"on {service.host}: driver {here['driver']}, {here['confidence']:.0%} sure, by {here['weights']} weights")
    service.dispatch("south", patience=60)
    there = service.call("profile", {"window": window.tobytes()})
    same = (there["driver"], round(there["confidence"], 4)) == (here["driver"], round(here["confidence"], 4))
    print(f"on {service.host}: {'the same' if same else there}")
    service.dispose()
