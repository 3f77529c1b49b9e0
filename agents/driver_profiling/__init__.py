"""Who drives: a service that knows drivers by the signals of their car's bus.

The agent: agent.py answers messages (messages.py), model.py is the network, which needs PyTorch; train.py trains it.
Without PyTorch: can.py says what a window is, ocslab.py reads recorded data, generate.py makes some.
"""

from ledger.errors import Misuse

try:
    import numpy as np  # noqa: F401
except ImportError as error:
    raise Misuse(
        "driver profiling needs NumPy, which is missing: in the folder of these sources, say: pip install '.[torch]'"
    ) from error
