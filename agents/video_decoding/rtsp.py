"""A live stream of a camera (RTSP, RFC 2326, its packets inside the one TCP connection).

Nothing brings back what passes while the agent moves: it connects anew, and says how much is missing. A feeder beside
the camera, which pushes packets, loses nothing (pipe.py).
"""

from typing import Any
from urllib.parse import urlsplit

from agents.video_decoding.media import Container, Medium, Reach
from ledger.errors import Misuse

# "rtp" is what the demuxer speaks inside; of protocols that open something, TCP alone: an answer of the server that
# names another way, or another kind of address, leads nowhere.
OPTIONS = {"rtsp_transport": "tcp", "format_whitelist": "rtsp,rtp", "protocol_whitelist": "rtsp,rtp,tcp"}


class RtspSource:
    def __init__(self, name: str) -> None:
        self.name, self.identity = name, ""
        parts = urlsplit(name)
        if not parts.hostname or parts.port == 0:
            raise Misuse(f"{name:.200} is no address of a camera: write rtsp://host[:port]/path")

    def open(self, here: Any) -> Medium:
        return Container(self.name, self.name, reach=Reach.NOTHING, accelerator=here.accelerator, **OPTIONS)
