"""A real daemon: what the RMS measures becomes an event by a row of host.toml, and is decided about and told."""

from pathlib import Path

import pytest

from ledger.errors import Misuse
from tests.helpers.kinds_of_agents import Guide, Watcher
from tests.helpers.local import consortium, until

ROWS = """
[[decisions.triggers]]
measure = "rtt_ms"
above = 0.0
groups = "all"
"""


@pytest.mark.slow
def test_a_link_that_comes_up_slower_than_the_threshold_is_decided_about(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", "north", "south", start=(), light=True) as local:
        with local.home("north").settings_file.open("a") as settings:
            settings.write(ROWS)
        local.start("north")
        north = local.host("north")
        guide, watcher = north.create(Guide, "leader", "cy"), north.create(Watcher, None, ["eds/link-changed"])
        assert watcher.call("look") == [] == north.call("why", agent=guide.id)
        local.start("south")
        until("it was measured and told", lambda: watcher.call("look") == [["north", "south", "rtt_ms"]])
        (why,) = until("it was decided about", lambda: north.call("why", agent=guide.id))
        assert why["why"].startswith("the link from north to south has rtt_ms ")
        assert north.call("status")["decisions"]["decided"] == 1


@pytest.mark.slow
def test_a_host_does_not_start_with_a_trigger_that_cannot_be(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", "north", start=(), light=True) as local:
        with local.home("north").settings_file.open("a") as settings:
            settings.write(ROWS.replace("above", "over"))
        with pytest.raises(Misuse, match=r"decisions.triggers, row 1: .*`over`.*a row has measure, above, below"):
            local.start("north")
