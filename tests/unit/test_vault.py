"""What a holder says of the agents that it has copies of."""

from typing import Any, cast

from agentplatform.custody.copies.holders import Copy
from agentplatform.custody.copies.vault import Vault, _Held
from ledger.contracts.residence import Residence
from ledger.memory_disk import MemoryDisk


async def test_an_agent_is_on_the_host_that_the_ledger_names_though_its_copy_came_from_the_one_before() -> None:
    """That host may be gone before it has sent a copy."""
    known: dict[bytes, Residence] = {}
    vault = await Vault.open(MemoryDisk(), lambda *_: True, known.get, cast(Any, None), "north", 1 << 20)
    for agent in ("x", "y", "z"):
        vault.shelf.copies[agent], vault._held[agent] = Copy("east", 7, 1, 0), _Held(agent.encode(), "east", 0)
    known[b"x"] = Residence(b"", 8, "west", ("north",), 100, b"t")
    known[b"y"] = Residence(b"", 8, "west", ("south",), 100, b"t")  # we hold it no more
    assert vault.sources() == {"west": [b"x"], "east": [b"y", b"z"]}
