"""Birth certificates and manifests: who owns an agent, and what a parcel claims to be.

An owner signs the birth certificate once, so no host can claim another's owner. The sending host signs a
manifest for every handoff, which binds the parcel to its source, destination, agent, owner, epoch, code,
state, transfer and expiry; it is verified before anything else of the parcel is looked at.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated

import msgspec

from agentplatform.kinds import Kind
from agentplatform.messages import Custody
from agentplatform.parcel.bundle import MAX_BUNDLE_BYTES
from agentplatform.parcel.freight import State, state_digest
from ledger import codec
from ledger.contracts.residence import MAX_HOLDERS
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import KEY_BYTES, Identity, Signed, verify

AGENT_DOMAIN = "agentplatform/agent"
BIRTH_DOMAIN = "agentplatform/birth"
CLONE_DOMAIN = "agentplatform/clone"
MANIFEST_DOMAIN = "agentplatform/manifest"
TRANSFER_BYTES = 16
MAX_EPOCH = 2**62  # what SQLite and MessagePack hold, with room for the next
MAX_NAME = 32  # characters
NAME = re.compile(rf"[a-z][a-z0-9-]{{0,{MAX_NAME - 1}}}")
AGENT_ID = re.compile(NAME.pattern + r"-[0-9a-f]{16}")
KeyCheck = Callable[[str, bytes], bool]


class Birth(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An agent's birth certificate. `agent` is its id for life: name, "-", and 16 hex digits bound to the owner."""

    agent: str
    name: str
    owner: bytes  # public key
    salt: bytes  # 16 random bytes, so that one owner may use a name again
    code: bytes  # digest of the code bundle
    class_name: str  # "module:Class" within the bundle
    light: bool  # may share a worker with the owner's other light agents of the same code
    custody: Custody = "local"  # as it began; a change of it is on the ledger
    kept: bool = True  # False: its class keeps no checkpoints ("none"), and when its worker ends alone it is gone
    copies: Annotated[int, msgspec.Meta(ge=0, le=MAX_HOLDERS)] = 0  # of its checkpoint, if held; 0: as hosts say
    kind: Kind | None = None  # the service that it offers, or the user that it stands for

    def __post_init__(self) -> None:
        if len(self.owner) != KEY_BYTES or len(self.code) != codec.DIGEST_BYTES or len(self.salt) != TRANSFER_BYTES:
            raise ValueError("a birth certificate needs an owner's key, a salt and a code digest")
        if not NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} is no agent name: lower case letters, digits and '-', at most 32")
        if self.agent != agent_id(self.name, self.owner, self.salt):
            raise ValueError("the agent's id does not belong to its name and owner")


def agent_id(name: str, owner: bytes, salt: bytes) -> str:
    return f"{name}-{codec.digest(BIRTH_DOMAIN, name.encode(), owner, salt)[:8].hex()}"


def agent_digest(agent: str) -> bytes:
    """By this the ledger knows an agent."""
    return codec.digest(AGENT_DOMAIN, agent.encode())


def give_birth(
    name: str,
    owner: Identity,
    salt: bytes,
    code: bytes,
    class_name: str,
    light: bool,
    custody: Custody = "local",
    kept: bool = True,
    copies: int = 0,
    kind: Kind | None = None,
) -> bytes:
    """An encoded, signed birth certificate. Raises Misuse for a name that is none."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise Misuse(f"{name!r:.60} is no agent name: use lower case letters, digits and '-', at most 32")
    agent = agent_id(name, owner.public, salt)
    birth = Birth(agent, name, owner.public, salt, code, class_name, light, custody, kept, copies, kind)
    return codec.encode(owner.signed(BIRTH_DOMAIN, codec.encode(birth)))


def open_birth(raw: bytes, sender: str) -> Birth:
    """Verifies, then parses. Raises PeerFault, naming `sender`."""
    signed = codec.decode(raw, Signed, sender)
    signed.verify(BIRTH_DOMAIN, sender)
    return _read_birth(signed, sender)


def _read_birth(signed: Signed, sender: str) -> Birth:
    """Of a certificate that was verified."""
    birth = codec.decode(signed.body, Birth, sender)
    if birth.owner != signed.signer:
        raise PeerFault(sender, f"sent a birth certificate of {birth.agent} that its owner did not sign")
    return birth


class Descent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The birth certificate of a clone, which the host signs that made it. It says nothing of owner, code and class:
    these are those of the owner's certificate, so no host can claim others. Its custody is local: held custody begins
    with its owner's consent, on the ledger, which may have it before the clone lives."""

    chain: bytes
    origin: bytes  # the certificate that the owner signed, of the first of the line: encoded Signed
    parent: str  # the agent that was cloned: the first of the line, or a clone itself
    host: str  # where
    salt: bytes  # the clone's


def certify_clone(certificate: bytes, parent: str, salt: bytes, chain: bytes, host: str, identity: Identity) -> bytes:
    """An encoded, signed birth certificate for a clone of `parent`, whose own `certificate` was opened before."""
    signed = codec.decode(certificate, Signed)
    if signed_for(signed, CLONE_DOMAIN):
        certificate = codec.decode(signed.body, Descent).origin
    return codec.encode(identity.signed(CLONE_DOMAIN, codec.encode(Descent(chain, certificate, parent, host, salt))))


