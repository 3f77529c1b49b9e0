"""Which hosts are heard, and since when one is not. Pure: time is an argument, in seconds since 1970.

A host is online while there is a link to it and its adverts come: one that is stopped, or hangs, keeps its links. Who
is not heard is offline, and no more is known: it may live on, cut off from here. What it has is started nowhere else
on that account; only the fence of held custody says when that is safe (custody.votes).
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from services.eds.events import HostDraining, HostOffline, HostOpened

AFTER = 5.0  # seconds offline until the EDS hears of it: a link that comes back at once is no news
News = HostDraining | HostOpened | HostOffline


class _Seen(msgspec.Struct):
    heard: float  # when it was last online; of a host never heard, when this host began to listen
    closed: str = ""
    known: bool = False  # it was online once
    told: bool = False  # that it is offline


class Presence:
    def __init__(self) -> None:
        self._hosts: dict[str, _Seen] = {}
        self._now = 0.0

    def look(self, hosts: Iterable[str], up: Collection[str], closed: Mapping[str, str], now: float) -> list[News]:
        """Once a second: `hosts` are the others, `up` those that are linked, `closed` the reasons (or "") of those
        whose adverts are fresh. Returns what is new."""
        self._now = now
        news: list[News] = []
        for host in hosts:
            seen = self._hosts.setdefault(host, _Seen(now))
            if host in up and host in closed:
                news += self._online(host, seen, closed[host], now)
            elif seen.known and not seen.told and now - seen.heard >= AFTER:
                seen.told = True
                news.append(HostOffline(host, round(now - seen.heard, 1)))
        return news

    def _online(self, host: str, seen: _Seen, closed: str, now: float) -> list[News]:
        was_closed, was_told, was_known = seen.closed, seen.told, seen.known
        seen.heard, seen.closed, seen.known, seen.told = now, closed, True, False
        if closed and not was_closed:
            return [HostDraining(host, closed)]
        if was_known and not closed and (was_closed or was_told):
            return [HostOpened(host)]
        return []

    def closed(self, host: str) -> bool:
        """Whether it said so when it was last heard."""
        seen = self._hosts.get(host)
        return seen is not None and seen.closed != ""

    def offline_since(self, host: str) -> float | None:
        """When it was last heard; None for one that is online, and for this host itself."""
        seen = self._hosts.get(host)
        return None if seen is None or seen.heard == self._now else seen.heard
