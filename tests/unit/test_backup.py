"""A host in one file, and back: what is in it, and what is refused. The journal of this one has an agent."""

import asyncio
import hashlib
import io
import shutil
import sqlite3
import tarfile
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from agentplatform import backup, datakey
from agentplatform.backup import MANIFEST, REPLACED, STAGING, Entry, Manifest
from agentplatform.console.cli import main
from agentplatform.consortium import found
from agentplatform.custody.held import Held
from agentplatform.custody.journal import Journal
from agentplatform.custody.messages import Cargo
from agentplatform.custody.records import Born, Prepare
from agentplatform.custody.sealed import Seals
from agentplatform.mail import Change
from agentplatform.messages import Captured
from agentplatform.settings import Home
from ledger import genesisfile, store
from ledger.consensus.engine import RESTORED
from ledger.disk import FileDisk
from ledger.errors import Misuse

SPOOLED, CHECKPOINT = "a" * 32, "c" * 32
Files = dict[str, bytes]


async def live(home: Home) -> None:
    """As if a daemon had run: one agent is on its way with a large state, and another has one in its checkpoint."""
    disk = FileDisk(home.data)
    journal = await Journal.open(disk, Seals(datakey.load_or_create(home)))
    journal.write(Born("x-1", 0), (b"birth",))
    journal.write(Born("y-2", 0), (b"birth",))
    journal.checkpoint("y-2", Change(Captured(b"its pieces", (), (), CHECKPOINT)))
    await journal.write(Prepare(b"t" * 16, "south", (Cargo("x-1", 1),)), (b"parcel",), {"x-1": SPOOLED})
    await (await store.open_store(disk, genesisfile.read(home.genesis))).close()
    await disk.close()
    (home.data / "spool").mkdir(mode=0o700)
    (home.data / "spool" / SPOOLED).write_bytes(b"a large state")
    (home.data / "spool" / CHECKPOINT).write_bytes(b"another")
    (home.data / "spool" / ("b" * 32)).write_bytes(b"named by no record")


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A consortium, and a backup of one of its hosts."""
    folder = tmp_path_factory.mktemp("lived")
    home = found(folder / "root", ("north", "south"))[0]
    asyncio.run(live(home))
    backup.make(home, folder / "north.backup")
    return folder


@pytest.fixture
def home(lived: Path, tmp_path: Path) -> Home:
    shutil.copytree(lived / "root", tmp_path / "root")
    return Home(tmp_path / "root" / "hosts" / "north")


@pytest.fixture
def file(lived: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy2(lived / "north.backup", tmp_path))


def read(file: Path) -> Files:
    with tarfile.open(file) as tar:
        return {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]


def write(file: Path, into: Files, **changed: object) -> None:
    """With a manifest that is true, but for what is `changed` in it."""
    content = {name: raw for name, raw in into.items() if name != MANIFEST}
    entries = [Entry(name, len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in content.items()]
    manifest = msgspec.json.decode(into[MANIFEST], type=Manifest)
    manifest = msgspec.structs.replace(manifest, **({"files": tuple(entries)} | changed))
    with tarfile.open(file, "w") as tar:
        for name, raw in ({MANIFEST: msgspec.json.encode(manifest)} | content).items():
            facts = tarfile.TarInfo(name)
            facts.size = len(raw)
            tar.addfile(facts, io.BytesIO(raw))


async def held(home: Home) -> tuple[Held, bool]:
    disk = FileDisk(home.data)
    machine, _ = Held.recover("north", await (await Journal.open(disk, Seals(datakey.load_or_create(home)))).load())
    opened = await store.open_store(disk, genesisfile.read(home.genesis))
    marked = RESTORED in await opened.engine()
    await opened.close()
    await disk.close()
    return machine, marked


def test_it_has_the_data_and_no_key(home: Home, file: Path) -> None:
    names = set(read(file))
    assert names == {MANIFEST, *backup.NEEDED, f"data/spool/{SPOOLED}", f"data/spool/{CHECKPOINT}"}
    assert file.stat().st_mode & 0o777 == 0o600
    raw = file.read_bytes()
    assert home.host_key.read_bytes() not in raw and home.organisation_key.read_bytes() not in raw
    assert [path.name for path in file.parent.iterdir() if path.name.startswith(".")] == []


def test_a_host_with_another_key_opens_what_is_put_back_and_what_it_had(home: Home, file: Path) -> None:
    (before,) = datakey.load(home.data_key).secrets
    home.data_key.unlink()
    home.data.rename(home.folder / "elsewhere")
    (ours,) = datakey.load_or_create(home).secrets
    medium = home.data_key.rename(home.folder / "on-another-medium")
    home.data_key.symlink_to(medium)
    backup.restore(home, file, replace=True)
    assert home.data_key.is_symlink()
    assert datakey.load(home.data_key).secrets == (ours, before) and home.data_key.stat().st_mode & 0o777 == 0o600
    machine, _ = asyncio.run(held(home))
    assert machine.restored and not (home.data / "data.key").exists()


def test_data_without_its_key_is_not_started_and_no_other_key_is_made(home: Home) -> None:
    home.data_key.rename(home.folder / "elsewhere")
    with pytest.raises(Misuse, match=r"data\.key, is missing: put it back"):
        datakey.load_or_create(home)
    assert not home.data_key.exists()


def test_what_is_put_back_is_marked_and_what_was_there_is_kept(home: Home, file: Path) -> None:
    with pytest.raises(Misuse, match="--replace"):
        backup.restore(home, file, replace=False)
    backup.restore(home, file, replace=True)
    machine, marked = asyncio.run(held(home))
    assert machine.restored and marked and machine.quarantined == {"x-1": False, "y-2": False} and not machine.leaving
    assert (home.data / "spool" / SPOOLED).read_bytes() == b"a large state"
    assert (home.folder / REPLACED / "custody.db").exists() and not (home.folder / STAGING).exists()
    with pytest.raises(Misuse, match="remove it first"):
        backup.restore(home, file, replace=True)


def test_a_new_machine_gets_all_but_the_keys(home: Home, file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    assert main(["--root", str(other), "restore", "north", str(file)]) == 0
    made = Home(other / "hosts" / "north")
    assert made.settings().host == "north" and not made.host_key.exists()
    assert made.folder.stat().st_mode & 0o777 == 0o700
    assert main(["--root", str(other), "restore", "../north", str(file)]) == 2
    assert main(["--root", str(other), "restore", "south", str(file)]) == 2
    assert [each.name for each in (other / "hosts").iterdir()] == ["north"]


def test_while_the_host_runs_nothing_is_put_back(home: Home, file: Path) -> None:
    disk = FileDisk(home.data)
    with pytest.raises(Misuse, match="in use by process"):
        backup.restore(home, file, replace=True)
    asyncio.run(disk.close())


def test_no_file_is_written_over_and_no_host_invented(home: Home, file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    root = str(home.folder.parent.parent)
    for words in (("north", file), ("nobody", tmp_path / "x"), ("south", tmp_path / "x"), ("north", tmp_path / "no/x")):
        assert main(["--root", root, "backup", *map(str, words)]) in (1, 2)
    assert file.read_bytes() == before and not (tmp_path / "x").exists()


def cut(files: Files, file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(files: Files, file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[raw.index(b"a large state")] ^= 1
    file.write_bytes(raw)


def link(files: Files, file: Path) -> None:
    """In the place of a file, a link to one of the host's own."""
    with tarfile.open(file, "w") as tar:
        facts = tarfile.TarInfo(MANIFEST)
        facts.size = len(files[MANIFEST])
        tar.addfile(facts, io.BytesIO(files[MANIFEST]))
        facts = tarfile.TarInfo("data/custody.db")
        facts.type, facts.linkname = tarfile.SYMTYPE, "../../host.key"
        tar.addfile(facts)


