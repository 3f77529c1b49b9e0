"""The agent that stands for a user: it stays near, keeps the session, and knows what the services saw."""

from typing import Any

from agentplatform.agent import Message
from agentplatform.user_agent import UserAgent
from ledger.errors import Misuse


class FaceUser(UserAgent):
    """Messages: "session" {user, label} opens one, and without a body tells how it goes; "saw" {label, frame} is what
    a service reports. A session: who the user is, whom the camera should see, how often it was that person, how often
    another, the last report, and the hosts on the way. `init` is the user's name, or opens a session as the
    message does."""

    light = True

    def on_creation(self, init: Any) -> None:
        super().on_creation(init)
        self.session: dict[str, Any] | None = None
        self.hosts = [self.host]
        if not isinstance(init, str):
            self._open(init)

    def handle_message(self, message: Message) -> Any:
        match message.kind:
            case "session":
                if message.body is not None:
                    self._open(message.body)
            case "saw":
                self._note(message.body)
            case _:
                raise Misuse(f"a user agent knows no message {message.kind!r}: send 'session' or 'saw'")
        return {**self._current(), "hosts": self.hosts}

    def on_arrival(self, arrival: Any) -> None:
        self.hosts.append(arrival.host)

    def _open(self, body: Any) -> None:
        match body:
            case {"user": self.user, "label": str(label), **other} if not other:
                self.session = {"user": self.user, "label": label, "expected": 0, "others": 0, "last": None}
            case _:
                whom = f"'user', which is {self.user!r} here"
                raise Misuse(f"a session takes {whom}, and 'label', the person whom the camera should see")

    def _note(self, body: Any) -> None:
        session = self._current()
        match body:
            case {"label": str(label), "frame": int(frame), **other} if not other:
                session["expected" if label == session["label"] else "others"] += 1
                session["last"] = {"label": label, "frame": frame}
            case _:
                raise Misuse("'saw' takes 'label', a text, and 'frame', a number")

    def _current(self) -> dict[str, Any]:
        if self.session is None:
            raise Misuse("no session is open: send 'session' with 'user' and 'label' first")
        return self.session
