"""A backup of a host: one file, made while it runs or not; and what is put back from it.

    host.toml  genesis.bin  data.key  data/*.db  data/spool/*     behind manifest.json: the size and digest of each

Each database is as of one moment (SQLite's online backup), the custody journal first, with the files of large states
that it names. The key that they are sealed with is in it, the host's own are not: whoever has the file can read its
agents, but cannot be the host. Nor are the agents' logs. What is put back is marked: its agents wait until the other
hosts have said what they know (agentplatform.custody.quarantine), and its replica signs nothing until that is safe
(ledger.consensus.restored).
"""

import asyncio
import hashlib
import os
import re
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from agentplatform import datakey
from agentplatform.custody.copies.vault import SCHEMA as COPIES
from agentplatform.custody.held import Held
from agentplatform.custody.journal import FILES, Journal
from agentplatform.custody.records import Restored
from agentplatform.custody.sealed import Seals
from agentplatform.settings import Home, private_folder
from ledger import genesisfile, store
from ledger.disk import FileDisk
from ledger.durable import sync
from ledger.errors import Misuse, PlatformError, Unavailable
from services.dms.sqlite import SqliteStore

FORMAT = 2
MANIFEST = "manifest.json"
MAX_MANIFEST = 64 << 20  # bytes
NAMES = re.compile(r"host\.toml|genesis\.bin|data\.key|data/(custody|ledger|copies|dms)\.db|data/spool/[0-9a-f]{32}")
SMALL = {"host.toml", "genesis.bin", "data.key"}
MAX_SMALL = 4 << 20  # bytes
NEEDED = {"host.toml", "genesis.bin", "data.key", "data/custody.db", "data/ledger.db"}
BLOCK = 1 << 20  # bytes that are read at once
TRIES = 5  # a file of a large state may go while it is copied: then the journal is copied again
REPLACED = "data.replaced"
STAGING = "data.restoring"


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    size: int
    digest: str  # SHA-256, hexadecimal


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    host: str
    chain: str
    made: str  # UTC
    files: tuple[Entry, ...]  # in their order


# To make one


