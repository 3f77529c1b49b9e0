"""What a holder says of the agents that it has copies of."""

from types import SimpleNamespace
from typing import Any, cast

from agentplatform.custody.copies.holders import Copy
from agentplatform.custody.copies.vault import Vault, _Held
from agentplatform.custody.rehoming import Rehoming
from ledger.contracts.residence import Residence
from ledger.memory_disk import MemoryDisk
from tests.helpers.sealing import seals


async def test_an_agent_is_on_the_host_that_the_ledger_names_though_its_copy_came_from_the_one_before() -> None:
    """That host may be gone before it has sent a copy."""
    known: dict[bytes, Residence] = {}
    vault = await Vault.open(MemoryDisk(), seals(), lambda *_: True, known.get, cast(Any, None), "north", 1 << 20)
    for agent in ("x", "y", "z"):
        vault.shelf.copies[agent], vault._held[agent] = Copy("east", 7, 1, 0), _Held(agent.encode(), "east", 0)
    known[b"x"] = Residence(b"", 8, "west", ("north",), 100, b"t")
    known[b"y"] = Residence(b"", 8, "west", ("south",), 100, b"t")  # we hold it no more
    assert vault.sources() == {"west": [b"x"], "east": [b"y", b"z"]}


async def test_a_copy_that_is_being_taken_in_is_left_to_who_does_that() -> None:
    dropped: list[str] = []
    vault = SimpleNamespace(due=lambda: [("x", b"x", 3)], drop=dropped.append)
    carrier = SimpleNamespace(machine=SimpleNamespace(here=lambda agent: 3))
    parts: Any = (None, vault, carrier, set, None, None, lambda: 0.0, set)
    rehoming = Rehoming("north", *parts)
    rehoming._tasks[b"x"] = cast(Any, None)
    rehoming.follow()  # the journal has it, and who wrote that has not heard of it yet
    assert dropped == []
    del rehoming._tasks[b"x"]
    rehoming.follow()
    assert dropped == ["x"]
