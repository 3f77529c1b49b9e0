"""Bodies of requests and answers: JSON, MessagePack or bytes outside, MessagePack of plain data inside. Pure.

JSON has no bytes: an object with the single key "$bytes", whose value is base64 (RFC 4648), stands for them, in
requests and in answers. An answer with such an object of its own goes as MessagePack.
"""

import base64
import binascii
from typing import Any

import msgspec

from ledger import codec
from ledger.errors import Misuse, PeerFault

JSON, MSGPACK, BYTES = "application/json", "application/msgpack", "application/octet-stream"
MAX_JSON = 1 << 20  # bytes: it is read while the host does nothing else
MAX_DEPTH = 100
_MARK = "$bytes"
_BYTES = (b"\xc4", b"\xc5", b"\xc6")  # MessagePack of bytes begins so


class _NotInJson(Exception):
    """An object looks as bytes do there."""


class WrongType(Misuse):
    """A body of a type that is not taken."""


def taken(content_type: str, body: bytes) -> bytes:
    """The body of a request as that of a letter. Raises WrongType, or Misuse for what is not of the type it says."""
    kind = content_type.partition(";")[0].strip().lower()
    if not kind and not body:
        return codec.encode(None)
    if kind == JSON:
        return _from_json(body)
    if kind in (MSGPACK, "application/x-msgpack"):
        return _from_msgpack(body)
    if kind == BYTES or kind.startswith("image/"):
        return codec.encode(body)
    raise WrongType(f"a body is {JSON}, {MSGPACK}, {BYTES} or image/..: say which as its Content-Type")


def given(body: bytes, accept: str, agent: str) -> tuple[str, bytes]:
    """The type and the body of an answer, from that of a reply. Raises PeerFault for one that is no plain data.

    What is above MAX_JSON, or cannot be told from bytes in JSON, comes as MessagePack, whatever was asked.
    """
    wanted = _wanted(accept)
    bare = wanted == BYTES and body[:1] in _BYTES
    if wanted == MSGPACK or (len(body) > MAX_JSON and not bare):  # all but bytes could take 70 times its size
        return MSGPACK, body
    value = codec.decode(body, object, agent)
    if wanted == BYTES and isinstance(value, bytes):
        return BYTES, value
    try:
        return JSON, msgspec.json.encode(_marked(value, 0))
    except _NotInJson:
        return MSGPACK, body
    except (TypeError, ValueError, RecursionError) as error:
        raise PeerFault(agent, f"answered with what JSON cannot say: {error}; ask for {MSGPACK}") from None


def _wanted(accept: str) -> str:
    """The first of ours that is named; weights are not heeded."""
    for each in accept.split(","):
        name = each.partition(";")[0].strip().lower()
        if name == "application/x-msgpack":
            return MSGPACK
        if name in (JSON, MSGPACK, BYTES):
            return name
    return JSON


def _from_json(body: bytes) -> bytes:
    if len(body) > MAX_JSON:
        raise Misuse(
            f"JSON of {len(body)} bytes is not read, of at most {MAX_JSON}: send {MSGPACK}, or the bytes alone"
        )
    try:
        return codec.encode(_unmarked(msgspec.json.decode(body), 0))
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise Misuse(f"the body is no JSON: {error}") from None


def _from_msgpack(body: bytes) -> bytes:
    """Walked, not decoded: that could take 70 times its size in memory. Whose text is no UTF-8, the agent says so."""
    try:
        _walker.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Misuse(f"the body is no MessagePack: {error}") from None
    return body


_walker = msgspec.msgpack.Decoder(msgspec.Raw)


def _unmarked(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise Misuse(f"a body is at most {MAX_DEPTH} lists and objects deep")
    if isinstance(value, list):
        return [_unmarked(each, depth + 1) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {_MARK}:
        try:
            return base64.b64decode(value[_MARK], validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise Misuse(f'{{"{_MARK}": ..}} has base64 as its value') from None
    return {name: _unmarked(each, depth + 1) for name, each in value.items()}


def _marked(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ValueError(f"it is more than {MAX_DEPTH} lists and objects deep")
    if isinstance(value, bytes):
        return {_MARK: base64.b64encode(value).decode()}
    if isinstance(value, list | tuple):
        return [_marked(each, depth + 1) for each in value]
    if isinstance(value, dict):
        if value.keys() == {_MARK}:
            raise _NotInJson
        return {name if isinstance(name, str) else str(name): _marked(each, depth + 1) for name, each in value.items()}
    return value
