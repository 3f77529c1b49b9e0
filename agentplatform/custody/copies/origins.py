"""What the journal's parcel of a resident agent has of it, for a full copy (custody.copies.replication)."""

import hashlib

import msgspec

from agentplatform.custody.journal import Journal
from agentplatform.custody.records import BIRTH, Beginning
from agentplatform.custody.state import Custody
from agentplatform.mail import Luggage
from agentplatform.parcel.freight import Freight
from agentplatform.parcel.manifest import Manifest, Parcel, open_certificate
from agentplatform.parcel.spool import Spool
from agentplatform.runners.place import DIGEST_BYTES, MAX_STATE_BYTES
from ledger import codec
from ledger.errors import Unavailable
from ledger.identity import Signed

_OWN = "the custody journal"


class Origin(msgspec.Struct, frozen=True):
    certificate: bytes
    init: bytes  # what it was created with, if it came by no handoff
    luggage: bytes
    code: bytes
    head: bytes | None = None  # of the state that came with it, which counts until there is a checkpoint
    digests: tuple[bytes, ...] = ()
    pieces: tuple[tuple[bytes, bytes], ...] = ()


class Origins:
    def __init__(self, journal: Journal, spool: Spool, machine: Custody) -> None:
        self._journal, self._spool, self._machine = journal, spool, machine

    async def of(self, agent: str) -> Origin:
        """Raises Misuse or Unavailable when it cannot be read now."""
        kept = self._machine.agents[agent].kept
        raw = await self._journal.parcel(kept, agent)
        if kept == BIRTH:
            beginning = codec.decode(raw, Beginning, _OWN)
            luggage = beginning.luggage or codec.encode(Luggage())
            return Origin(beginning.certificate, beginning.init, luggage, await self._code(beginning.certificate))
        parcel = codec.decode(raw, Parcel, _OWN)
        certificate = codec.decode(codec.decode(parcel.manifest, Signed, _OWN).body, Manifest, _OWN).birth
        origin = Origin(certificate, b"", parcel.luggage, await self._code(certificate))
        if not isinstance(parcel.state, Freight):
            return msgspec.structs.replace(origin, head=parcel.state)
        pieces = await self._pieces(await self._journal.file(kept, agent), parcel.state)
        digests = tuple(digest for digest, _ in pieces)
        return msgspec.structs.replace(origin, head=b"", digests=digests, pieces=pieces)

    async def _code(self, certificate: bytes) -> bytes:
        code = await self._journal.get_code(open_certificate(certificate, _OWN).code)
        if code is None:
            raise Unavailable("its code is not here yet")
        return code

    async def _pieces(self, file: str, freight: Freight) -> tuple[tuple[bytes, bytes], ...]:
        if freight.size > MAX_STATE_BYTES:
            raise Unavailable(f"its state has {freight.size} bytes, and holders take {MAX_STATE_BYTES}")
        bodies = [await self._spool.get(file, freight, number) for number in range(freight.count)]
        return tuple((hashlib.blake2b(body, digest_size=DIGEST_BYTES).digest(), body) for body in bodies)
