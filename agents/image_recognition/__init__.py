"""What is in a picture: a service that names objects.

The agent: agent.py answers messages (messages.py), preprocess.py makes pictures what models take, labels.py names what
they find. Two engines: mobilenet.py (PyTorch) for files of weights, onnx_engine.py (ONNX Runtime) for `.onnx` files.
"""

from ledger.errors import Misuse

try:
    import cv2
    import numpy as np  # noqa: F401
except ImportError as error:
    raise Misuse(
        f"image recognition needs OpenCV and NumPy, and {error.name or error} is missing: "
        "in the folder of these sources, say: pip install '.[vision]'"
    ) from error

# A worker is forked from a warm process: OpenCV's thread pool does not survive that, and hangs the child.
cv2.setNumThreads(1)
