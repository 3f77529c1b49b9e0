"""What keeps an agent of a host that is not heard from being started elsewhere: as one host knows it."""

import time
from typing import Any

from agentplatform.custody.waits import LEDGER
from agentplatform.environment import Environment
from agentplatform.messages import Custody
from ledger.contracts import residence

_LOCAL = (
    "it is in local custody, so nothing starts it elsewhere: it goes on when {host} is back, or from a backup of that."
    " Only what was on its way from there is freed by: agentplatform declare-lost"
)
_UNKNOWN = (
    "{asked} does not know its custody: if it is held, its holder goes on with it when the members allow; if it is"
    " local, nothing starts it elsewhere"
)


class Fences:
    def __init__(self, environment: Environment) -> None:
        self._here = environment

    def of(self, agent: str) -> dict[str, Any] | None:
        """For an agent whose host is offline: whom it waits for, and why. None for another."""
        here = self._here
        host = here.whereabouts.host_of(agent)
        if not host or (since := here.presence.offline_since(host)) is None:
            return None
        custody, subject = self._custody(agent)
        waits_for, why = host, _UNKNOWN.format(asked=here.host)
        if subject is not None:
            waits_for, why = LEDGER, self._held(host, subject)
        elif custody == "local":
            why = _LOCAL.format(host=host)
        at = time.strftime("%H:%M:%S", time.localtime(since))
        why = f"it is on {host}, offline since {at}, which may live on; {why}"
        return {"agents": [agent], "host": host, "waits_for": waits_for, "why": why, "custody": custody}

    def on(self, host: str) -> dict[str, Any]:
        """What is known of a host that cannot be asked."""
        here = self._here
        agents = [located.agent for located in here.whereabouts.on(host)]
        return {
            "host": host,
            "offline_since": here.presence.offline_since(host),
            "agents": {agent: self._custody(agent)[0] for agent in agents},
        }

    def _custody(self, agent: str) -> tuple[Custody | None, bytes | None]:
        """As far as it is known here (None: it is not), and what a held one stands under on the ledger. An agent that
        was here once is known, and one whose checkpoint is."""
        here = self._here
        known, located = here.carrier.machine.agents.get(agent), here.whereabouts.believed(agent)
        subject = known.subject if known is not None and known.held else here.vault.subject_of(agent)
        there = residence.find(here.replica.state, subject) if subject else None
        if there is not None and there.host:
            return "held", subject
        went = here.carrier.machine.went(agent)
        unchanged = went is not None and located is not None and went == (located.host, located.epoch)
        return ("local" if unchanged else None), None

    def _held(self, host: str, subject: bytes) -> str:
        here = self._here
        there, votes = residence.find(here.replica.state, subject), residence.votes(here.replica.state, subject)
        members, wait = here.replica.members(), here.replica.leases.wait(host)
        holders = ", ".join(there.holders) if there is not None and there.holders else "nobody"
        when = f"in {wait:.0f} s at the earliest" if wait > 0 else "from now on"
        return (
            f"it is in held custody, and its checkpoint is with {holders}: it goes on there when {members.quorum}"
            f" members have voted, which {len(votes)} have; {here.host} may {when}, when {host} can have no lease"
        )
