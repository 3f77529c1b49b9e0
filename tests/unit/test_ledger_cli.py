"""`agentplatform ledger ...`: a proof goes out as a file, and is checked where nothing of the platform runs."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from agentplatform import consortium
from agentplatform.console.cli import main
from agentplatform.frontdoor.client import homes
from agentplatform.parcel.manifest import agent_digest
from ledger import codec, genesisfile, store, subjects
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot
from ledger.consensus.engine import RESTORED
from ledger.contracts.records import Hop, RecordHop
from ledger.disk import FileDisk
from ledger.evidence import Evidence
from ledger.genesis import assemble, sign
from ledger.light import MAX_EXPORT_BYTES
from tests.helpers.desk_twin import DeskTwin, answering
from tests.helpers.founders import identity
from tests.helpers.shown_chain import ShownChain

SHOWN = ShownChain()
OTHER = ShownChain("othernet")
AGENT = "counter-0123456789abcdef"


def double_vote() -> Evidence:
    ballots = [Ballot(SHOWN.chain.id, 0, COMMIT, 1, 0, codec.digest(word)) for word in ("a", "b")]
    return Evidence("west-1", VOTE_DOMAIN, *(identity("west-1").signed(VOTE_DOMAIN, b.encode()) for b in ballots))


def founded(folder: Path) -> Path:
    consortium.found(folder / "root", ["north", "south"])
    founders = [identity(organisation.name) for organisation in SHOWN.genesis.organisations]
    signed = assemble(SHOWN.genesis, [sign(SHOWN.genesis, founder) for founder in founders])
    genesisfile.write(folder / "genesis.bin", signed)
    for home in homes(folder / "root").values():
        home.genesis.unlink()
        genesisfile.write(home.genesis, signed)
    return folder / "root"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two hosts of SHOWN's chain, and its genesis beside them."""
    return founded(tmp_path)


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Such a root whose hosts answer. (To end their front doors takes 0.2 s each.)"""
    root = founded(tmp_path_factory.mktemp("answered"))
    says = {
        "ledger_export": lambda key: {"export": SHOWN.export(key).encode()},
        "ledger_evidence": lambda: {"export": replace(SHOWN.export(), evidence=(double_vote(),)).encode()},
    }
    with answering(root, DeskTwin("north", says), DeskTwin("south", says)):
        yield root


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main([str(each) for each in argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_a_proof_is_exported_and_checked_elsewhere(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "west.proof"
    code, out, _ = run(capsys, "--root", answered, "--json", "ledger", "export", file, "--organisation", "west")
    assert code == 0 and json.loads(out)["bytes"] == file.stat().st_size
    assert run(capsys, "--root", answered, "ledger", "export", file, "--organisation", "west")[0] == 2  # it exists
    for trust in (["--chain", SHOWN.chain.id.hex()], ["--genesis", answered.parent / "genesis.bin"]):
        nowhere = tmp_path / "nowhere"
        code, out, _ = run(capsys, "--root", nowhere, "--json", "ledger", "verify", file, *trust)
        (proof,) = json.loads(out)["proofs"]
        assert (code, proof["height"], proof["value"]["status"]) == (0, 3, "revoked")
        assert json.loads(out)["members"] == ["north-1", "east-1", "south-1", "upper-1"]
    code, out, _ = run(capsys, "--root", answered, "ledger", "verify", file)  # the genesis of the hosts that live here
    assert code == 0 and "trust/organisation/west" in out and '"revoked"' in out and "members: 2" in out


def test_absence_is_proven_too(answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--root", answered, "ledger", "export", tmp_path / "hop", "--hop", AGENT, "1")
    agent = agent_digest(AGENT).hex()
    assert code == 0 and f"records/hop of agent {agent}, epoch 1: nothing" in out


def test_a_record_is_shown_with_the_names_of_its_fields() -> None:
    hop = Hop(RecordHop(bytes(32), 1, "north", "south", bytes(32), bytes(32)), 7, "north")
    said = subjects.plain(subjects.hop_key(bytes(32), 1), codec.encode(hop))
    assert said["height"] == 7 and said["record"]["destination"] == "south"
    assert subjects.plain(b"trust/organisation/x", b"\xc1") == "c1" and subjects.plain(b"a", b"\x01") == 1


def bad_files(folder: Path) -> Iterator[tuple[Path, str]]:
    good = SHOWN.export(b"trust/organisation/west")
    raw = good.encode()
    lies = {
        "empty": (b"", "no Export"),
        "garbage": (bytes(range(256)), "no Export"),
        "truncated": (raw[:-7], "no Export"),
        "longer": (raw + b"\x00", "no Export"),
        "huge": (bytes(MAX_EXPORT_BYTES + 5), "more than"),
        "other-chain": (OTHER.export().encode(), "not of the trusted one"),
        "other-key": (replace(good, proofs=(replace(good.proofs[0], key=b"trust/open"),)).encode(), "state root"),
        "absence": (replace(good, proofs=(replace(good.proofs[0], value=None),)).encode(), "state root"),
    }
    for name, (content, says) in lies.items():
        (folder / name).write_bytes(content)
        yield folder / name, says


def test_a_false_file_gets_one_line_and_exit_code_2(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file, says in bad_files(tmp_path):
        code, out, err = run(capsys, "--root", root, "ledger", "verify", file)
        assert (code, out, err.count("\n")) == (2, "", 1) and says in err, (file.name, err)


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["verify", "nowhere"], "cannot be read"),
        (["verify", "FILE", "--chain", "xyz"], "in hexadecimal"),
        (["verify", "FILE", "--chain", "00"], "not of the trusted one"),
        (["verify", "FILE", "--genesis", "FILE"], "no genesis file"),
        (["verify", "FILE"], "say which chain you trust"),
        (["verify"], "required: FILE"),
        (["export", "x"], "one of the arguments --hop"),
    ],
)
def test_bad_input_to_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str) -> None:
    (tmp_path / "file").write_bytes(SHOWN.export().encode())
    named = [str(tmp_path / "file") if each == "FILE" else each for each in argv]
    code, out, err = run(capsys, "--root", tmp_path / "nowhere", "ledger", *named)
    assert (code, out) == (2, "") and says in err, err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["--hop", AGENT, "0"], "'0' is no epoch"),
        (["--hop", AGENT, "one"], "'one' is no epoch"),
        (["--key", "0xzz"], "'zz' is no key in hexadecimal"),
        (["--account", "north"], "'north' is no key in hexadecimal"),
        (["--account", "00ff"], "has 32 bytes, and '00ff' has 2"),
        (["--account", "00", "--key", "rules"], "not allowed with"),
        ([], "one of the arguments"),
    ],
)
def test_bad_input_to_export(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    code, out, err = run(capsys, "--root", answered, "ledger", "export", tmp_path / "x", *argv)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_an_account_is_shown_with_units_and_nonce(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nonce is that of its next transaction: who signs elsewhere needs it."""
    account = identity("north").public.hex()
    code, out, _ = run(capsys, "--root", answered, "--json", "ledger", "export", tmp_path / "x", "--account", account)
    (proof,) = json.loads(out)["proofs"]
    assert (code, proof["about"]) == (0, f"account of key {account}")
    assert proof["value"] == {"nonce": 3, "balance": 10**12}


