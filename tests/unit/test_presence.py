"""Who is heard, and since when one is not."""

from collections.abc import Mapping

from agentplatform.presence import AFTER, Presence
from services.eds.events import HostDraining, HostOffline, HostOpened


class Ear:
    def __init__(self) -> None:
        self.presence = Presence()

    def look(self, now: float, closed: Mapping[str, str], up: set[str] | None = None) -> list[object]:
        return list(self.presence.look(("east", "south"), {"east", "south"} if up is None else up, closed, now))


BOTH = {"east": "", "south": ""}


def test_at_the_start_nothing_is_news_and_who_was_never_heard_is_offline_since_then() -> None:
    ear = Ear()
    assert ear.look(100.0, {}) == []
    assert ear.look(107.0, {"east": ""}) == []
    assert ear.presence.offline_since("east") is None and ear.presence.offline_since("south") == 100.0
    assert ear.presence.offline_since("north") is None  # itself


def test_a_host_whose_link_or_adverts_end_is_offline_since_it_was_last_heard() -> None:
    ear = Ear()
    ear.look(100.0, BOTH)
    assert ear.look(101.0, BOTH, up={"south"}) == []  # its link is gone
    assert ear.presence.offline_since("east") == 100.0
    assert ear.look(102.0, BOTH) == [] and ear.presence.offline_since("east") is None  # it was not long
    assert ear.look(103.0, {"south": ""}) == []  # it hangs: the link is there
    assert ear.look(102.0 + AFTER, {"south": ""}) == [HostOffline("east", AFTER)]
    assert ear.look(103.0 + AFTER, {"south": ""}) == []  # once
    assert ear.look(104.0 + AFTER, BOTH) == [HostOpened("east")]


def test_a_host_that_closes_and_opens_is_news_once_each() -> None:
    ear = Ear()
    ear.look(100.0, BOTH)
    shut = BOTH | {"east": "being drained"}
    assert ear.look(101.0, shut) == [HostDraining("east", "being drained")]
    assert ear.look(102.0, BOTH | {"east": "drained"}) == []
    assert ear.look(110.0, {"south": ""}) == [HostOffline("east", 8.0)]  # it was stopped then
    assert ear.presence.closed("east") and not ear.presence.closed("south")
    assert ear.look(111.0, shut) == []  # and is closed still
    assert ear.look(112.0, BOTH) == [HostOpened("east")]
    assert Ear().look(1.0, shut) == [HostDraining("east", "being drained")]  # a host that was started meanwhile
