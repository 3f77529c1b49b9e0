"""Genesis: what may found a chain, and a file that cannot be bent."""

from pathlib import Path

import msgspec
import pytest

from ledger import codec, genesis, genesisfile
from ledger.errors import Misuse
from ledger.genesis import Genesis, Organisation, SignedGenesis
from ledger.links.base import Passport
from tests.helpers import founders
from tests.helpers.founders import CREATED, NAMES, identity, organisation


def signed(size: int = 4) -> SignedGenesis:
    founding = founders.genesis(size)
    return genesis.assemble(founding, [genesis.sign(founding, identity(name)) for name in NAMES[:size]])


def test_the_file_gives_back_what_was_founded(tmp_path: Path) -> None:
    path = tmp_path / "genesis"
    genesisfile.write(path, signed())
    assert genesisfile.read(path) == founders.genesis()
    with pytest.raises(Misuse, match="never overwritten"):
        genesisfile.write(path, signed())


def test_the_chain_id_is_of_everything_in_it() -> None:
    founding = founders.genesis()
    assert founding.chain_id() == founders.genesis().chain_id()
    others = [
        msgspec.structs.replace(founding, name="othernet"),
        msgspec.structs.replace(founding, created=founding.created + 1),
        msgspec.structs.replace(founding, organisations=founding.organisations[::-1]),
        msgspec.structs.replace(founding, auditor=identity("auditor").public),
        msgspec.structs.replace(founding, auditor=identity("another").public),
    ]
    assert len({founding.chain_id(), *(other.chain_id() for other in others)}) == 6


def test_the_auditor_has_a_key_of_its_own() -> None:
    founding = founders.genesis()
    for auditor, message in ((identity("north-1").public, "key of a founder"), (bytes(31), "has 31 bytes")):
        with pytest.raises(Misuse, match=message):
            Genesis(founding.name, CREATED, 1, founding.organisations, auditor)


def test_a_genesis_has_one_encoding() -> None:
    """One that leaves the last field out would be another id for the same chain."""
    founding = founders.genesis()
    raw = codec.encode(founding)
    assert raw[0] == 0x95 and raw[-1:] == codec.encode(None)
    with pytest.raises(Misuse, match="not canonically encoded"):
        SignedGenesis(b"\x94" + raw[1:-1], ()).open()


def test_every_founder_must_sign() -> None:
    founding = founders.genesis()
    signatures = [genesis.sign(founding, identity(name)) for name in NAMES[:4]]
    with pytest.raises(Misuse, match="3 signatures for 4 founders"):
        genesis.assemble(founding, signatures[:3])
    with pytest.raises(Misuse, match="signature of west that does not hold"):
        genesis.assemble(founding, [*signatures[:3], signatures[0]])


@pytest.mark.parametrize("content", [b"", b"\x00", b"hello, world", b"\x93\x01\x02\x03", b"\x92\xc4\x00\x90"])
def test_garbage_is_no_genesis(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "genesis"
    path.write_bytes(content)
    with pytest.raises(Misuse, match="genesis"):
        genesisfile.read(path)


def test_a_missing_or_huge_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="cannot be read"):
        genesisfile.read(tmp_path / "nowhere")
    (tmp_path / "huge").write_bytes(bytes(genesisfile.MAX_BYTES + 1))
    with pytest.raises(Misuse, match="that is no genesis"):
        genesisfile.read(tmp_path / "huge")


def test_no_flipped_bit_of_the_file_is_taken(tmp_path: Path) -> None:
    raw = codec.encode(signed(1))
    path = tmp_path / "genesis"
    for position in range(len(raw)):
        path.write_bytes(raw[:position] + bytes([raw[position] ^ 1]) + raw[position + 1 :])
        with pytest.raises(Misuse):
            genesisfile.read(path)
    path.write_bytes(raw)
    assert genesisfile.read(path) == founders.genesis(1)  # so the loop was about the flipped bits


def passport(host: str = "north-1", owner: str = "north", address: str = "127.0.0.1:7001") -> Passport:
    return Passport(host, owner, identity(host).public, address)


@pytest.mark.parametrize("name", ["", "North", "nörd", "a_b", "-a", "a-", "a" * 64, "a.b", "a b", "a\n"])
def test_bad_names(name: str) -> None:
    with pytest.raises(Misuse, match="is no name"):
        Organisation(name, identity("x").public, (passport(owner=name),))
    with pytest.raises(Misuse, match="is no name"):
        Organisation("north", identity("x").public, (passport(host=name),))


@pytest.mark.parametrize(
    "address",
    ["", "127.0.0.1", ":7001", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:0007001", "[::1:7001", "[no]:1", "a b:1",
     "x:²", "::1:7001", "[fe80::1%eth0]:7001", "[::1%\nit is well]:7001"],
)  # fmt: skip
def test_bad_addresses(address: str) -> None:
    with pytest.raises(Misuse, match="is no address"):
        Organisation("north", identity("x").public, (passport(address=address),))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "[::1]:7001", "host.example:65535"])
def test_good_addresses(address: str) -> None:
    Organisation("north", identity("x").public, (passport(address=address),))


def test_bad_organisations() -> None:
    key = identity("x").public
    with pytest.raises(Misuse, match="0 hosts"):
        Organisation("north", key, ())
    with pytest.raises(Misuse, match="32"):
        Organisation("north", key[:-1], (passport(),))
    with pytest.raises(Misuse, match="says it is of south"):
        Organisation("north", key, (passport(owner="south"),))
    with pytest.raises(Misuse, match="host north-1 is named twice"):
        Organisation("north", key, (passport(), passport(address="127.0.0.1:7002")))
    with pytest.raises(Misuse, match=r"key .* is named twice"):
        Organisation("north", identity("north-1").public, (passport(),))


def test_bad_geneses() -> None:
    north, south = organisation("north"), organisation("south")
    for organisations, message in (
        ((), "0 organisations"),
        ((north, north), "organisation north is named twice"),
        ((north, msgspec.structs.replace(south, key=north.key)), "key .* is named twice"),
    ):
        with pytest.raises(Misuse, match=message):
            Genesis("testnet", 0, 1, organisations)
    with pytest.raises(Misuse, match="rules 2"):
        Genesis("testnet", 0, 2, (north,))
    with pytest.raises(Misuse, match="milliseconds"):
        Genesis("testnet", -1, 1, (north,))
