"""Four real daemons: the ledger survives the kill of any one, the primary too, and the restarted one catches up."""

from pathlib import Path

import pytest

from agents.counter import Counter
from ledger.errors import Misuse
from tests.helpers.local import Local, consortium, until


def height(local: Local, host: str) -> int:
    return int(local.host(host).call("status")["ledger"]["height"])


def recorded(local: Local, source: str, epoch: int) -> int | None:
    """The ledger height of the record of a hop from `source`."""
    hops = local.host(source).call("hops")
    return next((hop["height"] for hop in hops if hop["epoch"] == epoch), None)


@pytest.mark.slow
def test_the_ledger_goes_on_without_its_primary_which_then_catches_up(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        counter = local.host("east").create(Counter, init=1)
        counter.dispatch("south")
        first = until("the first hop is recorded", lambda: recorded(local, "east", 1))
        local.kill("north")  # leads view 0
        counter.dispatch("west")
        second = until("a hop is recorded without the primary", lambda: recorded(local, "south", 2))
        assert second > first and counter.call("add", 1) == 2
        local.start("north")
        until("the restarted one has caught up", lambda: height(local, "north") >= second)
        counter.dispatch("north")
        assert counter.host == "north" and counter.call("add", 1) == 3
        until("its own hops are recorded again", lambda: recorded(local, "west", 3))
        standings = [local.host(name).call("trust")["organisations"] for name in ("north", "east", "south", "west")]
        assert all(each == standings[0] for each in standings)


def test_a_host_that_is_revoked_gets_no_agent_any_more(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        north = local.host("north")
        counter = north.create(Counter, init=1)
        with pytest.raises(Misuse, match="no vote"):
            local.host("west").call("vote_revoke", organisation="west-org", reason="it may not vote on itself")
        votes = [
            local.host(name).call("vote_revoke", organisation="west-org", reason="its operator lost the key")
            for name in ("north", "east", "south")
        ]
        assert [vote["status"] for vote in votes] == ["trusted", "trusted", "revoked"]
        members = until(
            "its seat has ended",
            lambda: (m := north.call("status")["ledger"])["members"] == ["north", "east", "south"] and m,
        )
        assert members["members_version"] == 1
        with pytest.raises(Misuse, match=r"west is not trusted .*its operator lost the key"):
            counter.dispatch("west")
        assert counter.host == "north" and counter.call("add", 1) == 2
        until("its links are cut", lambda: "west" not in north.call("status")["links"]["up"])
        counter.dispatch("south")
        until("three members go on deciding", lambda: recorded(local, "north", 1))
