"""The video-decoding service: it is told of a video once, and goes on at the next frame wherever it is.

State is where it is in the video (position.py), and who waits for frames. A file is opened again where it goes on, a
pushed stream travels with the packets that are needed. Frames are answers to "next", or sent to a listener ("play");
each is plain data:

    {"index": 7, "pts": 3584, "seconds": 0.28, "quality": "high", "width": 640, "height": 360, "hash": b"..."}

with "pixels" beside that where they are asked for. `index` counts what was delivered, and only grows. What is done for
all that: worker.py.
"""

from typing import Annotated, Any

import msgspec

from agentplatform.agent import Message
from agentplatform.handlers import handles
from agentplatform.messages import Later
from agents.serving.histogram import told
from agents.video_decoding import limits
from agents.video_decoding.asked import Player, Request, opening
from agents.video_decoding.delivery import Wanted
from agents.video_decoding.device import why_not
from agents.video_decoding.pictures import Pixels
from agents.video_decoding.pipe import Packet, Parameters
from agents.video_decoding.quality import Wish, checked_stay
from agents.video_decoding.video import Video
from agents.video_decoding.worker import WAIT, Worker
from ledger.errors import Misuse, Unavailable


class VideoDecoding(Worker):
    service, version = "video-decoding", "1.0"
    light = False  # it computes: a worker of its own

    @handles("open")
    def open(self, message: Message) -> dict[str, Any]:
        """Another video, from its first frame: SOURCE, as in `init`. Who waits for frames of the old one hears so."""
        begin = opening({"source": message.body})
        video = Video(begin.source or "")
        self._close()
        while self.waiting:
            self.fail(self.waiting.popleft().later, "another video was opened: ask for frames again")
        self.video, self.player = video, None
        return {"source": video.names}

    @handles("next")
    def next(
        self,
        frames: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_FRAMES)] = 1,
        at: int | None = None,
        wait: Annotated[float, msgspec.Meta(ge=0.0, le=60.0)] = WAIT,
        pixels: Pixels = "none",
        hash: bool = True,
        message: Message | None = None,
    ) -> Later:
        """The next frames, {"frames": [..], "index": of the one after them, "end": whether there are no more}. Fewer
        when no more are there within `wait` seconds, or fit into an answer. `at` is the index that the first should
        have: the last answer's, to have it again when it was lost on its way."""
        assert message is not None and message.later is not None
        if len(self.waiting) >= limits.MAX_WAITING:
            self.refused += 1
            raise Unavailable(
                f"{self.name} has {len(self.waiting)} requests waiting, which is all that it takes: ask again later",
                retry_after=0.1,
            )
        self._opened_video()
        wanted = Wanted(pixels, hash)
        self.waiting.append(Request(message.kind, message.later, frames, at, wait, wanted, message.until))
        self._wake_up()
        return message.later

    @handles("push")
    def push(
        self,
        number: Annotated[int, msgspec.Meta(ge=0)],
        packets: Annotated[list[Packet], msgspec.Meta(max_length=limits.MAX_KEPT_PACKETS)],
        stream: Parameters | None = None,
        end: bool = False,
    ) -> int:
        """Packets of the stream 'pipe:', the first of which is its packet `number`. Returns the number of the next."""
        video = self._opened_video()
        taken = video.pipe.push(number, stream, packets, end, self._stuck(video))
        self._wake_up()
        return taken

    @handles("play")
    def play(
        self,
        to: Annotated[str, msgspec.Meta(min_length=1, max_length=128)],
        window: Annotated[int, msgspec.Meta(ge=1, le=limits.MAX_FRAMES)] = 32,
        pixels: Pixels = "none",
        hash: bool = True,
    ) -> int:
        """Frames go to an agent in messages "frames", as answers to 'next' are; it answers each when it wants more. At
        most `window` frames are on their way. Returns the index of the first."""
        video = self._opened_video()
        self.player = Player(to, window, Wanted(pixels, hash))
        self._wake_up()
        return video.position.index

    @handles("stop")
    def stop(self) -> None:
        self.player = None

    @handles("quality")
    def set_quality(self, wish: Wish) -> dict[str, Any]:
        """ "high", "medium", "low", or "auto": by the expected stay. From the next frame that is made ready on."""
        self.wish = wish
        self._wake_up()
        return {"quality": self.quality, "by": "policy" if wish == "auto" else "wish"}

    @handles("stay")
    def stay(
        self, seconds: float | None, host: Annotated[str, msgspec.Meta(max_length=128)] | None = None
    ) -> dict[str, Any]:
        """How long the user is expected to stay with that host (None: this one), in seconds; None: nobody knows."""
        host = host or self.host
        if host not in self.stays and len(self.stays) >= limits.MAX_STAYS:
            raise Misuse(f"stays with {len(self.stays)} hosts are known, which is all that are kept: name one of those")
        self.stays[host] = checked_stay(seconds)
        self._wake_up()
        return {"quality": self.quality}

    @handles("status")
    def status(self) -> dict[str, Any]:
        opened = self._decoder.opened if self._decoder is not None else None
        video = self.video
        return {
            "host": self.host,
            "epoch": self.epoch,
            "source": None if video is None else video.names,
            "index": 0 if video is None else video.position.index,
            "seconds": None if video is None else video.position.seconds,
            "missed": None if video is None else video.missed,
            "quality": self.quality,
            "by": "policy" if self.wish == "auto" else "wish",
            "stay": self.expected_stay(),
            "device": {
                "wished": self.device,
                "decodes_on": opened.by if opened else None,
                "why": why_not(self.device) if opened else "",
            },
            "opened": None if opened is None else msgspec.to_builtins(opened),
            "playing": None if self.player is None else self.player.to,
        }

    @handles("metrics")
    def metrics(self) -> dict[str, Any]:
        """Plain data; the histograms are as `Histogram.as_data`, in milliseconds."""
        return {
            "frames": 0 if self.video is None else self.video.position.index,
            "waiting": len(self.waiting),
            "refused": self.refused,
            "damaged": self.damaged,
            "ahead": len(self._decoder.ready) if self._decoder is not None else 0,
            "latencies": told(self.latencies),
            "decoding": told(self.decoding),
        }
