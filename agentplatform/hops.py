"""The hops that left this host: kept in the DMS, and recorded on the ledger by digests."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import msgspec

from agentplatform.custody.surroundings import Hop
from agentplatform.parcel.manifest import MANIFEST_DOMAIN, agent_digest
from ledger import codec
from ledger.client import Client, Receipt
from ledger.contracts.records import RecordHop
from ledger.errors import PlatformError, Unavailable
from services.dms.store import Store

log = logging.getLogger(__name__)
ROUND = 0.2  # seconds
RECENT = 32  # moves, by which is judged how long one takes
RETRY = 2.0  # seconds, while the ledger does not take records
UNRECORDED = "hops/unrecorded"  # transfer -> Hop
HISTORY = "hops"  # transfer -> Hop as plain data
HEIGHTS = "hops/height"  # transfer -> ledger height of its record
TRANSFER_DOMAIN = "agentplatform/transfer"


class HopBook:
    """Writes in rounds: the disk and the ledger are shared with the handoffs themselves, which must not wait."""

    def __init__(self, store: Store, client: Client) -> None:
        self._store, self._client = store, client
        self._fresh: list[Hop] = []
        self._downtimes: deque[float] = deque(maxlen=RECENT)  # seconds
        self.added: Callable[[Hop], None] = lambda hop: None  # told of each

    def add(self, hop: Hop) -> None:
        self._fresh.append(hop)
        self._downtimes.append(hop.downtime_ms / 1000)
        self.added(hop)

    def downtime(self) -> float | None:
        """Seconds that a move from here takes, by the median of the last ones since the start."""
        return median(self._downtimes) if self._downtimes else None

    async def run(self) -> None:
        """Until cancelled: keeps completed hops, and has the ledger record them, by digests alone.

        What the ledger could not take (no quorum) waits in the store for a later round, also across restarts.
        """
        late: dict[str, Hop] = {}
        for key in await self._store.keys(UNRECORDED):
            if (raw := await self._store.get(UNRECORDED, key)) is not None:
                late[key] = codec.decode(raw, Hop, "this host's store")
        while True:
            await asyncio.sleep(ROUND if not late else RETRY)
            hops = self._fresh[:]
            try:
                await self._keep(hops)
                del self._fresh[: len(hops)]
                late |= {hop.transfer.hex(): hop for hop in hops}
                recorded = await asyncio.gather(*(self._record(hop) for hop in late.values()))
                done = {key: height for key, height in zip(late, recorded, strict=True) if height is not None}
                await self._keep_heights(done)
                late = {key: hop for key, hop in late.items() if key not in done}
            except PlatformError as error:
                log.error("hops are not written down: %s", error)

    async def _keep(self, hops: Sequence[Hop]) -> None:
        if hops:
            raw = {hop.transfer.hex(): codec.encode(hop) for hop in hops}
            entries = [(HISTORY, each) for each in raw.values()]
            await self._store.write(entries, [(UNRECORDED, key, each) for key, each in raw.items()])

    async def _keep_heights(self, done: Mapping[str, int]) -> None:
        if done:
            heights = [(HEIGHTS, key, codec.encode(height)) for key, height in done.items() if height]
            await self._store.write((), heights, [(UNRECORDED, key) for key in done])

    async def _record(self, hop: Hop) -> int | None:
        """One record an agent. The height at which the ledger has them; 0 when it never will take them, None when it
        does not now."""
        records = [
            RecordHop(
                agent_digest(load.agent),
                load.epoch,
                hop.source,
                hop.destination,
                codec.digest(TRANSFER_DOMAIN, hop.transfer),
                codec.digest(MANIFEST_DOMAIN, manifest),
            )
            for load, manifest in zip(hop.cargo, hop.manifests, strict=True)
        ]
        results = await asyncio.gather(
            *(self._client.call("records", record) for record in records), return_exceptions=True
        )
        heights = [result.height for result in results if isinstance(result, Receipt)]
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, PlatformError):
                raise failure
            log.warning("the hop of %s is not on the ledger: %s", hop.cargo[0].agent, failure)
        if any(isinstance(failure, Unavailable) for failure in failures):
            return None
        return max(heights, default=0)

    async def newest(self, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """The newest hops first, as plain data; `height` is None until the ledger has the record."""
        hops = [codec.decode(raw, Hop, "this host's store") for raw in await self._store.newest(HISTORY, limit)]
        hops = [*reversed(self._fresh), *hops]
        return [await self.plain(hop) for hop in hops if agent is None or agent in {load.agent for load in hop.cargo}]

    async def plain(self, hop: Hop) -> dict[str, Any]:
        raw = await self._store.get(HEIGHTS, hop.transfer.hex())
        data = msgspec.to_builtins(hop, builtin_types=(bytes,))
        del data["cargo"], data["manifests"]
        return data | {
            "transfer": hop.transfer.hex(),
            "agents": [load.agent for load in hop.cargo],
            "epoch": max(load.epoch for load in hop.cargo),
            "epochs": {load.agent: load.epoch for load in hop.cargo},
            "height": None if raw is None else codec.decode(raw, int, "this host's store"),
        }
