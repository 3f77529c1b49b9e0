"""A video-decoding service that goes on at the next frame wherever it is.

What is opened: source.py (the port, and the table of kinds: file.py, http.py, rtsp.py, pipe.py), media.py opens it
under limits. position.py says which frame comes next, quality.py how much of a picture. decoder.py decodes ahead in a
thread, pictures.py makes answers of frames, agent.py answers messages. The other side, used by a client: feeder.py.
"""

from ledger.errors import Misuse

try:
    import av  # noqa: F401
    import cv2
    import numpy as np  # noqa: F401
except ImportError as error:
    raise Misuse(
        f"video decoding needs PyAV, NumPy and OpenCV, and {error.name or error} is missing: "
        "in the folder of these sources, say: pip install '.[vision]'"
    ) from error

# A worker is forked from a warm process: OpenCV's thread pool does not survive that, and hangs the child.
cv2.setNumThreads(1)
