"""What a caller may ask about this host, the others, and what it waits for."""

import os
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from agentplatform.custody.waits import HANDLER, ROOM, Wait, stranded, waits
from agentplatform.desk.fences import Fences
from agentplatform.environment import Environment
from agentplatform.version import __version__
from ledger.contracts.trust import TRUSTED


class HostDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment

    async def hello(self) -> dict[str, Any]:
        here = self._here
        return {
            "host": here.host,
            "organisation": here.settings.organisation,
            "chain": here.chain.hex(),
            "version": __version__,
            "pid": os.getpid(),
        }

    async def status(self) -> dict[str, Any]:
        here = self._here
        up = here.links.up()
        members = here.replica.members()
        return await self.hello() | {
            "uptime_s": round(time.time() - here.started_at, 1),
            "jail": here.runner.jail,
            "endpoint": here.settings.http.listen or None,
            "disk_full": None if here.disk.room.full is None else str(here.disk.room.full),
            "ledger": {
                "height": here.replica.height,
                "members": [member.host for member in members.members],
                "members_version": members.version,
                "quorum": members.quorum,
                "behind": here.replica.currency().behind,
                "outdated": here.tms.outdated(),
            },
            "links": {"up": sorted(up), "down": sorted(here.replica.registry().keys() - up - {here.host})},
            "agents": len(here.carrier.residents.known),
            "deactivated": len(here.carrier.dormitory.asleep),
            "closed": here.rms.closed,
            "decisions": here.deciding.eds.load(),
            "quarantined": len(here.carrier.machine.quarantined),
            "blocked": self._blocked(),
            "in_doubt": [
                {
                    "transfer": transfer.hex(),
                    "agents": [load.agent for load in open_.cargo],
                    "role": role,
                    "phase": open_.phase.name.lower(),
                    "waits_for": open_.peer,
                }
                for role, transfers in (
                    ("source", here.carrier.machine.leaving),
                    ("destination", here.carrier.machine.arriving),
                )
                for transfer, open_ in transfers.items()
            ],
        }

    def _blocked(self) -> list[dict[str, Any]]:
        here, machine = self._here, self._here.carrier.machine
        open_here = here.carrier.residents.known.keys() | here.carrier.reopening.opening
        found = [*waits(machine, here.keeper.frozen), *stranded(machine, open_here)]
        found += [*here.replication.waits(), *here.carrier.recalls.waits()]
        residents = tuple(sorted(here.carrier.residents.known))
        if here.disk.room.full is not None and residents:
            found.append(Wait(residents, ROOM, f"they get no messages: {here.disk.room.full}"))
        return [self._row(wait) for wait in found]

    def _row(self, wait: Wait) -> dict[str, Any]:
        return {"host": self._here.host} | msgspec.to_builtins(wait)

    async def hosts(self) -> list[dict[str, Any]]:
        """Every host that the ledger names, with what is known of it."""
        here = self._here
        adverts, links, up = here.rms.adverts(), here.rms.links(), here.links.up()
        closed = here.rms.closed_hosts()
        standings = here.replica.organisations().values()
        alive = here.whereabouts.alive()
        rows = []
        for standing in standings:
            for passport in standing.organisation.hosts:
                verdict = here.tms.verdict(passport.host)
                advert = adverts.get(passport.host)
                link = links.get((here.host, passport.host))
                rows.append(
                    {
                        "host": passport.host,
                        "organisation": passport.organisation,
                        "address": passport.address,
                        "trusted": verdict.trusted,
                        "reason": verdict.reason,
                        "standing": verdict.standing,
                        "rotated": verdict.rotated,
                        "claims": verdict.claims,
                        "lacking": verdict.lacking,
                        "since": standing.since,
                        "up": passport.host in up or passport.host == here.host,
                        "state": self._state(passport.host, standing.status, closed),
                        "offline_since": here.presence.offline_since(passport.host),
                        "cpu_free": advert.resources.cpu_free if advert else None,
                        "memory_free": advert.resources.memory_free if advert else None,
                        "gpus": advert.resources.gpus if advert else None,
                        "gpu_free": advert.resources.gpu_free if advert else None,
                        "bandwidth": link.bandwidth if link else None,
                        "rtt_ms": link.rtt_ms if link else None,
                        "loss": link.loss if link else None,
                        "agents": sum(located.host == passport.host for located in alive),
                    }
                )
        return rows

    def _state(self, host: str, standing: str, closed: Mapping[str, str]) -> str:
        """In one word or two: how the ledger, its adverts and its link have it."""
        if standing != TRUSTED:
            return standing
        if self._here.presence.offline_since(host) is not None:
            return "offline"
        return closed.get(host, "online")

    async def drain(self, seconds: float) -> dict[str, Any]:
        """Closes this host, and empties it (agentplatform.drainer). Returns how far that is."""
        await self._here.drainer.drain(seconds)
        return self._drained()

    async def open(self, seconds: float) -> dict[str, Any]:
        """Calls a drain off: what it did is undone, for so long."""
        await self._here.drainer.call_off(seconds)
        return self._drained()

    async def drained(self) -> dict[str, Any]:
        """How far a drain is, or the calling off of one."""
        return self._drained()

    def _drained(self) -> dict[str, Any]:
        return self._here.drainer.status() | {"at": time.time(), "blocked": self._blocked()}

    async def fence(self, agent: str) -> dict[str, Any] | None:
        """What an agent waits for whose host is offline (desk.fences)."""
        return Fences(self._here).of(self._here.whereabouts.resolve(agent))

    async def absent(self, host: str) -> dict[str, Any]:
        """What is known here of a host that cannot be asked."""
        return Fences(self._here).on(host)

    async def stop(self) -> None:
        self._here.stopping.set()

    async def blocked(self, agent: str) -> list[dict[str, Any]]:
        """What this host waits for on behalf of an agent, and whom."""
        here, found = self._here, self._here.whereabouts.resolve(agent)
        rows = [row for row in self._blocked() if found in row["agents"]]
        if here.rms.closed and found in here.carrier.dormitory.asleep:
            go_on = f"dispatch it elsewhere, or: agentplatform drain {here.host} --cancel"
            why = f"it is deactivated, and nothing wakes it while {here.host} is {here.rms.closed}; {go_on}"
            rows.append(self._row(Wait((found,), here.host, why)))
        if at_work := self._here.mailroom.long_at_work(found):
            rows.append(self._row(Wait((found,), HANDLER, at_work)))
        return rows
