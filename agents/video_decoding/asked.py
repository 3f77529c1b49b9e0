"""What an agent is asked that waits to be done, and what it begins with."""

from dataclasses import dataclass
from time import monotonic
from typing import Any

import msgspec

from agentplatform.messages import Later
from agents.video_decoding.delivery import Wanted
from agents.video_decoding.device import checked_device
from agents.video_decoding.quality import QUALITIES, Wish, checked_stay
from ledger.errors import Misuse

BATCH = 8  # frames of one message to a listener


class Begin(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an agent is created with.

    `source`: a file's name, an address ("http://..", "https://..", "rtsp://.."), "pipe:" for a stream that is pushed,
    or three of them by quality, {"high": .., "medium": .., "low": ..}. `stay`: how long the user is expected to stay,
    in seconds, or by host {"east": 20.0}. `quality`: a fixed one, or "auto"; it is that when a stay is given.
    """

    source: str | dict[str, str] | None = None
    quality: Wish | None = None
    stay: float | dict[str, float | None] | None = None
    device: str = "cpu"


def opening(init: Any) -> Begin:
    """Raises Misuse that names what is wrong with it."""
    try:
        begin = msgspec.convert(init, Begin)
    except msgspec.ValidationError as error:
        raise Misuse(
            f"video decoding begins with source, quality ({', '.join(QUALITIES)}, auto), "
            f"stay (seconds, or seconds by host) and device, or some of them: {error}"
        ) from None
    for stay in begin.stay.values() if isinstance(begin.stay, dict) else (begin.stay,):
        checked_stay(stay)
    checked_device(begin.device)
    return begin


class Request:
    """One request for frames, in the queue."""

    def __init__(
        self, kind: str, later: Later, frames: int, at: int | None, wait: float, wanted: Wanted, until: float | None
    ) -> None:
        self.kind, self.later, self.frames, self.at, self.wait, self.wanted = kind, later, frames, at, wait, wanted
        self.since: float | None = monotonic()  # None: it came on another host, whose clock says nothing here
        self.until = until

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "since": None, "until": None}


@dataclass(frozen=True)
class Player:
    """Who gets frames as they come, and how many may be on their way."""

    to: str
    window: int
    wanted: Wanted

    @property
    def batch(self) -> int:
        return min(BATCH, self.window)
