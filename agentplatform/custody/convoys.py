"""The edge of convoys (agentplatform.convoy): what sources and destination do, all of whom know the whole of it.

Each source freezes its part, and offers it with its signature for the whole when PREPARE is durable [H2]. The
destination adds its own, and submits the one entry, when RECEIVED of all parts is durable [H3]. From its offer on a
source takes the outcome from its chain alone. It asks for its agents back when its patience ends, or when its chain
says of another source's agent that it stays: then the entry cannot be made any more, so nobody waits for it.
"""

from collections.abc import Callable, Iterable

import msgspec

from agentplatform.convoy import Convoy, stays, transfer_of
from agentplatform.custody.events import Event, GiveUp
from agentplatform.custody.messages import Cargo, Offer
from agentplatform.custody.state import Custody, Phase
from ledger import codec
from ledger.contracts.residence import DOMAIN, MOVE, Going, Move, Part, Passage, Residence
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import Identity, verify

MAX_GATHERED = 256  # convoys of one source that a host takes in at once


class _Gathering(msgspec.Struct):
    """What the destination has of a convoy."""

    convoy: Convoy
    signatures: dict[str, bytes]  # of sources


class Convoys:
    def __init__(
        self,
        host: str,
        identity: Identity,
        chain: bytes,
        machine: Custody,
        step: Callable[[Event], None],
        find: Callable[[bytes], Residence | None],
        submit: Callable[[Move], None],
        key_of: Callable[[str], bytes | None],
    ) -> None:
        """`find` is of this host's chain, `submit` asks the ledger, and says nothing of what came of it."""
        self._host, self._identity, self._chain = host, identity, chain
        self._machine, self._step = machine, step
        self._find, self._submit, self._key_of = find, submit, key_of
        self._joined: dict[bytes, tuple[str, Convoy]] = {}  # transfer from here -> destination, convoy
        self._gathered: dict[bytes, _Gathering] = {}  # by digest of the convoy

    # A source

    def join(self, to: str, convoy: Convoy, cargo: tuple[Cargo, ...]) -> None:
        """`cargo` is about to leave. Raises Misuse when that is not this host's part."""
        convoy.check()
        transfer = transfer_of(convoy.nonce, self._host)
        if transfer in self._machine.leaving or transfer in self._machine.arriving or transfer in self._machine.past:
            # Whoever assembled it is another host: what is on its way by this transfer must not be mixed up with it.
            raise Misuse(f"a convoy of this nonce went from {self._host} before; assemble another, with a fresh nonce")
        if convoy.part(self._host) != part_of(self._host, transfer, cargo) or convoy.part(to) is not None:
            raise Misuse(f"what goes from {self._host} is not its part of the convoy: an agent moved meanwhile")
        if going := stays(convoy, self._find):
            raise Unavailable(f"agent {going.subject.hex()[:16]} does not come along to {to}")
        # Those that did not leave after all: whoever is about to leave still joins again at that moment.
        self._joined = {each: joined for each, joined in self._joined.items() if each in self._machine.leaving}
        self._joined[transfer] = to, convoy

    def signed(self, offer: Offer) -> Offer:
        """PREPARE is durable."""
        if offer.transfer not in self._joined:
            return offer
        to, convoy = self._joined[offer.transfer]
        signature = self._passage(to, convoy).sign(self._identity)
        return msgspec.structs.replace(offer, convoy=convoy, signature=signature)

    def follow(self) -> None:
        """There are new entries."""
        for transfer, (to, convoy) in list(self._joined.items()):
            if transfer not in self._machine.leaving:
                del self._joined[transfer]
            elif going := stays(convoy, self._find):
                self._step(GiveUp(transfer, f"agent {going.subject.hex()[:16]} does not come along to {to}"))

    # The destination

    def offered(self, source: str, offer: Offer) -> None:
        """A part comes, as it seems. Raises PeerFault when it is none."""
        convoy = offer.convoy
        if convoy is None:
            return
        try:
            convoy.check()
        except Misuse as error:
            raise PeerFault(source, f"offered a part of what is no convoy: {error}") from None
        if convoy.part(source) != part_of(source, offer.transfer, offer.cargo):
            raise PeerFault(source, "offered what is not its part of the convoy")
        key, said = self._key_of(source), codec.encode(self._passage(self._host, convoy))
        if key is None or not verify(key, DOMAIN, said, offer.signature):
            raise PeerFault(source, "did not sign the convoy of which it offers a part")
        self._forget()
        name = codec.digest("agentplatform/convoy", codec.encode(convoy))
        others = sum(source in each.signatures for other, each in self._gathered.items() if other != name)
        if others >= MAX_GATHERED:
            raise PeerFault(source, f"offered a part of one convoy more than the {MAX_GATHERED} that are taken at once")
        self._gathered.setdefault(name, _Gathering(convoy, {})).signatures[source] = offer.signature

    def received(self, transfer: bytes) -> bool:
        """RECEIVED is durable, and all is open. Whether that is a part of a convoy."""
        for gathering in self._gathered.values():
            if any(part.transfer == transfer for part in gathering.convoy.parts):
                self._ask(gathering)
                return True
        return False

    def remind(self) -> None:
        """Asks again about what the ledger has not decided."""
        self._forget()
        for gathering in self._gathered.values():
            self._ask(gathering)

    def _ask(self, gathering: _Gathering) -> None:
        """This host signs by submitting."""
        parts = gathering.convoy.parts
        if all(part.source in gathering.signatures and self._is_here(part) for part in parts):
            self._submit(Move(self._host, parts, tuple(gathering.signatures[part.source] for part in parts), b""))

    def _is_here(self, part: Part) -> bool:
        held = self._machine.arriving.get(part.transfer)
        return held is not None and held.peer == part.source and held.phase is Phase.RECEIVED

    def _forget(self) -> None:
        """Those of which nothing waits here any more."""
        arriving = self._machine.arriving
        for name, gathering in list(self._gathered.items()):
            if not any(part.transfer in arriving for part in gathering.convoy.parts):
                del self._gathered[name]

    def _passage(self, to: str, convoy: Convoy) -> Passage:
        return Passage(self._chain, MOVE, to, convoy.parts)


def part_of(source: str, transfer: bytes, cargo: Iterable[Cargo]) -> Part:
    return Part(source, transfer, tuple(Going(load.subject, load.epoch) for load in cargo))
