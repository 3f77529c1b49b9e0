"""Which video it is, and where in it: the part of the agent that travels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agents.video_decoding.decoder import Decoded, Opened
from agents.video_decoding.pipe import PipeSource
from agents.video_decoding.position import Position
from agents.video_decoding.quality import QUALITIES, Quality
from agents.video_decoding.rtsp import RtspSource
from agents.video_decoding.source import Source, source_of
from ledger.errors import Misuse

ONE = "all"  # the rendition of a video that has one medium for all qualities


class Video:
    """One medium, or three renditions of the same video, one for each quality."""

    def __init__(self, source: str | Mapping[str, str]) -> None:
        """Raises Misuse for what names no source."""
        if isinstance(source, str):
            self.renditions: dict[str, Source] = {ONE: source_of(source)}
        else:
            if set(source) != set(QUALITIES):
                raise Misuse(
                    f"renditions are named for {', '.join(QUALITIES)}, not for {', '.join(sorted(source)) or 'none'}"
                )
            self.renditions = {quality: source_of(source[quality]) for quality in QUALITIES}
            for each in self.renditions.values():
                if isinstance(each, PipeSource | RtspSource):
                    raise Misuse(f"{each.name} cannot be one of three renditions: name files, or what a web server has")
        self.position = Position()
        self.before = Position()  # where the last answer began: for one that was lost on its way
        self.missed: dict[str, Any] | None = None  # how much of a live stream passed unseen, at the last gap
        self.seen_at: float | None = None  # of a live stream: the wall clock when its last frame was delivered

    @property
    def pipe(self) -> PipeSource:
        source = self.renditions.get(ONE)
        if not isinstance(source, PipeSource):
            raise Misuse("this video is not pushed: create the agent with 'pipe:' as source, or 'open' it")
        return source

    @property
    def names(self) -> str | dict[str, str]:
        named = {rendition: source.name for rendition, source in self.renditions.items()}
        return named.get(ONE) or named

    def rendition(self, quality: Quality) -> str:
        return quality if quality in self.renditions else ONE

    def scaled(self, quality: Quality) -> Quality:
        """What is left to do with a rendition's frames."""
        return "high" if quality in self.renditions else quality

    def opened(self, rendition: str, opened: Opened) -> None:
        self.renditions[rendition].identity = self.renditions[rendition].identity or opened.identity

    def reopened(self, first: Decoded, now: float) -> None:
        """A live stream goes on with this frame. `now`: the wall clock."""
        if self.seen_at is None:
            return
        last = self.position.seconds
        if last is not None and first.seconds is not None and first.seconds > last:
            self.missed = {"seconds": first.seconds - last, "by": "timestamps"}
        else:
            self.missed = {"seconds": max(0.0, now - self.seen_at), "by": "clocks"}

    def went_on(self, to: Position) -> None:
        """An answer brought the frames up to there."""
        self.before, self.position = self.position, to
        source = self.renditions.get(ONE)
        if isinstance(source, PipeSource):
            source.forget(self.before)

    def back_to(self, index: int) -> bool:
        """Whether the place has changed: who asks for what the last answer brought has not got it. Raises Misuse."""
        if index == self.position.index:
            return False
        if index != self.before.index:
            raise Misuse(
                f"frame {index} is not next: that is {self.position.index}, or {self.before.index} for the last answer "
                "again"
            )
        self.position = replace(self.before)
        return True
