"""What could be otherwise in a snapshot: hosts gone or added, and single numbers. Pure."""

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec.structs import replace

from ledger.errors import Misuse
from services.eds.snapshot import Host, Link, Snapshot
from services.eds.whatif import check

_KINDS = (int, float, bool, str, float | None)
_NAMES = ("host", "source", "destination", "reason", "height")  # text and numbers that say what a thing is


def altered(
    snapshot: Snapshot, sets: Iterable[str] = (), without: Iterable[str] = (), adds: Iterable[str] = ()
) -> Snapshot:
    """With all of these changes: hosts are added first ("NAME=LIKE"), numbers set then, hosts left out last. Raises
    Misuse for what is not there, or cannot be."""
    for each in adds:
        name, _, like = each.partition("=")
        if not name or not like:
            raise Misuse(f"{each!r} adds no host; write NAME=HOST, for a host NAME that is as HOST is")
        snapshot = _added(snapshot, name, like)
    for each in sets:
        snapshot = _changed(snapshot, each)
    for each in without:
        snapshot = _without(snapshot, each)
    try:
        check(snapshot)
    except ValueError as error:
        raise Misuse(f"that cannot be: {error}") from None
    return snapshot


def _without(snapshot: Snapshot, name: str) -> Snapshot:
    """As if the ledger trusted `name` no more: nobody stays there, goes there, or passes through."""
    host = _host(snapshot, name)
    verdict = replace(host.verdict, trusted=False, reason="it is left out of this question")
    return _with_host(snapshot, replace(host, verdict=verdict))


def _added(snapshot: Snapshot, name: str, like: str) -> Snapshot:
    """With one host more, `name`: it has what `like` has, its links, and its nearness to users, but no agents."""
    model = _host(snapshot, like)
    if any(host.host == name for host in snapshot.hosts):
        raise Misuse(f"there is a host {name!r} in the snapshot; give the added one another name")
    links = list(snapshot.links)
    for link in snapshot.links:
        if link.source == like:
            links.append(replace(link, source=name))
        if link.destination == like:
            links.append(replace(link, destination=name))
    links += [Link(like, name, 0.0, 0.0), Link(name, like, 0.0, 0.0)]
    access = {
        user: tuple(
            sorted(
                (*heard, *(replace(each, host=name) for each in heard if each.host == like)), key=lambda each: each.host
            )
        )
        for user, heard in snapshot.access.items()
    }
    host = replace(model, host=name, verdict=replace(model.verdict, host=name), task_weight=0.0)
    hosts = tuple(sorted((*snapshot.hosts, host), key=lambda each: each.host))
    return replace(snapshot, hosts=hosts, links=tuple(links), access=access)


def _changed(snapshot: Snapshot, what: str) -> Snapshot:
    """With one number changed: "host.NAME.cpu_free=0.1", "link.FROM:TO.rtt_ms=80", "access.USER:HOST.rtt_ms=3"."""
    path, is_set, value = what.partition("=")
    kind, _, rest = path.partition(".")
    name, _, field = rest.rpartition(".")
    if not is_set or not name or kind not in ("host", "link", "access"):
        forms = "host.NAME.cpu_free=0.1, link.FROM:TO.rtt_ms=80 or access.USER:HOST.rtt_ms=3"
        raise Misuse(f"{what!r} changes nothing that is known; write it as {forms}")
    if kind == "host":
        return _with_host(snapshot, _host_with(_host(snapshot, name), field, value))
    one, _, other = name.rpartition(":")
    if kind == "link":
        links = tuple(
            _set(link, field, value) if (link.source, link.destination) == (one, other) else link
            for link in snapshot.links
        )
        if not any((link.source, link.destination) == (one, other) for link in links):
            raise Misuse(f"the snapshot has no link from {one!r} to {other!r}; links lead one way")
        return replace(snapshot, links=links)
    if not any(access.host == other for access in snapshot.access.get(one, ())):
        raise Misuse(f"the access point of {one!r} measured no host {other!r}; users: {', '.join(snapshot.access)}")
    heard = tuple(_set(each, field, value) if each.host == other else each for each in snapshot.access[one])
    return replace(snapshot, access=snapshot.access | {one: heard})


def _host_with(host: Host, field: str, value: str) -> Host:
    if field in ("task_weight", "experience", "closed"):
        return _set(host, field, value)
    if field == "trusted":
        return replace(host, verdict=_set(host.verdict, field, value))
    if host.resources is None:
        raise Misuse(f"{host.host} had sent no fresh advert; its {field} cannot be changed")
    return replace(host, resources=_set(host.resources, field, value))


def _set(thing: Any, field: str, value: str) -> Any:
    """The same with one field changed, checked as at birth."""
    fields = {each.name: each.type for each in msgspec.structs.fields(thing)}
    settable = [name for name, kind in fields.items() if kind in _KINDS and name not in _NAMES]
    if field not in settable:
        raise Misuse(f"there is no {field!r} to change there; there are: {', '.join(settable)}")
    try:
        plain = msgspec.to_builtins(thing) | {field: msgspec.convert(value, fields[field], strict=False)}
        made = msgspec.convert(plain, type(thing))
    except ValueError as error:  # ValidationError is one
        raise Misuse(f"{field} cannot be {value!r}: {error}") from None
    return made


def _host(snapshot: Snapshot, name: str) -> Host:
    found = next((host for host in snapshot.hosts if host.host == name), None)
    if found is None:
        known = ", ".join(host.host for host in snapshot.hosts[:20])
        raise Misuse(f"there is no host {name!r} in the snapshot; there are: {known}")
    return found


def _with_host(snapshot: Snapshot, changed: Host) -> Snapshot:
    return replace(snapshot, hosts=tuple(changed if host.host == changed.host else host for host in snapshot.hosts))
