"""Errors as plain data: for sockets and links, over which no exception class travels."""

from typing import Any

from ledger.errors import Misuse, PeerFault, PlatformError, Unavailable


def as_data(error: PlatformError) -> dict[str, Any]:
    kind = "Misuse" if isinstance(error, Misuse) else "PeerFault" if isinstance(error, PeerFault) else "Unavailable"
    return {"error": kind, "message": str(error), "retry_after": getattr(error, "retry_after", None)}


def as_error(data: dict[str, Any]) -> PlatformError:
    message = str(data.get("message"))
    if data.get("error") == "Misuse":
        return Misuse(message)
    if data.get("error") == "PeerFault":
        peer, _, rest = message.partition(": ")
        return PeerFault(peer, rest)
    return Unavailable(message, data.get("retry_after"))
