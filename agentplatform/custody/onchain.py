"""The ledger as held custody asks it: this host's replica, and entries signed with the host's key."""

from typing import Any

from ledger.client import Client, Receipt
from ledger.contracts import residence
from ledger.contracts.residence import Residence
from ledger.replica import Replica


class OnChain:
    """Implements agentplatform.custody.residences.Ledger."""

    def __init__(self, replica: Replica, client: Client) -> None:
        self._replica, self._client = replica, client

    def find(self, subject: bytes) -> Residence | None:
        return residence.find(self._replica.state, subject)

    async def submit(self, action: Any) -> Receipt:
        return await self._client.call("residence", action)
