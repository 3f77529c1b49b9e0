"""Who gets a link, and what a link takes: everything that a stranger, a revoked host or a bad peer may try."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.identity import Identity
from ledger.links import certificates, connection, tls
from ledger.links.base import MAX_MESSAGE_BYTES, Channel, Passport
from ledger.links.certificates import Leaf, anchor, contexts, holder
from ledger.links.connection import VERSION, Hello
from ledger.links.frames import END, FRAME_BYTES, HEADER
from ledger.links.tls import TlsLinks, split_address
from tests.helpers.linked_hosts import CHAIN, Host, identity, join, registry, tls_host, until

GOOD_HELLO = Hello(VERSION, CHAIN, "a")


@pytest.fixture
async def b() -> AsyncIterator[Host]:
    """The host under attack. It admits `a` (which would dial) and `z` (which it would dial)."""
    host = tls_host("b")
    await host.links.start()
    host.links.admit({name: Passport(name, name, identity(name).public, "127.0.0.1:1") for name in "az"})
    yield host
    await host.links.stop()


def address(host: Host) -> tuple[str, int]:
    return split_address(host.passport().address)


def frame(channel: int, payload: bytes) -> bytes:
    return HEADER.pack(channel, len(payload)) + payload


def greeting(hello: Hello) -> bytes:
    return frame(Channel.LEDGER | END, codec.encode(hello))


def dialler(b: Host, name: str = "a", key: Identity | None = None) -> ssl.SSLContext:
    return contexts(Leaf.make(name, key or identity(name)), [b.key])[0]


async def say(b: Host, context: ssl.SSLContext, *raw: bytes) -> bytes:
    """Dials `b`, says `raw`, and returns all that `b` says until it ends the connection."""
    heard = bytearray()
    # The way in which it ends is the system's affair; that it ends is not.
    async with asyncio.timeout(30):
        with suppress(OSError):
            await _converse(b, context, raw, heard)
    return bytes(heard)


async def _converse(b: Host, context: ssl.SSLContext, raw: tuple[bytes, ...], heard: bytearray) -> None:
    reader, writer = await asyncio.open_connection(*address(b), ssl=context, server_hostname="")
    try:
        for part in raw:
            writer.write(part)
        while data := await reader.read(65536):
            heard += data
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


@asynccontextmanager
async def logged(caplog: pytest.LogCaptureFixture, reason: str) -> AsyncIterator[None]:
    """The log says why, so that an operator can act."""
    with caplog.at_level("INFO", logger="ledger.links"):
        yield
        async with asyncio.timeout(30):
            await until(lambda: reason in caplog.text)


async def test_the_dialler_of_these_tests_is_let_in_when_it_does_all_right(b: Host) -> None:
    """Else every refusal below would prove nothing."""
    _, writer = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    writer.write(greeting(GOOD_HELLO) + frame(Channel.MAIL | END, b"letter"))
    await until(lambda: b.received)
    assert b.received == [("a", Channel.MAIL, b"letter")] and b.links.up() == {"a"}
    writer.close()


# At the handshake.


async def test_an_unregistered_key_is_refused(b: Host, caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog, "refused a connection at its handshake"):
        assert await say(b, dialler(b, key=identity("stranger")), greeting(GOOD_HELLO)) == b""
    assert b.changes == []


async def test_no_certificate_is_refused(b: Host) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    assert await say(b, context, greeting(GOOD_HELLO)) == b""
    assert b.changes == []


async def test_tls_1_2_is_refused(b: Host, caplog: pytest.LogCaptureFixture) -> None:
    context = dialler(b)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    async with logged(caplog, "UNSUPPORTED_PROTOCOL"):
        assert await say(b, context, greeting(GOOD_HELLO)) == b""


@pytest.mark.parametrize("raw", [b"\x16\x03\x01" + bytes(300), b"GET / HTTP/1.1\r\n\r\n", greeting(GOOD_HELLO)])
async def test_garbage_and_plaintext_are_refused(b: Host, raw: bytes) -> None:
    reader, writer = await asyncio.open_connection(*address(b))
    writer.write(raw)
    with suppress(ConnectionResetError):
        answer = await reader.read()
        assert len(answer) < 10  # nothing, or an alert
    writer.close()
    assert b.changes == []
    # Others are still served.
    _, writer = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    writer.write(greeting(GOOD_HELLO))
    await until(lambda: b.links.up() == {"a"})
    writer.close()


async def test_who_shakes_hands_byte_by_byte_is_cut_off(b: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is of the whole handshake, whatever comes meanwhile."""
    monkeypatch.setattr(tls, "HANDSHAKE_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection(*address(b))
    record = b"\x16\x03\x01\x40\x00" + bytes(200)  # a record of 16 KiB begins
    hung_up = asyncio.ensure_future(reader.read())
    for byte in record:
        if hung_up.done():
            break
        writer.write(bytes([byte]))
        await asyncio.wait([hung_up], timeout=0.02)
    assert hung_up.done(), "it was heard to the end"
    with suppress(ConnectionResetError):
        assert await hung_up == b""
    writer.close()
    assert b.links._handshakes == 0


async def test_so_many_shake_hands_at_once_and_no_more(b: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "MAX_HANDSHAKES", 2)
    silent = [await asyncio.open_connection(*address(b)) for _ in range(2)]
    await until(lambda: b.links._handshakes == 2)
    assert await say(b, dialler(b), greeting(GOOD_HELLO)) == b""
    assert b.changes == [] and b.links._handshakes == 2
    silent[0][1].close()
    await until(lambda: b.links._handshakes == 1)
    _, writer = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    writer.write(greeting(GOOD_HELLO))
    await until(lambda: b.links.up() == {"a"})
    for _, each in (*silent, (None, writer)):
        each.close()


async def test_there_are_no_tickets_by_which_a_session_skips_the_certificates(b: Host) -> None:
    context = dialler(b)
    _, writer = await asyncio.open_connection(*address(b), ssl=context, server_hostname="")
    writer.write(greeting(GOOD_HELLO))
    await until(lambda: b.links.up())
    session = writer.get_extra_info("ssl_object").session
    assert session is None or not session.has_ticket
    writer.close()


async def test_a_host_whose_part_is_to_be_dialled_does_not_get_in_by_dialling(
    b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    async with logged(caplog, "may not be on this end of the link"):
        assert await say(b, dialler(b, "z"), greeting(Hello(VERSION, CHAIN, "z"))) == b""
    assert b.changes == []


# At the hello.


@pytest.mark.parametrize(
    ("hello", "reason"),
    [
        (Hello(VERSION, bytes(32), "a"), "is of another chain (00000000..)"),
        (Hello(VERSION + 1, CHAIN, "a"), "speaks version 2"),
        (Hello(VERSION, CHAIN, "z"), "a: says that it is 'z'"),
    ],
)
async def test_a_wrong_hello_is_refused(
    b: Host, hello: Hello, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with logged(caplog, reason):
        await say(b, dialler(b), greeting(hello), frame(Channel.MAIL | END, b"letter"))
    assert b.changes == [] and b.received == []


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (frame(Channel.LEDGER | END, b"\xc1"), "no Hello"),
        (frame(Channel.LEDGER | END, bytes(1025)), "more than 1024 bytes"),
        (frame(Channel.MAIL | END, b"letter"), "no Hello"),
    ],
)
async def test_what_is_no_hello_is_refused(b: Host, raw: bytes, reason: str, caplog: pytest.LogCaptureFixture) -> None:
    async with logged(caplog, reason):
        await say(b, dialler(b), raw)
    assert b.changes == []


async def test_who_says_no_hello_is_shown_out(
    b: Host, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HELLO_SECONDS", 0.01)
    async with logged(caplog, "said no hello in time"):
        await say(b, dialler(b))


async def test_a_host_revoked_between_handshake_and_hello_is_refused(
    b: Host, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    await reader.readexactly(HEADER.size)  # b's hello: it has judged the certificate
    b.links.admit({})
    async with logged(caplog, "taken from the registry during its hello"):
        writer.write(greeting(GOOD_HELLO))
    assert b.changes == []
    writer.close()


# On a link that is up.


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (HEADER.pack(Channel.MAIL | END, FRAME_BYTES + 1), "a frame of 65537 bytes"),
        (HEADER.pack(100, 1), "channel 100"),
        (frame(Channel.MAIL, bytes(FRAME_BYTES)) * (MAX_MESSAGE_BYTES // FRAME_BYTES + 1), "more than 67108864 bytes"),
    ],
)
async def test_frames_and_messages_over_the_limits_cost_the_link(
    b: Host, raw: bytes, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with logged(caplog, reason):
        await say(b, dialler(b), greeting(GOOD_HELLO), raw)
    assert b.changes == [("a", True), ("a", False)] and b.received == []


async def test_nothing_of_a_revoked_host_is_delivered(b: Host) -> None:
    """Revoked by the first of two messages that came in one piece, the second is not heard."""
    b.links.on_message(lambda *_: b.links.admit({}))
    two = frame(Channel.LEDGER | END, b"1") + frame(Channel.LEDGER | END, b"2")
    await say(b, dialler(b), greeting(GOOD_HELLO) + two)
    assert b.received == [("a", Channel.LEDGER, b"1")]
    assert b.changes == [("a", True), ("a", False)]


async def test_a_new_link_takes_the_place_of_the_old(b: Host) -> None:
    """A peer that restarted is not locked out by its own dead connection."""
    old_reader, old = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    old.write(greeting(GOOD_HELLO))
    await until(lambda: b.links.up())
    _, new = await asyncio.open_connection(*address(b), ssl=dialler(b), server_hostname="")
    new.write(greeting(GOOD_HELLO) + frame(Channel.MAIL | END, b"new"))
    await until(lambda: b.received)
    assert b.changes == [("a", True), ("a", False), ("a", True)]
    with suppress(OSError):
        await old_reader.read()  # it ends
    assert b.links.up() == {"a"}
    for writer in (old, new):
        writer.close()


async def test_a_revoked_host_does_not_come_back() -> None:
    a, b, c = (tls_host(name) for name in "abc")
    await join(a, b, c)
    b.links.admit(registry(b, c))
    assert b.links.up() == {"c"}
    await until(lambda: a.links.up() == {"c"})
    assert await say(b, contexts(Leaf.make("a", identity("a")), [b.key])[0], greeting(GOOD_HELLO)) == b""
    assert b.changes[-1] == ("a", False)
    for host in (a, b, c):
        await host.links.stop()


async def test_another_host_at_the_dialled_address_is_not_taken_for_it(caplog: pytest.LogCaptureFixture) -> None:
    """`c` is registered too, so TLS alone is content."""
    a, c = tls_host("a"), tls_host("c")
    await c.links.start()
    c.links.admit({"a": Passport("a", "a", a.key, "127.0.0.1:1")})
    await a.links.start()
    c_address = c.passport().address
    with caplog.at_level("INFO", logger="ledger.links"):
        a.links.admit(
            {
                "b": Passport("b", "b", identity("b").public, c_address),
                "c": Passport("c", "c", c.key, "127.0.0.1:1"),
            }
        )
        async with asyncio.timeout(30):
            await until(lambda: "c: may not be on this end of the link" in caplog.text)
    assert a.changes == [] and c.changes == []
    for host in (a, c):
        await host.links.stop()


# Certificates, without a network.


BOOK = {name: Passport(name, name, identity(name).public, "") for name in "ab"}


def der(leaf: Leaf) -> bytes:
    return x509.load_pem_x509_certificate(leaf.certificate).public_bytes(serialization.Encoding.DER)


def test_a_leaf_tells_who_holds_it() -> None:
    assert holder(der(Leaf.make("a", identity("a"))), BOOK) == BOOK["a"]


def forged(name: str, issuer: bytes) -> bytes:
    """Names the right issuer, but another key signed it."""
    key = Ed25519PrivateKey.generate()
    certificate = certificates._build(name, issuer, key.public_key(), Ed25519PrivateKey.generate(), authority=False)
    return certificate.public_bytes(serialization.Encoding.DER)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        (None, "showed no certificate"),
        (b"nonsense", "does not hold"),
        (der(Leaf.make("c", identity("c"))), "not registered"),
        (der(Leaf.make("a", identity("b"))), "another key than its registered one"),
        (forged("a", BOOK["a"].key), "does not hold"),
        (anchor(BOOK["a"].key), "may not be on this end"),
    ],
)
def test_a_leaf_that_does_not_hold_is_refused(certificate: bytes | None, reason: str) -> None:
    with pytest.raises(PeerFault, match=reason):
        holder(certificate, BOOK)


def test_tls_itself_refuses_a_forged_leaf() -> None:
    """The first line of defence, without `holder`: the issuer's name is right and its signature is not."""
    leaf = Leaf.make("a", identity("a"))
    password = b"x"
    key = Ed25519PrivateKey.generate()
    certificate = certificates._build("a", BOOK["a"].key, key.public_key(), Ed25519PrivateKey.generate(), False)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(password)
    )
    bad = Leaf(certificate.public_bytes(serialization.Encoding.PEM), pem, password)
    dial, accept = contexts(Leaf.make("b", identity("b")), [BOOK["a"].key])
    good_dial, good_accept = contexts(leaf, [BOOK["b"].key])
    bad_dial, bad_accept = contexts(bad, [BOOK["b"].key])
    assert shakes_hands(good_dial, accept) and shakes_hands(dial, good_accept)
    assert not shakes_hands(bad_dial, accept)
    assert not shakes_hands(dial, bad_accept)


def shakes_hands(dial: ssl.SSLContext, accept: ssl.SSLContext) -> bool:
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = dial.wrap_bio(to_client, to_server)
    server = accept.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError:
                return False
    return True


def test_private_keys_do_not_linger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone from the disk at once; while it is there, it is private and encrypted."""
    seen: list[tuple[int, bytes]] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(self: ssl.SSLContext, file: Path, password: bytes) -> None:
        seen.append((file.stat().st_mode & 0o777 | (file.parent.stat().st_mode & 0o077), file.read_bytes()))
        load(self, file, password=password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    contexts(Leaf.make("a", identity("a")), [BOOK["b"].key])
    assert [mode for mode, _ in seen] == [0o600, 0o600]
    assert all(b"ENCRYPTED PRIVATE KEY" in raw for _, raw in seen)
    assert list(tmp_path.iterdir()) == []


# The address.


async def test_a_port_in_use_is_named(b: Host) -> None:
    host, port = address(b)
    with pytest.raises(Misuse, match=f"port {port} on {host} is in use; stop the program that listens there"):
        await tls_host("c", listen=f"{host}:{port}").links.start()


@pytest.mark.parametrize("text", ["", "7001", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", ":7001"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match="write HOST:PORT"):
        TlsLinks("a", identity("a"), CHAIN, text)