def open_certificate(raw: bytes, sender: str, chain: bytes | None = None, was_key_of: KeyCheck | None = None) -> Birth:
    """That of an agent of either origin. Raises PeerFault, naming `sender`.

    A clone's must be of `chain`, and `was_key_of(host, key)` says whether the ledger ever had that key for the host
    that signed it: a clone outlives its host's key. Both are left out for a certificate that was opened here before.
    """
    signed = codec.decode(raw, Signed, sender)
    if signed_for(signed, BIRTH_DOMAIN):
        return _read_birth(signed, sender)
    descent = codec.decode(signed.verify(CLONE_DOMAIN, sender), Descent, sender)
    if chain is not None and descent.chain != chain:
        raise PeerFault(sender, f"sent a clone of {descent.parent[:80]} that belongs to another consortium")
    if was_key_of is not None and not was_key_of(descent.host, signed.signer):
        raise PeerFault(sender, f"sent a clone in the name of {descent.host[:80]}, signed by a key that it never had")
    origin = open_birth(descent.origin, sender)
    parent = AGENT_ID.fullmatch(descent.parent)
    if parent is None or descent.parent.rpartition("-")[0] != origin.name:
        raise PeerFault(sender, f"sent a clone of {descent.parent[:80]!r}, which is not of the line of {origin.agent}")
    if len(descent.salt) != TRANSFER_BYTES or descent.salt == origin.salt:
        raise PeerFault(sender, f"sent a clone of {descent.parent} with no salt of its own")
    agent = agent_id(origin.name, origin.owner, descent.salt)
    return msgspec.structs.replace(origin, agent=agent, salt=descent.salt, custody="local")


@lru_cache(maxsize=1024)  # an agent shows its certificate at each hop
def signed_for(signed: Signed, domain: str) -> bool:
    return verify(signed.signer, domain, signed.body, signed.signature)


class Manifest(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the source host swears about one parcel."""

    chain: bytes  # the consortium's chain id
    transfer: bytes  # 16 random bytes, never used again: the nonce
    source: str
    destination: str
    agent: str
    owner: bytes
    epoch: int  # the agent's epoch at the destination
    birth: bytes  # encoded, signed Birth
    code: bytes  # digest of the code bundle
    state: bytes  # digest of the captured state, or of the table of its pieces
    luggage: bytes  # digest of what the daemon keeps for the agent (mail cursors, outbox)
    python: str  # "3.11": by-value classes and some pickles are tied to it
    expires: int  # milliseconds since 1970; a later OFFER is refused


class Parcel(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One agent on its way. `code` is None when the destination is known to have it."""

    manifest: bytes  # encoded Signed
    state: State
    luggage: bytes
    code: bytes | None


def luggage_digest(luggage: bytes) -> bytes:
    return codec.digest("agentplatform/luggage", luggage)


def code_digest(bundle: bytes) -> bytes:
    return codec.digest("agentplatform/code", bundle)


def sign_manifest(manifest: Manifest, host: Identity) -> bytes:
    return codec.encode(host.signed(MANIFEST_DOMAIN, codec.encode(manifest)))


def open_parcel(
    parcel: Parcel, *, chain: bytes, source: str, source_key: bytes, destination: str, wall: int, was_key_of: KeyCheck
) -> tuple[Manifest, Birth]:
    """Checks everything that can be checked without opening the parcel: signature first, then what it says.

    `source` and `source_key` are who the link and the registry say the sender is; `wall` is in milliseconds
    since 1970; `was_key_of` as for open_certificate. Raises PeerFault, naming the source, with the first thing that
    does not hold, and Unavailable for one that is only too old.
    """
    signed = codec.decode(parcel.manifest, Signed, source)
    if signed.signer != source_key:
        raise PeerFault(source, "sent a parcel that another key than its own signed")
    manifest = codec.decode(signed.verify(MANIFEST_DOMAIN, source), Manifest, source)
    about = f"sent a parcel of {manifest.agent} that"
    if manifest.chain != chain:
        raise PeerFault(source, f"{about} belongs to another consortium")
    if manifest.source != source:
        raise PeerFault(source, f"{about} {manifest.source} signed")
    if manifest.destination != destination:
        raise PeerFault(source, f"{about} is meant for {manifest.destination}, not for {destination}")
    if len(manifest.transfer) != TRANSFER_BYTES or not 1 <= manifest.epoch <= MAX_EPOCH:
        raise PeerFault(source, f"{about} has no proper transfer id or epoch")
    if state_digest(parcel.state) != manifest.state:
        raise PeerFault(source, f"{about} was changed on the way: the state is not the one that was signed")
    if luggage_digest(parcel.luggage) != manifest.luggage:
        raise PeerFault(source, f"{about} was changed on the way: the luggage is not the one that was signed")
    if parcel.code is not None and len(parcel.code) > MAX_BUNDLE_BYTES:
        raise PeerFault(source, f"{about} has code of {len(parcel.code)} bytes; at most {MAX_BUNDLE_BYTES} are taken")
    if parcel.code is not None and code_digest(parcel.code) != manifest.code:
        raise PeerFault(source, f"{about} was changed on the way: the code is not the one that was signed")
    birth = open_certificate(manifest.birth, source, chain, was_key_of)
    if (birth.agent, birth.owner, birth.code) != (manifest.agent, manifest.owner, manifest.code):
        raise PeerFault(source, f"{about} is not the agent of its birth certificate")
    if manifest.expires < wall:  # last: nobody is blamed for it, since a stopped host, or a slow link, makes it late
        late = wall - manifest.expires
        raise Unavailable(f"{source} {about} expired {late} ms ago; it may be offered again", retry_after=0)
    return manifest, birth
