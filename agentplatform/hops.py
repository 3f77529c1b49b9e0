"""The hops that left this host: kept in the DMS, and recorded on the ledger by digests."""

import logging
from typing import Any

import msgspec

from agentplatform.custody.surroundings import Hop
from agentplatform.parcel.manifest import MANIFEST_DOMAIN
from ledger import codec
from ledger.client import Client
from ledger.contracts.records import RecordHop
from ledger.errors import PlatformError
from services.dms.store import Store

log = logging.getLogger(__name__)
HISTORY = "hops"  # transfer -> Hop as plain data
HEIGHTS = "hops/height"  # transfer -> ledger height of its record
AGENT_DOMAIN = "agentplatform/agent"
TRANSFER_DOMAIN = "agentplatform/transfer"


class HopBook:
    def __init__(self, store: Store, client: Client) -> None:
        self._store, self._client = store, client

    async def write(self, hop: Hop) -> None:
        """Keeps a completed hop, then has the ledger record it: one record an agent, by digests alone."""
        await self._store.append(HISTORY, codec.encode(hop))
        height = 0
        try:
            for load, manifest in zip(hop.cargo, hop.manifests, strict=True):
                record = RecordHop(
                    codec.digest(AGENT_DOMAIN, load.agent.encode()),
                    load.epoch,
                    hop.source,
                    hop.destination,
                    codec.digest(TRANSFER_DOMAIN, hop.transfer),
                    codec.digest(MANIFEST_DOMAIN, manifest),
                )
                receipt = await self._client.call("records", record)
                height = max(height, receipt.height)
        except PlatformError as error:
            log.warning("the hop of %s is not on the ledger: %s", hop.cargo[0].agent, error)
            return
        await self._store.put(HEIGHTS, hop.transfer.hex(), codec.encode(height))

    async def newest(self, limit: int, agent: str | None = None) -> list[dict[str, Any]]:
        """The newest hops first, as plain data; `height` is None until the ledger has the record."""
        hops = [codec.decode(raw, Hop, "this host's store") for raw in await self._store.newest(HISTORY, limit)]
        return [await self.plain(hop) for hop in hops if agent is None or agent in {load.agent for load in hop.cargo}]

    async def plain(self, hop: Hop) -> dict[str, Any]:
        raw = await self._store.get(HEIGHTS, hop.transfer.hex())
        data = msgspec.to_builtins(hop, builtin_types=(bytes,))
        del data["cargo"], data["manifests"]
        return data | {
            "transfer": hop.transfer.hex(),
            "agents": [load.agent for load in hop.cargo],
            "epoch": max(load.epoch for load in hop.cargo),
            "height": None if raw is None else codec.decode(raw, int, "this host's store"),
        }
