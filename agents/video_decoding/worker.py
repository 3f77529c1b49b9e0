"""What the video-decoding service does beside its messages: it has a decoder work ahead, and makes answers of
frames."""

import asyncio
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from time import monotonic, time
from typing import Any, ClassVar

from agentplatform.replies import FutureReply
from agentplatform.service_agent import ServiceAgent
from agents.serving.histogram import Histogram
from agents.serving.memory import keep_freed
from agents.video_decoding import limits
from agents.video_decoding.asked import Player, Request, opening
from agents.video_decoding.decoder import Decoder
from agents.video_decoding.delivery import Made, Wanted, deliver, proven
from agents.video_decoding.device import accelerator_of
from agents.video_decoding.quality import Quality, Wish, quality_for
from agents.video_decoding.source import Here
from agents.video_decoding.video import Video
from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable

CHUNK = 16  # frames that are made ready for an answer at a time, while more are decoded
GATHER = 0.02  # seconds that are waited for so many, when there is one
WAIT = 5.0  # seconds


class Worker(ServiceAgent):
    """Subclasses queue a Request, or set a Player, and call `_wake_up`."""

    passing: ClassVar[tuple[str, ...]] = ("_wake", "_decoder", "_since")  # attributes that do not travel

    _wake: asyncio.Event | None = None  # of `run`
    _decoder: Decoder | None = None

    def on_creation(self, init: Any) -> None:
        """`init` is {"source": SOURCE, "quality": "auto", "stay": 20.0, "device": "cpu"}, or parts of it; see
        `asked`."""
        begin = opening({} if init is None else init)
        self.video = None if begin.source is None else Video(begin.source)
        self.wish: Wish = begin.quality or ("high" if begin.stay is None else "auto")
        self.device = begin.device
        self.stays: dict[str, float | None] = {}  # host -> expected stay there, in seconds
        if begin.stay is not None:
            self.stays = dict(begin.stay) if isinstance(begin.stay, dict) else {self.host: begin.stay}
        self.waiting: deque[Request] = deque()
        self.player: Player | None = None
        self.on_their_way: dict[int, tuple[str, int]] = {}  # number of a message -> its listener, and its frames
        self.refused = self.damaged = 0
        self.latencies: dict[str, Histogram] = {}  # by kind of message: from its coming to its answer, on one host
        self.decoding: dict[str, Histogram] = {}  # by quality: of one frame
        self._since = monotonic()

    def on_clone(self) -> None:
        """Who waits for frames waits for the original's."""
        self.waiting.clear()
        self.player = None
        self.on_their_way.clear()

    def expected_stay(self) -> float | None:
        """How long the user will be served from this host, in seconds; None: nobody knows. To be overridden by who
        knows better than the messages "stay"."""
        return self.stays.get(self.host)

    @property
    def quality(self) -> Quality:
        return quality_for(self.expected_stay(), monotonic() - self._since) if self.wish == "auto" else self.wish

    async def run(self) -> None:
        keep_freed()
        self._wake = asyncio.Event()
        try:
            while True:
                self._wake.clear()
                if not await self._serve():
                    await self._wake.wait()
        finally:
            self._close()

    async def _serve(self) -> bool:
        """Whether there was anything to do."""
        if self.waiting:
            await self._answer(self.waiting[0])
        elif self.player is not None and self._has_room(self.player):
            await self._play(self.player)
        else:
            return False
        return True

    async def _answer(self, request: Request) -> None:
        """The request stays in the queue until it is answered: a move in the midst of it takes it along."""
        assert self.video is not None
        begun = False
        try:
            if request.until is not None and request.until <= monotonic():
                raise Unavailable("nobody waits for these frames any more")
            if request.at is not None and self.video.back_to(request.at):
                self._close()
            begun = True
            made = await self._make(request.frames, request.wait, request.wanted)
            if made is None or not self.waiting or self.waiting[0] is not request:
                return  # something else is wanted by now
            self.reply(request.later, self._told(made))
            self._went_on(made)
        except PlatformError as error:
            if begun:
                self._close()
            if not self.waiting or self.waiting[0] is not request:
                return
            self.fail(request.later, error)
        self.waiting.popleft()
        if request.since is not None:
            self.latencies.setdefault(request.kind, Histogram()).observe(monotonic() - request.since)

    def _has_room(self, player: Player) -> bool:
        frames = sum(frames for to, frames in self.on_their_way.values() if to == player.to)
        return frames + player.batch <= player.window

    async def _play(self, player: Player) -> None:
        assert self.video is not None
        try:
            made = await self._make(player.batch, WAIT, player.wanted)
            if made is None or self.player is not player:
                return
            if not (made.frames or self._ended()):
                self._went_on(made)  # of a pushed stream, what was shown before is needed no more
                return
            body = self._told(made)
        except PlatformError as error:
            self._close()
            self.player = None
            body = {"frames": [], "index": self.video.position.index, "end": True, "error": str(error)}
            self.send(player.to, "frames", body)
            return
        number = self.future(player.to, "frames", body, then="on_shown")
        self.on_their_way[number] = (player.to, len(made.frames))
        self._went_on(made)
        if body["end"]:
            self.player = None

    def on_shown(self, reply: FutureReply) -> None:
        """The listener wants more, or has failed."""
        to, _ = self.on_their_way.pop(reply.number, ("", 0))
        try:
            reply.result()
        except PlatformError as error:
            if self.player is not None and self.player.to == to:
                print(f"{to} does not take frames any more: {error}")  # into the agent's log
                self.player = None
        self._wake_up()

    async def _make(self, count: int, wait: float, wanted: Wanted) -> Made | None:
        """The next frames, as plain data; None when another decoder is at work by now. Raises a PlatformError."""
        assert self.video is not None
        quality, until = self.quality, monotonic() + wait
        rendition, scaled = self.video.rendition(quality), self.video.scaled(quality)
        decoder = self._at_work(rendition)
        made = Made([], self.video.position, [], limits.ANSWER_BYTES)
        while len(made.frames) < count:
            if self._decoder is not decoder:
                return None
            portion = min(count - len(made.frames), CHUNK)
            if not decoder.ready:
                if decoder.failure is not None and not made.frames:
                    raise decoder.failure
                if decoder.over or not await self._ready(decoder, 1, until):
                    break
                continue
            await self._ready(decoder, portion, monotonic() + GATHER)
            if not decoder.taken and decoder.opened is not None:
                self.video.opened(rendition, decoder.opened)
                if decoder.opened.live:
                    self.video.reopened(decoder.ready[0], time())
            some = list(islice(decoder.ready, portion))
            more = await _in_thread(deliver, some, made.position, rendition, quality, scaled, wanted, made.room)
            if self._decoder is not decoder:
                return None
            decoder.drop(len(more.frames))
            made = replace(more, frames=made.frames + more.frames, took=made.took + more.took)
            if len(more.frames) < len(some):
                break
        made = await _in_thread(proven, made)
        return made if self._decoder is decoder else None

    async def _ready(self, decoder: Decoder, count: int, until: float) -> bool:
        """Waits for so many frames, or as many as there will be, until that time. False when that has passed."""
        assert self._wake is not None
        decoder.wake_at = count
        while self._decoder is decoder and len(decoder.ready) < count and not (decoder.over or decoder.full):
            self._wake.clear()
            if len(decoder.ready) >= count or decoder.over or decoder.full:
                break
            try:
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + until - monotonic()):
                    await self._wake.wait()
            except TimeoutError:
                return False
        return True

    def _at_work(self, rendition: str) -> Decoder:
        """The decoder that goes on at the position, in that rendition."""
        assert self.video is not None
        decoder = self._decoder
        if decoder is None or decoder.rendition != rendition or (decoder.failure is not None and not decoder.ready):
            self._close()
            loop = asyncio.get_running_loop()
            source, find, device = self.video.renditions[rendition], self.shared_file, self.device
            decoder = self._decoder = Decoder(
                lambda reading: source.open(Here(find, accelerator_of(device), reading)),
                self.video.position,
                rendition,
                self.device,
                lambda: _tell(loop, self._wake_up),
            )
            decoder.start()
        return decoder

    def _close(self) -> None:
        """What is decoded ahead is forgotten; the position is not."""
        decoder, self._decoder = self._decoder, None
        if decoder is not None:
            self.damaged += decoder.damaged
            decoder.stop()

    def _went_on(self, made: Made) -> None:
        """In one step with the answer that has the frames."""
        assert self.video is not None
        self.video.went_on(made.position)
        for frame, took in zip(made.frames, made.took, strict=True):
            self.decoding.setdefault(frame["quality"], Histogram()).observe(took)
        if self._decoder is not None and self._decoder.opened is not None and self._decoder.opened.live:
            self.video.seen_at = time()

    def _told(self, made: Made) -> dict[str, Any]:
        return {"frames": made.frames, "index": made.position.index, "end": self._ended()}

    def _ended(self) -> bool:
        return self._decoder is not None and self._decoder.ended and not self._decoder.ready

    def _stuck(self, video: Video) -> bool:
        """Whether all that its decoder makes of what was pushed is shown, and known to be."""
        decoder = self._decoder
        if decoder is None or not video.pipe.decoded:
            return False
        return decoder.position.index + decoder.taken + len(decoder.ready) == video.before.index

    def _opened_video(self) -> Video:
        if self.video is None:
            raise Misuse(f"{self.name} has no video yet: say 'open' with the name of a file, an address, or 'pipe:'")
        return self.video

    def _wake_up(self) -> None:
        if self._wake is not None:
            self._wake.set()

    def __getstate__(self) -> Any:
        return {name: value for name, value in super().__getstate__().items() if name not in self.passing}

    def __setstate__(self, state: Any) -> None:
        super().__setstate__(state)
        self._since = monotonic()  # where a host was started again, too: nobody knows how long it was down


async def _in_thread(work: Callable[..., Made], *given: Any) -> Made:
    """Whatever it stumbles over is an answer."""
    try:
        return await asyncio.to_thread(work, *given)
    except PlatformError:
        raise
    except Exception as error:
        traceback.print_exc()  # into the agent's log
        raise PeerFault("the decoder", f"gave frames that cannot be delivered: {error!r:.200}") from None


def _tell(loop: asyncio.AbstractEventLoop, wake_up: Callable[[], None]) -> None:
    """From a decoder's thread, which may outlive the agent here."""
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(wake_up)
