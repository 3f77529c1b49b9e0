"""A caller of contracts: signs with one key, waits for finality, proves what is so."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, NamedTuple

from ledger import codec, transaction
from ledger.contracts.residence import VoteRehome
from ledger.errors import Unavailable
from ledger.identity import Identity
from ledger.proof import StateProof
from ledger.replica import Replica
from ledger.submissions import NonceLost
from ledger.transaction import Transaction

DEADLINE = 30.0  # seconds


class Receipt(NamedTuple):
    height: int  # of the block that made it final
    transaction: bytes  # id


class Client:
    """One key's calls through this host's replica. Use a key on one host only: its nonces are counted there."""

    def __init__(self, replica: Replica, identity: Identity, deadline: float = DEADLINE) -> None:
        """`deadline` in seconds is for each call."""
        self._replica = replica
        self._identity = identity
        self._deadline = deadline

    async def call(self, contract: str, action: Any) -> Receipt:
        """Calls `contract` (a row of ledger.contracts.CONTRACTS) and waits until that is final.

        Several calls at once keep their order. Raises Misuse with the contract's reason when it refuses,
        Unavailable when no finality came in time: the call may still become final. It is safe to call again,
        because every contract refuses to do a thing twice; that is also why a call whose nonce was lost is
        signed anew here.
        """
        return await self._try(contract, lambda: self._sign_and_submit(contract, action))

    async def vote_rehome(self, subject: bytes, destination: str) -> Receipt:
        """This host, with its own key, votes that the host of an agent is gone and `destination` shall have it.

        From now on that host gets no heartbeat of ours, until the vote can count no more (ledger.heartbeats). Raises
        Unavailable while the host may still hold a lease that rests on us, and as `call` does.
        """
        return await self._try("residence", lambda: self._promise_and_vote(subject, destination))

    async def _try(self, contract: str, attempt: Callable[[], Awaitable[Receipt]]) -> Receipt:
        try:
            async with asyncio.timeout(self._deadline):
                while True:
                    with suppress(NonceLost):
                        return await attempt()
        except TimeoutError:
            members = self._replica.members()
            raise Unavailable(
                f"the call of {contract} is not final after {self._deadline:g} s (height {self._replica.height});"
                f" {members.quorum} of {members.n} members must be up and linked: see to them, then look"
                " whether it became final before you call again",
                retry_after=self._deadline,
            ) from None

    async def _promise_and_vote(self, subject: bytes, destination: str) -> Receipt:
        key = self._identity.public
        nonce = self._replica.next_nonce(key)
        promise = await self._replica.leases.promise(subject, nonce)
        while nonce != self._replica.next_nonce(key):  # another call took it meanwhile
            nonce = self._replica.next_nonce(key)
            promise = await self._replica.leases.promise(subject, nonce)
        vote = VoteRehome(subject, promise.epoch, destination, promise.version)
        return await self._sign_and_submit("residence", vote)

    async def _sign_and_submit(self, contract: str, action: Any) -> Receipt:
        key = self._identity.public
        # From the nonce to the mempool nothing is awaited, so that no other call takes the same nonce.
        raw = transaction.sign(
            Transaction(self._replica.chain_id, key, self._replica.next_nonce(key), contract, codec.encode(action)),
            self._identity,
        )
        height = await self._replica.submit(raw)
        return Receipt(height, transaction.transaction_id(raw))

    def prove(self, key: bytes) -> StateProof:
        """Evidence for what the state has under `key`, for someone who holds no state: see StateProof.check."""
        return self._replica.prove(key)
