"""Errors as plain data: in answers to messages, for sockets and links. No exception class travels. Pure."""

from collections.abc import Callable
from typing import Any

import msgspec

from ledger import codec
from ledger.errors import Misuse, OutcomeUnknown, PeerFault, PlatformError, Unavailable

MAX_RETRY_AFTER = 366 * 86_400.0  # seconds
MAX_TEXT = 64 * 1024  # characters of an error in an answer


class _Said(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Misuse or Unavailable in an answer; of every other error it has the text alone."""

    text: str
    later: bool  # Unavailable
    retry_after: float | None = None
    unknown: bool = False  # whether it was done


_ERROR: Any = str | _Said
Kind = Callable[[str, str], PlatformError]


def error_body(error: PlatformError | str) -> bytes:
    """The body of an answer that is an error."""
    text = printable(str(error)[:MAX_TEXT])
    if isinstance(error, Unavailable):
        return codec.encode(_Said(text, True, _seconds(error.retry_after), isinstance(error, OutcomeUnknown)))
    if isinstance(error, Misuse):
        return codec.encode(_Said(text, False))
    return codec.encode(text)


def error_in(body: bytes, agent: str, failed: Kind = PeerFault, refused: Kind | None = None) -> PlatformError:
    """What such a body from `agent` says: Unavailable or OutcomeUnknown; `refused(agent, text)` where it said
    Misuse; of all else `failed(agent, text)`. Raises PeerFault for bytes that say nothing. A time that is none
    counts as not given."""
    said: str | _Said = codec.decode(body, _ERROR, agent)
    if isinstance(said, str):
        return failed(agent, said)
    if said.later:
        return _later(said.unknown)(f"{agent}: {said.text}", _seconds(said.retry_after))
    return (refused or failed)(agent, said.text)


def misuse(agent: str, text: str) -> Misuse:
    """For who asked in person: an agent's error is about what it was asked."""
    return Misuse(f"{agent}: {text}")


def as_data(error: PlatformError) -> dict[str, Any]:
    kind = next(each for each in (Misuse, PeerFault, OutcomeUnknown, Unavailable) if isinstance(error, each))
    return {"error": kind.__name__, "message": str(error), "retry_after": getattr(error, "retry_after", None)}


def as_error(data: dict[str, Any]) -> PlatformError:
    message = str(data.get("message"))
    if data.get("error") == "Misuse":
        return Misuse(message)
    if data.get("error") == "PeerFault":
        peer, _, rest = message.partition(": ")
        return PeerFault(peer, rest)
    return _later(data.get("error") == "OutcomeUnknown")(message, _seconds(data.get("retry_after")))


def _later(unknown: bool) -> type[Unavailable]:
    return OutcomeUnknown if unknown else Unavailable


def printable(text: str) -> str:
    """Text that can be encoded: an exception's words may have lone surrogates in them."""
    return text.encode(errors="backslashreplace").decode()


def _seconds(value: Any) -> float | None:
    """A time after which to come again; None for what is no such time, NaN too."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_RETRY_AFTER:
        return None
    return float(value)
