"""Which hosts may hold copies, by what a host knows of the others."""

from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.surroundings import COPY_DISK_BYTES, HostSurroundings


@pytest.mark.parametrize(
    ("east", "candidates", "answers"),
    [
        ({}, ["east"], True),
        ({"up": False}, [], False),
        ({"heard": False}, [], False),  # stopped: its link stays, and its adverts end
        ({"trusted": False}, [], True),
        ({"lacking": "its claim says jail"}, [], True),
        ({"disk": COPY_DISK_BYTES - 1}, [], True),
        ({"closed": {"east": "being drained"}}, [], True),
    ],
)
def test_who_may_hold_copies_is_linked_heard_of_trusted_open_and_has_room(
    east: dict[str, Any], candidates: list[str], answers: bool
) -> None:
    said = SimpleNamespace(resources=SimpleNamespace(disk_free=east.get("disk", COPY_DISK_BYTES)))
    nothing: Any = None
    links: Any = SimpleNamespace(up=lambda: {"east"} if east.get("up", True) else set())
    rms: Any = SimpleNamespace(
        adverts=lambda: {"east": said} if east.get("heard", True) else {}, closed_hosts=lambda: east.get("closed", {})
    )
    verdict = SimpleNamespace(trusted=east.get("trusted", True), lacking=east.get("lacking", ""))
    tms: Any = SimpleNamespace(verdict=lambda host: verdict)
    registry: Any = SimpleNamespace(hosts={"east": SimpleNamespace(organisation="east-org")})
    around = HostSurroundings("north", links, registry, tms, rms, *[nothing] * 6)
    assert [each.host for each in around.candidates()] == candidates
    assert around.answers("east") == answers
