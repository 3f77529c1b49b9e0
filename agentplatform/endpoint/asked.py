"""What somebody asks of the endpoint: the path, the query and the headers of a request, read and checked. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args
from urllib.parse import parse_qsl, quote, unquote

import msgspec

from agentplatform.kinds import Query, check_name, query
from agentplatform.mail import check
from agentplatform.parcel.manifest import AGENT_ID, NAME
from agentplatform.settings import Http, Moving
from ledger.errors import Misuse

Target = Literal["agents", "services"]
_KEY = re.compile(r"[\x21-\x7e]{1,128}")
_INCARNATION = re.compile(r"[0-9a-f]{16}")
_QUERY = {"agents": {"timeout", "moving"}, "services": {"timeout", "moving", "version", "owner"}}
MAX_PATH = 2048  # characters, with the query


class Unknown(Misuse):
    """There is no such thing here; nothing was asked."""


class Asked(msgspec.Struct, frozen=True):
    target: Target
    name: str  # an agent's id or name, or a service's
    kind: str
    moving: Moving
    seconds: float  # that it waits for the answer
    key: str | None = None  # the Idempotency-Key
    incarnation: str | None = None  # of the endpoint, without which it must not be done
    query: Query | None = None  # of a service

    def path(self, agent: str, seconds: float) -> str:
        """Where the same is asked of this agent on another host, with the time that is left."""
        return f"/agents/{agent}/{quote(self.kind, safe='')}?timeout={max(seconds, 0.001):.3f}&moving={self.moving}"


class _Path(NamedTuple):
    target: Target
    name: str
    kind: str


def read(target: str, headers: Mapping[str, str], settings: Http) -> Asked:
    """`target` as it stands in the request's first line. Raises Unknown for a path that leads nowhere, Misuse for what
    nobody can ask."""
    raw, _, words = target.partition("?")
    path = _path(raw)
    check(path.kind, b"")
    said = _query(words, _QUERY[path.target])
    preferred = _preferences(headers.get("Prefer", ""))
    moving = said.get("moving", preferred.get("moving", settings.moving))
    if moving not in get_args(Moving):
        raise Misuse(f"moving is one of {', '.join(get_args(Moving))}, not {moving!r:.40}")
    chosen = cast(Moving, moving)
    seconds = _seconds(said.get("timeout", preferred.get("wait")), settings)
    key = headers.get("Idempotency-Key")
    if key is not None and not _KEY.fullmatch(key):
        raise Misuse("an Idempotency-Key has 1 to 128 visible ASCII characters")
    incarnation = headers.get("Incarnation")
    if incarnation is not None and not _INCARNATION.fullmatch(incarnation):
        raise Misuse("an Incarnation is 16 hexadecimal digits, as the endpoint gave it")
    wanted = query(path.name, said.get("version"), said.get("owner")) if path.target == "services" else None
    return Asked(*path, chosen, seconds, key, incarnation, wanted)


def _path(raw: str) -> _Path:
    """Each part is decoded once, after the path was split: what is encoded in a name cannot add a part."""
    empty, *parts = raw.split("/")
    if empty or len(parts) != 3 or len(raw) > MAX_PATH:
        raise Unknown("ask POST /agents/ID-OR-NAME/KIND or POST /services/SERVICE/KIND")
    try:
        target, name, kind = (unquote(part, errors="strict") for part in parts)
    except UnicodeDecodeError:
        raise Misuse("a path's percent signs stand for UTF-8") from None
    if target not in get_args(Target) or not kind.isprintable():
        raise Unknown("ask POST /agents/ID-OR-NAME/KIND or POST /services/SERVICE/KIND")
    if target == "agents" and not AGENT_ID.fullmatch(name) and not NAME.fullmatch(name):
        raise Unknown(f"{name!r:.80} is neither an agent's id nor a name")
    if target == "services":
        try:
            check_name(name)
        except ValueError as error:
            raise Unknown(str(error)) from None
    return _Path(target, name, kind)  # type: ignore[arg-type]  # one of them


def _query(words: str, known: set[str]) -> dict[str, str]:
    if not words:
        return {}
    try:
        said = parse_qsl(words, keep_blank_values=True, strict_parsing=True, errors="strict", max_num_fields=8)
    except (ValueError, UnicodeDecodeError):
        raise Misuse(f"the query is name=value&name=value, with {', '.join(sorted(known))}") from None
    if len({name for name, _ in said}) != len(said) or not {name for name, _ in said} <= known:
        raise Misuse(f"a query has each of {', '.join(sorted(known))} once, and no others")
    return dict(said)


def _preferences(words: str) -> dict[str, str]:
    """Of a Prefer header (RFC 7240): those that are unknown are not heeded, of two alike the first counts."""
    found: dict[str, str] = {}
    for each in words.split(","):
        name, _, value = each.partition(";")[0].partition("=")
        found.setdefault(name.strip().lower(), value.strip().strip('"'))
    return found


def _seconds(said: str | None, settings: Http) -> float:
    if said is None:
        return settings.patience
    try:
        seconds = float(said)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= settings.longest:  # also for NaN
        raise Misuse(f"a request waits above 0 and at most {settings.longest:g} seconds, not {said!r:.40}")
    return seconds
