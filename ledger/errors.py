"""The three kinds of error. Each message says what happened, to what, and what to do next."""


class PlatformError(Exception):
    """Any failure that this platform names itself; everything else is a bug."""


class Misuse(PlatformError):
    """The caller's fault: a wrong argument, name or order of calls. Retrying changes nothing."""


class PeerFault(PlatformError):
    """A named peer sent something that it must not send, or that cannot be read."""

    def __init__(self, peer: str, message: str) -> None:
        super().__init__(f"{peer}: {message}")
        self.peer = peer


class Unavailable(PlatformError):
    """Not now. `retry_after` is in seconds; None when it depends on something else (said in the message)."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutcomeUnknown(Unavailable):
    """It may have been done, or may still be, and nobody can know: who asks again may have it done twice."""
