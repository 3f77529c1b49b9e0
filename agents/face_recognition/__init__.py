"""A face-recognition service that moves with its training, and the camera that shows it something to see.

The agent: port.py says what finds faces and tells them apart, engines.py has those that there are (cascade.py and
lbph.py need no weights), gallery.py is who is known, stream.py decodes video, agent.py answers messages. The other
side, used by the user's own process: camera.py films, annotate.py draws the answers.
"""

from pathlib import Path

from ledger.errors import Misuse

try:
    import av  # noqa: F401
    import cv2
    import numpy as np  # noqa: F401
    from cv2.data import haarcascades
except ImportError as error:
    raise Misuse(
        f"face recognition needs OpenCV, NumPy and PyAV, and {error.name or error} is missing: "
        "in the folder of these sources, say: pip install '.[vision]'"
    ) from error
# Looked for, not tried: the package without "contrib" has no LBPH, and OpenCV 5 has no cascades.
if not (hasattr(cv2, "face") and list(Path(haarcascades).glob("*.xml"))):
    raise Misuse(
        f"OpenCV {cv2.__version__} here has no Haar cascades or no LBPH recogniser: remove it, and say in the folder "
        "of these sources: pip install '.[vision]', which brings opencv-contrib-python-headless below 5"
    )

# A worker is forked from a warm process: OpenCV's thread pool does not survive that, and hangs the child.
cv2.setNumThreads(1)
