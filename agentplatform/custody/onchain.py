"""The ledger as held custody asks it: this host's replica, and entries signed with the host's key."""

from typing import Any

from ledger.client import Client, Receipt
from ledger.contracts import residence
from ledger.contracts.residence import Residence, Vote
from ledger.replica import Replica


class OnChain:
    """Implements agentplatform.custody.residences.Ledger, and what custody.rehoming asks of the chain."""

    def __init__(self, replica: Replica, client: Client) -> None:
        self._replica, self._client = replica, client

    def find(self, subject: bytes) -> Residence | None:
        return residence.find(self._replica.state, subject)

    async def submit(self, action: Any) -> Receipt:
        return await self._client.call("residence", action)

    # For re-homing (agentplatform.custody.rehoming.Chain)

    def votes(self, subject: bytes) -> tuple[Vote, ...]:
        return residence.votes(self._replica.state, subject)

    def members(self) -> list[str]:
        return [member.host for member in self._replica.members().members]

    def wait(self, host: str) -> float:
        return self._replica.leases.wait(host)

    async def vote(self, subject: bytes, destination: str) -> Receipt:
        return await self._client.vote_rehome(subject, destination)
