"""What a request ends with, as HTTP says it. Pure."""

import math
from typing import Any, Literal

import msgspec

from agentplatform.endpoint.asked import Unknown
from agentplatform.endpoint.bodies import JSON, WrongType
from ledger.errors import OutcomeUnknown, PeerFault, PlatformError, Unavailable

Label = Literal[
    "answered", "misuse", "unauthorised", "unknown", "too-large", "busy", "failed", "late", "forwarded", "moving"
]
"""Of a request, in metrics."""


class Outcome(msgspec.Struct, frozen=True):
    status: int
    label: Label
    body: bytes
    type: str = JSON
    headers: dict[str, str] = {}
    final: bool = True  # the agent may have handled it; not: it surely has not

    def repeated(self) -> "Outcome":
        """As it is said to a request that came again."""
        return msgspec.structs.replace(self, headers={**self.headers, "Idempotency-Replayed": "true"})


class Refused(PlatformError):
    """By the endpoint itself, with a status of its own."""

    def __init__(self, status: int, label: Label, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.label = status, label
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def late(message: str) -> Outcome:
    return _error(504, "late", "Unavailable", message)


def forwarded(to: str) -> Outcome:
    return Outcome(307, "forwarded", b"", headers={"Location": to}, final=False)


def of_agent(error: PlatformError) -> Outcome:
    """The agent was asked, and this is what came of it."""
    if isinstance(error, OutcomeUnknown):
        return late(str(error))
    if isinstance(error, Unavailable):
        return _later(error, "busy")
    if isinstance(error, PeerFault):
        return _error(502, "failed", "PeerFault", str(error))
    return _error(400, "misuse", "Misuse", str(error))


def of_endpoint(error: PlatformError) -> Outcome:
    """The agent was not asked."""
    if isinstance(error, Refused):
        kind = "Unavailable" if error.status >= 500 else "Misuse"
        made = _error(error.status, error.label, kind, str(error))
        return msgspec.structs.replace(made, headers=error.headers, final=False)
    if isinstance(error, Unavailable):
        return _later(error, "busy")
    label: Label = "unknown" if isinstance(error, Unknown) else "misuse"
    status = 404 if isinstance(error, Unknown) else 415 if isinstance(error, WrongType) else 400
    return msgspec.structs.replace(_error(status, label, "Misuse", str(error)), final=False)


def moving(message: str, seconds: float) -> Outcome:
    return _later(Unavailable(message, seconds), "moving")


def _later(error: Unavailable, label: Label) -> Outcome:
    seconds = 1.0 if error.retry_after is None else error.retry_after
    made = _error(503, label, "Unavailable", str(error), retry_after=seconds)
    # A header has whole seconds; the body says it more exactly.
    return msgspec.structs.replace(made, headers={"Retry-After": str(math.ceil(seconds))}, final=False)


def _error(status: int, label: Label, kind: str, message: str, **more: Any) -> Outcome:
    return Outcome(status, label, msgspec.json.encode({"error": kind, "message": message, **more}))
