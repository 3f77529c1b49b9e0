"""The ledger as held custody asks it: this host's replica, and entries signed with the host's key."""

from collections.abc import Mapping
from typing import Any

from ledger.client import Client, Receipt
from ledger.contracts import losses, residence
from ledger.contracts.losses import Declaration, Declare
from ledger.contracts.residence import Residence, Vote
from ledger.replica import Replica


class OnChain:
    """Implements custody.residences.Ledger, custody.declarations.Chain, and what custody.rehoming asks of the chain."""

    def __init__(self, host: str, replica: Replica, client: Client) -> None:
        self._host, self._replica, self._client = host, replica, client

    def find(self, subject: bytes) -> Residence | None:
        return residence.find(self._replica.state, subject)

    async def submit(self, action: Any) -> Receipt:
        return await self._client.call("residence", action)

    # For declarations of loss (agentplatform.custody.declarations.Chain)

    def declaration(self, agent: bytes) -> Declaration | None:
        return losses.find(self._replica.state, agent)

    def declarations(self) -> int:
        return losses.count(self._replica.state)

    def signers(self) -> Mapping[str, bytes | None]:
        return losses.signers(self._replica.state, self._host)

    async def declare(self, action: Declare) -> Receipt:
        return await self._client.call("losses", action)

    # For re-homing (agentplatform.custody.rehoming.Chain)

    def votes(self, subject: bytes) -> tuple[Vote, ...]:
        return residence.votes(self._replica.state, subject)

    def members(self) -> list[str]:
        return [member.host for member in self._replica.members().members]

    def wait(self, host: str) -> float:
        return self._replica.leases.wait(host)

    async def vote(self, subject: bytes, destination: str) -> Receipt:
        return await self._client.vote_rehome(subject, destination)
