"""Certificates for mutual TLS without an authority: a host's registered Ed25519 key is its passport.

At its start a host makes a *leaf*: a TLS key of its own, signed by the host's key. To accept a peer, a host builds an
*anchor* from the peer's registered public key alone. OpenSSL does not check an anchor's own signature (it trusts
an anchor because it was given), so a throw-away key signs it. Names tie the two together: the leaf's issuer is the
anchor's subject, the hex of the host's key; the leaf's subject is the host's name.

A certificate's signed bytes begin with an ASN.1 SEQUENCE (0x30) and those of ledger.identity with the letters of a
domain, so neither signature can be taken for the other, though one key makes both.
"""

import datetime
import os
import ssl
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.x509.oid import NameOID

from ledger.errors import PeerFault
from ledger.identity import Identity
from ledger.links.base import Passport

# No expiry (RFC 5280, 4.1.2.5): the registry says who is trusted, and hosts' clocks may be wrong.
_ALWAYS = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_NEVER = datetime.datetime(9999, 12, 31, 23, 59, 59, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Leaf:
    """What a host shows at its handshakes. The key is encrypted: OpenSSL takes it from a file only."""

    certificate: bytes  # PEM
    key: bytes  # PEM
    password: bytes

    @classmethod
    def make(cls, host: str, identity: Identity) -> "Leaf":
        key = Ed25519PrivateKey.generate()
        certificate = _build(
            subject=host,
            issuer=identity.public,
            key=key.public_key(),
            signer=Ed25519PrivateKey.from_private_bytes(identity.seed),
            authority=False,
        )
        password = os.urandom(32).hex().encode()
        return cls(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(password),
            ),
            password,
        )


def anchor(public: bytes) -> bytes:
    """DER."""
    certificate = _build(
        subject=public.hex(),
        issuer=public,
        key=Ed25519PublicKey.from_public_bytes(public),
        signer=Ed25519PrivateKey.generate(),
        authority=True,
    )
    return certificate.public_bytes(serialization.Encoding.DER)


def contexts(leaf: Leaf, keys: Iterable[bytes]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """For dialling and for accepting: TLS 1.3 alone, both sides must show a leaf that one of `keys` signed.

    An anchor cannot be taken out of a context: build new ones whenever `keys` change.
    """
    anchors = b"".join(anchor(key) for key in keys)
    dial = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    accept = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    accept.num_tickets = 0  # a resumed session would skip the certificates
    with tempfile.TemporaryDirectory(prefix="leaf-") as folder:
        for context in (dial, accept):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.check_hostname = False  # names are checked against the registry, by `holder`
            context.verify_mode = ssl.CERT_REQUIRED
            if anchors:
                context.load_verify_locations(cadata=anchors)
            file = Path(folder) / "leaf.pem"
            file.touch(0o600)
            file.write_bytes(leaf.certificate + leaf.key)
            context.load_cert_chain(file, password=leaf.password)
    return dial, accept


def holder(der: bytes | None, admitted: Mapping[str, Passport]) -> Passport:
    """The host among `admitted` that signed the leaf `der`; relies on nothing that TLS checked. Raises PeerFault."""
    if der is None:
        raise PeerFault("peer unknown", "showed no certificate")
    try:
        leaf = x509.load_der_x509_certificate(der)
        host = _common_name(leaf.subject)
        passport = admitted.get(host)
        if passport is None:
            raise PeerFault(host, "may not be on this end of the link: not registered, or not the host meant")
        if _common_name(leaf.issuer) != passport.key.hex():
            raise PeerFault(host, "shows a certificate of another key than its registered one")
        Ed25519PublicKey.from_public_bytes(passport.key).verify(leaf.signature, leaf.tbs_certificate_bytes)
    except (ValueError, IndexError, InvalidSignature, x509.InvalidVersion) as error:
        raise PeerFault("peer unknown", f"shows a certificate that does not hold: {error!r}") from None
    return passport


def _build(
    subject: str, issuer: bytes, key: Ed25519PublicKey, signer: Ed25519PrivateKey, authority: bool
) -> x509.Certificate:
    usage = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign", "encipher_only",
         "decipher_only"), False,
    )  # fmt: skip
    return (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(_name(issuer.hex()))
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_ALWAYS)
        .not_valid_after(_NEVER)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(
            x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage), critical=True
        )
        .sign(signer, algorithm=None)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _common_name(name: x509.Name) -> str:
    return str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
