"""What the EDS has learnt itself, beside what RMS and TMS say, and how it gets into the picture that is decided by.

The experience with hosts is in the DMS; the rest is soon out of date, and is forgotten with the process.
"""

from collections.abc import Collection

import msgspec

from services.eds.events import Event, HostSuspected, UserMoved
from services.eds.kept import Kept
from services.eds.refusals import Refusals
from services.eds.snapshot import NEUTRAL_EXPERIENCE, Snapshot
from services.eds.suspects import Suspects
from services.eds.users import Users


class Learnt:
    def __init__(self, kept: Kept) -> None:
        self._kept = kept
        self._users = Users()
        self._refusals = Refusals()
        self._suspects = Suspects()

    def happened(self, event: Event, teller: str, now: float) -> None:
        if isinstance(event, UserMoved):
            self._users.moved(event, teller)
        if isinstance(event, HostSuspected):
            self._suspects.add(event, now)

    def refused(self, group: str, host: str, now: float) -> None:
        """An agent of `group` could not go to `host`."""
        self._refusals.add(group, host, now)

    async def added_to(self, snapshot: Snapshot, moved: Collection[str]) -> Snapshot:
        """The whole picture. `moved`: the agents that an earlier plan of the same decision has moved."""
        experience = await self._kept.experience(snapshot.at)
        hosts = tuple(
            msgspec.structs.replace(
                host,
                experience=experience.get(host.host, NEUTRAL_EXPERIENCE),
                closed=host.closed or self._suspects.why(host.host, snapshot.at),
            )
            for host in snapshot.hosts
        )
        users = sorted({group.user for group in snapshot.groups if group.user is not None})
        access = {user: heard for user in users if (heard := self._users.access(user)) is not None}
        refused = self._refusals.of({group.name for group in snapshot.groups}, snapshot.at)
        return msgspec.structs.replace(
            snapshot, hosts=hosts, access=access, refused=refused, moved=tuple(sorted(moved))
        )
