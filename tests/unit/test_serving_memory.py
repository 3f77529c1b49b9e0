"""Memory that a batch has used is there for the next one, in any thread."""

import subprocess
import sys

import pytest

BLOCKS, BLOCK_BYTES = 24, 3 << 20  # NumPy asks for huge pages for blocks of 4 MiB and more
# Page faults of the second computation in a thread; without `keep_freed` the first one's pages were given back.
PROBE = f"""
import ctypes, resource, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from agents.serving.memory import keep_freed

def compute():
    blocks = [np.ones({BLOCK_BYTES}, np.uint8) for _ in range({BLOCKS})]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

kept = sys.argv[1] == "keep" and keep_freed()
with ThreadPoolExecutor(1) as thread:
    first, second = (thread.submit(compute).result() for _ in range(2))
print(kept, second - first)
"""


@pytest.mark.parametrize("way", ["keep", "as it comes"])
def test_the_pages_of_a_batch_are_used_again(way: str) -> None:
    out = subprocess.run([sys.executable, "-c", PROBE, way], capture_output=True, text=True, check=True).stdout
    kept, faults = out.split()
    if way == "keep" and kept == "False":
        pytest.skip("this C library cannot keep so much")
    again = BLOCKS * BLOCK_BYTES // 4096  # pages
    assert int(faults) < again // 100 if way == "keep" else int(faults) > again // 2
