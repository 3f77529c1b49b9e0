"""Bodies of requests and answers, as the client has them; the endpoint's side is agentplatform.endpoint.bodies."""

import base64
import contextlib
import json
from typing import Any

from agentplatform.requests.connections import Response
from ledger.errors import Misuse, PeerFault

ACCEPT = "application/octet-stream, application/json"
MAX_JSON = 1 << 20  # bytes: endpoints read no more of it
_MARK = "$bytes"


class _NotInJson(Exception):
    """An object looks as bytes do there."""


def encoded(body: Any) -> tuple[str, bytes]:
    """Its type, and the body. Raises Misuse for what is no plain data."""
    if isinstance(body, bytes):
        return "application/octet-stream", body
    try:
        with contextlib.suppress(_NotInJson):
            text = json.dumps(_marked(body), allow_nan=False).encode()
            if len(text) <= MAX_JSON:
                return "application/json", text
        import msgspec  # not of the standard library, but the platform has it

        return "application/msgpack", msgspec.msgpack.encode(body)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Misuse(f"a request's body is plain data: {error}") from None


def decoded(address: str, response: Response) -> Any:
    """Raises PeerFault for an answer that cannot be read."""
    kind = response.headers.get("Content-Type", "")
    if kind == "application/octet-stream":
        return response.body
    try:
        if kind == "application/msgpack":  # what is large is not given as JSON
            import msgspec  # not of the standard library, but the platform has it

            return msgspec.msgpack.decode(response.body)
        return json.loads(response.body, object_hook=_unmarked)
    except (TypeError, ValueError, RecursionError) as error:
        raise PeerFault(address, f"sent an answer that cannot be read: {error}") from None


def refusal(response: Response) -> tuple[str, float]:
    """What a 503 says, and how many seconds to wait."""
    told = said(response)
    try:
        seconds = float(told.get("retry_after", response.headers.get("Retry-After", "1")))
    except (TypeError, ValueError):
        seconds = 1.0
    return str(told.get("message", "it is not available")), max(0.01, seconds) if seconds >= 0 else 1.0


def said(response: Response) -> dict[str, Any]:
    """An error's body."""
    try:
        told = json.loads(response.body)
    except (ValueError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {}


def _marked(value: Any) -> Any:
    if isinstance(value, bytes):
        return {_MARK: base64.b64encode(value).decode()}
    if isinstance(value, dict):
        if value.keys() == {_MARK}:
            raise _NotInJson
        return {name: _marked(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_marked(each) for each in value]
    return value


def _unmarked(value: dict[str, Any]) -> Any:
    return base64.b64decode(value[_MARK], validate=True) if value.keys() == {_MARK} else value
