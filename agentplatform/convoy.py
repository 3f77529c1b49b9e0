"""A convoy: agents in held custody that go from several hosts to one as one (agentplatform.custody.convoys). Pure."""

from collections.abc import Callable

import msgspec

from ledger import codec
from ledger.contracts.residence import MAX_GOING, TRANSFER_BYTES, Going, Part, Residence
from ledger.errors import Misuse


class Convoy(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Who goes from where by which transfer."""

    nonce: bytes
    parts: tuple[Part, ...]  # in the order of their sources' names

    def part(self, source: str) -> Part | None:
        return next((part for part in self.parts if part.source == source), None)

    def check(self) -> None:
        """Raises Misuse for one that is none."""
        sources, sizes = [part.source for part in self.parts], [len(part.agents) for part in self.parts]
        if len(self.nonce) != TRANSFER_BYTES or not 2 <= len(sources) <= MAX_GOING or sources != sorted(set(sources)):
            raise Misuse("a convoy has a nonce, and several parts in the order of their sources, each named once")
        if min(sizes) < 1 or sum(sizes) > MAX_GOING:
            raise Misuse(f"a convoy has at most {MAX_GOING} agents, and some in each part")
        if any(part.transfer != transfer_of(self.nonce, part.source) for part in self.parts):
            raise Misuse("the transfers of a convoy follow from its nonce, so that nobody draws one of another's")


def transfer_of(nonce: bytes, source: str) -> bytes:
    """The id of what goes from there."""
    return codec.digest("agentplatform/convoy", nonce, source.encode())[:TRANSFER_BYTES]


def assemble(nonce: bytes, going: dict[str, list[Going]]) -> Convoy:
    """Of the agents that go from each source. Raises Misuse when that is no convoy."""
    parts = (Part(source, transfer_of(nonce, source), tuple(agents)) for source, agents in sorted(going.items()))
    convoy = Convoy(nonce, tuple(parts))
    convoy.check()
    return convoy


def stays(convoy: Convoy, find: Callable[[bytes], Residence | None]) -> Going | None:
    """One of its agents that did not go by it, by a chain: so none of them does, whatever is still asked."""
    for part in convoy.parts:
        for going in part.agents:
            now = find(going.subject)
            if now is not None and now.epoch == going.epoch and now.transfer != part.transfer:
                return going
    return None
