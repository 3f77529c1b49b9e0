"""The user's own process: it films, sends every packet to the face-recognition agent, and keeps every answer.

It knows nothing of hosts and moves: it talks to the agent, wherever that is.
"""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import PlatformError, Unavailable

PACE = 0.08  # seconds from one frame to the next at least: leaves a slow machine room for the hosts
PATIENCE = 30.0  # seconds for one answer, a move included


@dataclass(frozen=True)
class Shot:
    """One frame that was sent, and what came of it."""

    picture: Any  # what was filmed (blue, green, red)
    host: str  # where it was answered
    faces: list[dict[str, Any]]
    sent: float  # seconds since 1970
    answered: float

    @property
    def label(self) -> str | None:
        """Of the largest face that is known; None when no face was, or none was found."""
        return next((face["label"] for face in self.faces if face["label"]), None)


class Film:
    def __init__(self, agent: AgentProxy, packets: Iterator[Any]) -> None:
        self._agent, self._packets = agent, packets
        self._news = threading.Condition()
        self._shots: list[Shot] = []
        self._failure: str | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send_all, name="film", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """The frame that is under way is the last one."""
        self._over.set()
        self._thread.join(PATIENCE)

    def shots(self) -> list[Shot]:
        """All that were answered. Raises Unavailable with the reason when one was not."""
        self._check()
        return self._shots

    def recognised(self, host: str, since: float) -> Shot:
        """Waits for a frame sent after `since` (seconds since 1970) and answered from `host`, with a known face."""
        deadline = time.monotonic() + PATIENCE
        with self._news:
            while True:
                self._check()
                for shot in reversed(self._shots):
                    if shot.host == host and shot.sent >= since and shot.label is not None:
                        return shot
                if not self._news.wait(deadline - time.monotonic()):
                    raise Unavailable(f"nobody was recognised on {host} within {PATIENCE:g} s")

    def _check(self) -> None:
        if self._failure is not None:
            raise Unavailable(self._failure)

    def _send_all(self) -> None:
        for packet in self._packets:
            if self._over.is_set():
                return
            sent = time.time()
            try:
                shot = self._ask(packet, sent)
            except PlatformError as error:
                self._tell(None, str(error))
                return
            self._tell(shot, None)
            self._over.wait(max(0.0, sent + PACE - time.time()))

    def _ask(self, packet: Any, sent: float) -> Shot:
        reply = self._agent.call("packet", {"data": packet.data, "pts": packet.pts}, patience=PATIENCE)
        if reply["pts"] != packet.pts or reply["frame"] != packet.pts + 1:
            raise Unavailable(f"frame {packet.pts} was answered as {reply}: a frame was lost or came twice")
        return Shot(packet.picture, reply["host"], reply["faces"], sent, time.time())

    def _tell(self, shot: Shot | None, failure: str | None) -> None:
        with self._news:
            self._failure = failure
            if shot is not None:
                self._shots.append(shot)
            self._news.notify_all()
