"""What a caller may ask of the way that an agent took."""

from typing import Any

import msgspec

from agentplatform.environment import Environment
from agentplatform.parcel.manifest import agent_digest
from agentplatform.passes import authentic
from agentplatform.path import MAX_HOPS, Claim, Standing
from ledger.contracts import records, trust

_NEWEST = 1_000  # hops of this host's book that are looked through


class PathDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment

    async def path(self, agent: str) -> dict[str, Any]:
        """What this host knows of an agent's hops, each with how it knows it (agentplatform.path)."""
        here = self._here
        found = here.whereabouts.resolve(agent)
        located = here.whereabouts.believed(found)
        assert located is not None
        claims = [*self._recorded(found, located.epoch), *self._passes(found), *await self._words(found)]
        return {
            "agent": found,
            "host": None if located.ended is not None else located.host,
            "epoch": located.epoch,
            "claims": [msgspec.to_builtins(claim) for claim in claims],
            "standings": {host: msgspec.to_builtins(each) for host, each in self._standings().items()},
        }

    def _recorded(self, agent: str, epoch: int) -> list[Claim]:
        """By the ledger. An agent that ended, or is further than this host heard, may have one epoch more."""
        state, digest = self._here.replica.state, agent_digest(agent)
        claims = []
        for each in range(max(1, epoch + 1 - MAX_HOPS), epoch + 2):
            hop = records.hop(state, digest, each)
            if hop is not None:
                source, destination = hop.record.source, hop.record.destination
                claims.append(Claim(each, source, destination, "ledger", hop.by, hop.height))
        return claims

    def _passes(self, agent: str) -> list[Claim]:
        """By those signatures that hold by the key which the ledger has, or had last, for the source."""
        check = authentic(self._here.chain, self._last_key)
        return [
            Claim(each.epoch, each.source, each.destination, "pass", each.source)
            for each in self._here.whereabouts.trail(agent)
            if each.agent == agent and check(each)
        ]

    async def _words(self, agent: str) -> list[Claim]:
        """This host's own, of the hops that left it."""
        hops = await self._here.hops.newest(_NEWEST, agent)
        return [
            Claim(hop["epochs"][agent], hop["source"], hop["destination"], "word", self._here.host, None, hop["at"])
            for hop in hops
        ]

    def _last_key(self, host: str) -> bytes | None:
        """Of a host that is trusted no more, too: what it signed before still says what it said."""
        home = trust.home(self._here.replica.state, host)
        standing = None if home is None else trust.standing(self._here.replica.state, home)
        hosts = () if standing is None else standing.organisation.hosts
        return next((passport.key for passport in hosts if passport.host == host), None)

    def _standings(self) -> dict[str, Standing]:
        return {
            passport.host: Standing(standing.status, standing.since, standing.status == trust.TRUSTED)
            for standing in self._here.replica.organisations().values()
            for passport in standing.organisation.hosts
        }