def named(name: str) -> Callable[[Files, Path], None]:
    return lambda files, file: write(file, {**files, name: b"evil"})


def other_genesis(files: Files, file: Path) -> None:
    theirs = found(file.parent / "elsewhere", ("north", "south"))[0]
    write(file, {**files, "genesis.bin": theirs.genesis.read_bytes()})


def more(files: Files, file: Path) -> None:
    told = msgspec.json.decode(files[MANIFEST], type=Manifest).files
    write(file, {**files, "data/dms.db": b"untold"}, files=told)


def no_database(files: Files, file: Path) -> None:
    write(file, {**files, "data/custody.db": b"no database"})


def another_database(files: Files, file: Path) -> None:
    write(file, {**files, "data/custody.db": files["data/ledger.db"]})


def trap(files: Files, file: Path) -> None:
    """A trigger that would act when the journal is written."""
    path = file.parent / "trap.db"
    path.write_bytes(files["data/custody.db"])
    database = sqlite3.connect(path)
    database.execute("CREATE TRIGGER evil AFTER INSERT ON records BEGIN DELETE FROM records; END")
    database.commit()
    database.close()
    write(file, {**files, "data/custody.db": path.read_bytes()})


BAD: dict[str, tuple[Callable[[Files, Path], None], str]] = {
    "cut off": (cut, "no backup that can be used"),
    "changed": (flip, "changed, or cut off"),
    "empty": (lambda files, file: file.write_bytes(b"") and None, "no backup that can be used"),
    "no archive": (lambda files, file: file.write_bytes(bytes(range(256)) * 40) and None, "no backup that can be used"),
    "a link": (link, "no plain file"),
    "out of its folder": (named("data/spool/../../../host.key"), "no part of a host"),
    "an absolute path": (named("/etc/passwd"), "no part of a host"),
    "a key": (named("host.key"), "no part of a host"),
    "a part is missing": (
        lambda files, file: write(file, {n: raw for n, raw in files.items() if n != "data/ledger.db"}),
        "missing in it",
    ),
    "another host's": (lambda files, file: write(file, files, host="south"), "not of north"),
    "another consortium's": (other_genesis, "another consortium"),
    "a later format": (lambda files, file: write(file, files, format=9), "has the format 9"),
    "sizes that cannot be": (
        lambda files, file: write(file, files, files=tuple(Entry(n, -1, "") for n in backup.NEEDED)),
        "a size that cannot be",
    ),
    "more than its manifest": (more, "more in it than its manifest says"),
    "no database": (no_database, "corrupt|cannot be used"),
    "another database": (another_database, "no custody database|cannot be used"),
    "a trap in a database": (trap, "not as they were made"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_no_backup_of_this_host_changes_nothing(what: str, home: Home, file: Path) -> None:
    spoil, reason = BAD[what]
    spoil(read(file), file)
    before = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    with pytest.raises(Misuse, match=reason):
        backup.restore(home, file, replace=True)
    after = {path: path.read_bytes() for path in home.folder.rglob("*") if path.is_file()}
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= {
        home.data / "lock"
    }


def test_a_host_is_not_started_between_two_halves_of_a_restore(home: Home) -> None:
    assert not backup.interrupted(home)
    home.data.rename(home.folder / REPLACED)
    assert backup.interrupted(home)
