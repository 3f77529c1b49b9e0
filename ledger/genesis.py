"""Genesis: who founds a chain, on which rules. All founders sign it, and its digest is the chain's id. Pure."""

import ipaddress
import re
from collections.abc import Iterable

import msgspec

from ledger import codec, identity
from ledger.block import KNOWN_RULES
from ledger.errors import Misuse, PeerFault
from ledger.identity import KEY_BYTES, Identity
from ledger.links.base import Passport

DOMAIN = "agentplatform/genesis"
MAX_ORGANISATIONS = 64  # trusted at a time
MAX_HOSTS = 64  # of one organisation
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")  # as a label of a domain name (RFC 1123, 2.1)
_DOMAIN_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


class Organisation(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One voice in the consortium. Raises Misuse at birth for a name, key or address that cannot be used."""

    name: str
    key: bytes  # Ed25519 public key that votes
    hosts: tuple[Passport, ...]  # the first one holds the organisation's seat in consensus

    def __post_init__(self) -> None:
        _check_name("organisation", self.name)
        _check_key(f"organisation {self.name}", self.key)
        if not 1 <= len(self.hosts) <= MAX_HOSTS:
            raise Misuse(f"organisation {self.name} names {len(self.hosts)} hosts; give 1 to {MAX_HOSTS}")
        for passport in self.hosts:
            _check_name("host", passport.host)
            _check_key(f"host {passport.host}", passport.key)
            _check_address(passport)
            if passport.organisation != self.name:
                raise Misuse(
                    f"host {passport.host} is listed by {self.name} and says it is of {passport.organisation};"
                    " make the two the same"
                )
        _check_unique([self])


class Genesis(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What all replicas start from; block 0 is derived from it (ledger.chain)."""

    name: str
    created: int  # milliseconds since 1970
    rules: int
    organisations: tuple[Organisation, ...]  # the order of their seats
    auditor: bytes | None = None  # Ed25519 public key that pseudonyms are sealed to; None: the chain has none

    def __post_init__(self) -> None:
        _check_name("chain", self.name)
        if self.created < 0:
            raise Misuse("a chain is created at 0 or more milliseconds since 1970")
        if self.rules not in KNOWN_RULES:
            raise Misuse(
                f"the chain {self.name} has rules {self.rules}; this version knows {_list(KNOWN_RULES)}: install"
                " the version that founded it"
            )
        if not 1 <= len(self.organisations) <= MAX_ORGANISATIONS:
            raise Misuse(f"{len(self.organisations)} organisations found the chain; give 1 to {MAX_ORGANISATIONS}")
        _check_unique(self.organisations)
        if self.auditor is not None:
            _check_key("the auditor", self.auditor)
            taken = {o.key for o in self.organisations} | {p.key for o in self.organisations for p in o.hosts}
            if self.auditor in taken:
                raise Misuse(f"the auditor of {self.name} has the key of a founder; draw another")

    def chain_id(self) -> bytes:
        return codec.digest(DOMAIN, codec.encode(self))


class SignedGenesis(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """An encoded Genesis, and the signature of every founder in the order of the organisations."""

    body: bytes
    signatures: tuple[bytes, ...]

    def open(self) -> Genesis:
        """The genesis, when every founder signed it; else Misuse. The keys are its own: its id is what binds."""
        try:
            genesis = codec.decode_canonical(self.body, Genesis, "the genesis")
        except PeerFault as error:
            raise Misuse(f"{error}; ask a founder for the file again") from None
        if len(self.signatures) != len(genesis.organisations):
            raise Misuse(
                f"the genesis of {genesis.name} has {len(self.signatures)} signatures for"
                f" {len(genesis.organisations)} founders; every founder must sign"
            )
        for organisation, signature in zip(genesis.organisations, self.signatures, strict=True):
            if not identity.verify(organisation.key, DOMAIN, self.body, signature):
                raise Misuse(
                    f"the genesis of {genesis.name} has a signature of {organisation.name} that does not hold;"
                    " ask a founder for the file again"
                )
        return genesis


def sign(genesis: Genesis, founder: Identity) -> bytes:
    """A founder's signature, for `assemble`."""
    return founder.sign(DOMAIN, codec.encode(genesis))


def assemble(genesis: Genesis, signatures: Iterable[bytes]) -> SignedGenesis:
    """Puts the founders' signatures, in the order of the organisations, to the genesis. Raises Misuse if any fails."""
    signed = SignedGenesis(codec.encode(genesis), tuple(signatures))
    signed.open()
    return signed


def _list(versions: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(versions)))


def _check_name(what: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise Misuse(
            f"{name!r} is no name for {'an' if what == 'organisation' else 'a'} {what};"
            " use 1 to 63 lower case letters, digits and '-', not at the ends"
        )


def _check_key(whose: str, key: bytes) -> None:
    if len(key) != KEY_BYTES:
        raise Misuse(f"the key of {whose} has {len(key)} bytes; an Ed25519 public key has {KEY_BYTES}")


def _check_address(passport: Passport) -> None:
    """An IPv4 address, an IPv6 address in brackets or a domain name, then ':' and a port."""
    host, _, port = passport.address.rpartition(":")
    good = port.isascii() and port.isdigit() and len(port) <= 5 and 0 < int(port) < 65536
    if "%" in host:  # a zone, which is any text, and means something on one host alone (RFC 4007, 11.2)
        good = False
    elif good and host.startswith("[") and host.endswith("]"):
        try:
            ipaddress.IPv6Address(host[1:-1])
        except ValueError:
            good = False
    elif not _DOMAIN_NAME.fullmatch(host):
        good = False
    if not good:
        raise Misuse(
            f"{passport.address!r} is no address for host {passport.host};"
            " write it like 127.0.0.1:7001, [::1]:7001 or host.example:7001"
        )


def _check_unique(organisations: Iterable[Organisation]) -> None:
    organisations = list(organisations)
    passports = [passport for organisation in organisations for passport in organisation.hosts]
    for what, values in (
        ("the organisation", [organisation.name for organisation in organisations]),
        ("the host", [passport.host for passport in passports]),
        ("the address", [passport.address for passport in passports]),
        ("the key", [o.key.hex() for o in organisations] + [passport.key.hex() for passport in passports]),
    ):
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise Misuse(f"{what} {twice[0]} is named twice; each must be unique")