def test_evidence_goes_on_the_chain_when_that_is_said(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"host": "west-1", "evidence": "ab" * 32, "height": 7}
    says = {"ledger_evidence": lambda: {"export": replace(SHOWN.export(), evidence=(double_vote(),)).encode()}}
    north = DeskTwin("north", says | {"record_evidence": [row]})
    with answering(root, north):
        assert "on the chain" not in run(capsys, "--root", root, "ledger", "evidence")[1]
        assert "record_evidence" not in [verb for verb, _ in north.asked]
        code, out, _ = run(capsys, "--root", root, "ledger", "evidence", "--record")
    assert code == 0 and f"west-1: on the chain since height 7, as evidence {'ab' * 32}" in out


def test_a_host_that_lies_is_found_out_before_a_file_is_written(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = {"ledger_export": lambda key: {"export": OTHER.export(key).encode()}}
    with answering(root, DeskTwin("north", says)):
        code, _, err = run(capsys, "--root", root, "ledger", "export", tmp_path / "x", "--key", "trust/open")
    assert code == 2 and "north proves nothing" in err and not (tmp_path / "x").exists()


def test_evidence_is_shown_and_can_be_checked_by_anyone(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "west.evidence"
    code, out, _ = run(capsys, "--root", answered, "ledger", "evidence", "--out", file)
    assert code == 0
    assert "west-1 signed two different commits at height 1, view 0 (seen by north, south)" in out
    code, out, _ = run(capsys, "--root", tmp_path / "x", "ledger", "verify", file, "--chain", SHOWN.chain.id.hex())
    assert code == 0 and "west-1 signed two different commits" in out


def test_a_restored_host_is_marked_before_it_starts(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "--root", root, "ledger", "restored", "nobody")[0] == 2
    code, out, _ = run(capsys, "--root", root, "ledger", "restored", "north")
    assert code == 0 and "signs nothing" in out
    home = homes(root)["north"]

    async def kept() -> dict[str, bytes]:
        disk = FileDisk(home.data)
        opened = await store.open_store(disk, SHOWN.genesis)
        try:
            return await opened.engine()
        finally:
            await opened.close()
            await disk.close()

    assert asyncio.run(kept()) == {RESTORED: b""}