def make(home: Home, file: Path) -> Manifest:
    """Raises Misuse for a file that is there already, or a host without data; Unavailable when the disk fails."""
    settings = home.settings()
    chain = genesisfile.read(home.genesis).chain_id().hex()
    if file.exists():
        raise Misuse(f"{file} is there already, and no backup is written over; name another file")
    if not (home.data / "custody.db").exists():
        raise Misuse(f"{settings.host} has no data yet: it was never started")
    try:
        with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as name:
            folder = Path(name)
            _snapshot(home, folder)
            files = tuple(_entry(folder, path) for path in sorted(folder.rglob("*")) if path.is_file())
            made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            manifest = Manifest(FORMAT, settings.host, chain, made, files)
            (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
            _pack(folder, manifest, folder / "backup")
            sync(folder / "backup")
            os.link(folder / "backup", file)  # never over another one that came meanwhile
            sync(file.parent)
    except FileExistsError:
        raise Misuse(f"{file} is there already, and no backup is written over; name another file") from None
    except (OSError, sqlite3.Error) as error:
        raise Unavailable(f"no backup of {settings.host} was written to {file}: {error}; see to the disk") from None
    return manifest


def _snapshot(home: Home, folder: Path) -> None:
    (folder / "data" / "spool").mkdir(parents=True)
    for name in SMALL:
        shutil.copyfile(home.folder / name, folder / name)
    for _ in range(TRIES):
        _copy_database(home.data / "custody.db", folder / "data" / "custody.db")
        try:
            for each in _spooled(folder / "data" / "custody.db"):
                target = folder / "data" / "spool" / each
                if not target.exists():
                    shutil.copyfile(home.data / "spool" / each, target)
            break
        except FileNotFoundError:
            continue
    else:
        raise Unavailable("the states of agents come and go faster than they can be copied; try again", retry_after=5.0)
    for name in ("copies", "ledger", "dms"):
        if (home.data / f"{name}.db").exists():
            _copy_database(home.data / f"{name}.db", folder / "data" / f"{name}.db")


def _copy_database(source: Path, target: Path) -> None:
    """As of one moment, also while others write to it."""
    target.unlink(missing_ok=True)
    with (
        closing(sqlite3.connect(f"file:{quote(str(source))}?mode=ro", uri=True)) as reading,
        closing(sqlite3.connect(target)) as writing,
    ):
        reading.backup(writing)
    target.chmod(0o600)


def _spooled(journal: Path) -> list[str]:
    with closing(sqlite3.connect(journal)) as database:
        return [file for (file,) in database.execute(FILES)]


def _entry(folder: Path, path: Path) -> Entry:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Entry(path.relative_to(folder).as_posix(), path.stat().st_size, digest)


def _pack(folder: Path, manifest: Manifest, target: Path) -> None:
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in (MANIFEST, *(entry.name for entry in manifest.files)):
            facts = tarfile.TarInfo(name)
            facts.size, facts.mode = (folder / name).stat().st_size, 0o600
            with (folder / name).open("rb") as content:
                tar.addfile(facts, content)


# To put one back


def restore(home: Home, file: Path, replace: bool) -> Manifest:
    """The data of a host that does not run, from `file`. With `replace` what is there now is set aside, in the folder
    `data.replaced`. Raises Misuse, and changes nothing, for a file that is no backup of this host, or was changed."""
    name = home.folder.name
    there = home.data.exists() and any(each.name != "lock" for each in home.data.iterdir())
    if there and not replace:
        raise Misuse(f"{name} has data; say --replace to put the backup in its place (it is kept in {REPLACED})")
    if there and (home.folder / REPLACED).exists():
        raise Misuse(f"{home.folder / REPLACED} is there from a restore before; look at it, and remove it first")
    staging = home.folder / STAGING
    old = FileDisk(home.data) if there else None  # nobody starts the host meanwhile
    try:
        shutil.rmtree(staging, ignore_errors=True)
        (private_folder(staging) / "spool").mkdir(mode=0o700)
        manifest = _unpack(file, home, staging)
        asyncio.run(_mark(staging, home))
        _swap(home, staging, there)
    except OSError as error:
        raise Unavailable(f"{name} was not restored: {error}; see to the disk") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        if old is not None:
            asyncio.run(old.close())
    return manifest


def _unpack(file: Path, home: Home, staging: Path) -> Manifest:
    """Everything is checked before it is believed: names, kinds, sizes and digests."""
    try:
        with file.open("rb") as raw, tarfile.open(fileobj=raw, mode="r:") as tar:
            members = _members(tar, file)
            first, content = next(members, (None, None))
            if first is None or content is None or first.name != MANIFEST or first.size > MAX_MANIFEST:
                raise _bad(file, "it does not begin with a manifest")
            manifest = msgspec.json.decode(content.read(), type=Manifest)
            _check(manifest, file, home)
            for entry in manifest.files:
                facts, content = next(members, (None, None))
                if facts is None or content is None or (facts.name, facts.size) != (entry.name, entry.size):
                    raise _bad(file, f"{entry.name} is missing, or is not as long as it was")
                _take(entry, content, _target(entry.name, staging), file)
            if next(members, None) is not None:
                raise _bad(file, "it has more in it than its manifest says")
    except FileNotFoundError:
        raise Misuse(f"there is no file {file}") from None
    except IsADirectoryError:
        raise Misuse(f"{file} is a folder; name the file that `agentplatform backup` wrote") from None
    except (tarfile.TarError, msgspec.DecodeError, EOFError) as error:
        raise _bad(file, str(error)) from None
    _check_own(home, staging, file)
    return manifest


def _members(tar: tarfile.TarFile, file: Path) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    for facts in tar:
        if not facts.isreg() or facts.sparse is not None:
            raise _bad(file, f"{facts.name!r:.80} in it is no plain file")
        yield facts, tar.extractfile(facts)


def _check(manifest: Manifest, file: Path, home: Home) -> None:
    names = [entry.name for entry in manifest.files]
    if manifest.format != FORMAT:
        raise _bad(file, f"it has the format {manifest.format}, and this release knows {FORMAT}")
    if manifest.host != home.folder.name:
        raise Misuse(f"{file} is a backup of {manifest.host[:63]!r}, not of {home.folder.name}")
    if strange := [name for name in names if not NAMES.fullmatch(name)]:
        raise _bad(file, f"it names {strange[0]!r:.80}, which is no part of a host")
    if len(set(names)) != len(names) or NEEDED - set(names):
        raise _bad(file, "a part of a host is missing in it, or is there twice")
    if any(entry.size < 0 or (entry.size > MAX_SMALL and entry.name in SMALL) for entry in manifest.files):
        raise _bad(file, "it names a size that cannot be")
    size, free = sum(entry.size for entry in manifest.files), shutil.disk_usage(home.folder).free
    if size > free:
        raise Unavailable(f"{file} needs {size} bytes, and {free} are free on the disk of {home.folder.name}")


def _target(name: str, staging: Path) -> Path:
    return staging / name.removeprefix("data/")


def _take(entry: Entry, content: IO[bytes], target: Path, file: Path) -> None:
    digest, left = hashlib.sha256(), entry.size
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        while left and (block := content.read(min(left, BLOCK))):
            digest.update(block)
            out.write(block)
            left -= len(block)
        out.flush()
        os.fsync(out.fileno())
    if left or digest.hexdigest() != entry.digest:
        raise _bad(file, f"{entry.name} in it was changed, or cut off")


def _check_own(home: Home, staging: Path, file: Path) -> None:
    theirs, ours = genesisfile.read(staging / "genesis.bin"), home.genesis
    if ours.exists() and genesisfile.read(ours).chain_id() != theirs.chain_id():
        raise Misuse(f"{file} is of a host of another consortium")
    if Home(staging).settings().host != home.folder.name:
        raise _bad(file, "its settings are of another host")


async def _mark(staging: Path, home: Home) -> None:
    """Whole, of this release, and readable; from now on marked as an old copy. Raises Misuse."""
    disk = FileDisk(staging)
    try:
        journal = await Journal.open(disk, Seals(datakey.load(staging / "data.key")))
        Held.recover(home.folder.name, await journal.load())
        await journal.write(Restored())
        await store.mark_restored(disk, genesisfile.read(staging / "genesis.bin"))
        if (staging / "copies.db").exists():
            await disk.open("copies", COPIES)
    except PlatformError as error:
        raise Misuse(f"the backup cannot be used, and nothing was changed: {error}") from None
    finally:
        await disk.close()
    if (staging / "dms.db").exists():
        await (await SqliteStore.open(staging / "dms.db")).close()


def _swap(home: Home, staging: Path, there: bool) -> None:
    sync(staging / "spool")
    datakey.add(home, staging / "data.key")
    (staging / "data.key").unlink()
    for name in ("host.toml", "genesis.bin"):  # of the host's own there may be newer ones
        if (home.folder / name).exists():
            (staging / name).unlink()
        else:
            (staging / name).rename(home.folder / name)
    sync(staging)
    if there:
        home.data.rename(home.folder / REPLACED)
    elif home.data.exists():
        shutil.rmtree(home.data)  # its lock alone
    staging.rename(home.data)
    sync(home.folder)


def interrupted(home: Home) -> bool:
    """A restore ended between setting the old data aside and putting the backup in its place."""
    return not home.data.exists() and (home.folder / REPLACED).exists()


def _bad(file: Path, reason: str) -> Misuse:
    return Misuse(f"{file} is no backup that can be used, and nothing was changed: {reason}")
