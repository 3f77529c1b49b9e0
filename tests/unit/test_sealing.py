"""What a host writes of agents is sealed for their owners: what opens, what does not, and what is found on the disk."""

import contextlib
import sqlite3
from pathlib import Path

import msgspec
import pytest

from agentplatform import datakey
from agentplatform.custody.copies.messages import Pieces, Whole
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.journal import SCHEMA as CUSTODY
from agentplatform.custody.journal import Journal
from agentplatform.custody.records import BIRTH, Active, Beginning, Born
from agentplatform.custody.residences import subject_of
from agentplatform.custody.sealed import Seals, Secret
from agentplatform.mail import Change, Letter, Loose, Luggage, Reply, Seen, Standing
from agentplatform.messages import Answer, Captured
from agentplatform.parcel.manifest import Birth, code_digest, give_birth, open_birth
from agentplatform.runners.place import DIGEST_BYTES
from agentplatform.settings import Home
from ledger import codec
from ledger.contracts.residence import Residence
from ledger.disk import FileDisk
from ledger.errors import Misuse
from ledger.identity import Identity
from services.dms.sealing import NOBODY, OVERHEAD, SALT_BYTES, Keyring
from tests.helpers.sealing import seals

OWNER, OTHER, SALT = b"o" * 32, b"p" * 32, b"s" * SALT_BYTES
TEXT = b"a secret that nobody finds"


def test_what_was_sealed_opens_where_it_was_bound_to() -> None:
    keyring = Keyring([b"k" * 32])
    sealed = keyring.seal(OWNER, b"here", TEXT, SALT)
    assert keyring.open(b"here", sealed) == (OWNER, TEXT)
    assert len(sealed) == len(TEXT) + OVERHEAD and TEXT not in sealed
    assert keyring.seal(OWNER, b"here", TEXT, b"t" * SALT_BYTES)[-len(TEXT) :] != sealed[-len(TEXT) :]
    with pytest.raises(Misuse, match="put where it was not written"):
        keyring.open(b"there", sealed)


def test_of_what_was_sealed_no_bit_can_be_changed() -> None:
    keyring = Keyring([b"k" * 32])
    sealed = keyring.seal(OWNER, b"here", b"short", SALT)
    for bit in range(8 * len(sealed)):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        with pytest.raises(Misuse):
            keyring.open(b"here", bytes(broken))
    for length in range(len(sealed)):
        with pytest.raises(Misuse):
            keyring.open(b"here", sealed[:length])


def test_neither_another_key_nor_another_owner_opens_it() -> None:
    keyring = Keyring([b"k" * 32])
    sealed = keyring.seal(OWNER, b"here", TEXT, SALT)
    with pytest.raises(Misuse, match=r"another key.*data\.key"):
        Keyring([b"l" * 32]).open(b"here", sealed)
    with pytest.raises(Misuse, match="changed"):
        keyring.open(b"here", sealed.replace(OWNER, OTHER))
    assert Keyring([b"l" * 32, b"k" * 32]).open(b"here", sealed) == (OWNER, TEXT)
    for secrets in ([], [b"short"]):
        with pytest.raises(Misuse, match="secrets of 32 bytes"):
            Keyring(secrets)


def test_the_key_of_a_host_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = datakey.load_or_create(home)
    assert datakey.load_or_create(home).secrets == made.secrets and len(made.secrets) == 1
    assert home.data_key.stat().st_mode & 0o777 == 0o600
    home.data_key.chmod(0o644)
    with pytest.raises(Misuse, match="open to others"):
        datakey.load(home.data_key)
    home.data_key.chmod(0o600)
    home.data_key.write_bytes(b"cut off")
    with pytest.raises(Misuse, match="7 bytes"):
        datakey.load(home.data_key)


class Open(Seals):
    """A broken twin: seals nothing."""

    def seal(self, secret: Secret) -> bytes:
        return secret.raw


def certified() -> tuple[Birth, bytes, bytes]:
    """An agent, its certificate and its code."""
    code = b"its code"
    certificate = give_birth("keeper", Identity(bytes(32)), bytes(16), code_digest(code), "keeper:Keeper", False)
    return open_birth(certificate, "a test"), certificate, code


async def write_everything(folder: Path, kind: Seals) -> None:
    """All that a journal and a holder write of an agent: each has the text in it."""
    birth, certificate, code = certified()
    agent, clone, other = birth.agent, "keeper-fedcba9876543210", "other-0123456789abcdef"
    disk = FileDisk(folder)
    journal = await Journal.open(disk, kind)
    journal.owned(agent, birth.owner)
    journal.write(Born(agent, 0), (codec.encode(Beginning(certificate, TEXT)),))
    letter = Letter(agent, 0, 1, 0, other, "east", "kind", TEXT)
    loose = Loose(msgspec.structs.replace(letter, sequence=2), None)
    seen = Seen(other, 1, 0, Reply(agent, other, 1, "east", True, TEXT))
    digest = bytes(DIGEST_BYTES)
    state = Captured(b"head: " + TEXT, (digest,), ((digest, TEXT * 1000),))
    journal.checkpoint(agent, Change(state, seen=(seen,), letters=(letter,), loose=(loose,)))
    journal.keep_answer(agent, other, 2, Answer(True, TEXT))
    standing = Standing(None, (TEXT.decode(),))
    journal.keep_standing(agent, standing)
    journal.write(Born(clone, 0), (b"birth",), parent=agent)
    await journal.write(Active(b"t" * 16, (codec.encode(letter),)))
    here = lambda subject: Residence(b"", 0, "east", ("north",), 100, b"t")  # noqa: E731
    vault = await Vault.open(disk, kind, lambda *_: True, here, open_birth, "north", 1 << 30)
    named = agent, subject_of(birth.owner, agent), 0, 1, 0
    luggage = codec.encode(Luggage(standing=standing))
    vault.receive("east", Pieces(*named, state.fresh))
    sent = ((other, 1, letter),)
    rest = (state.head, state.pieces, (seen,), sent, ((loose, Answer(True, TEXT)),), standing)
    vault.receive("east", Whole(*named, certificate, TEXT, code, luggage, *rest))
    assert vault.copies_of("east") == (named[1],)
    copy = await vault.check_out(agent, 1)
    assert copy.init == TEXT and copy.rows.pieces[digest] == TEXT * 1000 and copy.rows.standing == standing
    assert copy.rows.head == state.head and copy.rows.sent == sent and copy.rows.seen == (seen,)
    await disk.close()


def files_with(text: bytes, folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file() and text in path.read_bytes()}


async def test_nothing_of_an_agent_is_found_on_the_disk(tmp_path: Path) -> None:
    await write_everything(tmp_path, seals())
    assert files_with(TEXT, tmp_path) == set()
    assert files_with(b"keeper:Keeper", tmp_path) == {"copies.db"}  # a certificate is no secret: this search finds


async def test_a_host_that_seals_nothing_is_seen(tmp_path: Path) -> None:
    with contextlib.suppress(Misuse):  # nor can it read that
        await write_everything(tmp_path, Open(Keyring([bytes(32)])))
    assert files_with(TEXT, tmp_path) >= {"custody.db-wal", "copies.db-wal"}


async def test_what_was_sealed_is_there_after_a_restart_also_for_a_clone(tmp_path: Path) -> None:
    await write_everything(tmp_path, seals())
    disk = FileDisk(tmp_path)
    journal = await Journal.open(disk, seals())
    assert [type(record) for record in await journal.load()] == [Born, Born, Active]
    agent, clone = certified()[0].agent, "keeper-fedcba9876543210"
    assert await journal.kept.state(agent) == await journal.kept.state(clone) == b"head: " + TEXT + TEXT * 1000
    ((loose, answer),) = await journal.kept.loose(agent)
    assert loose.letter.body == TEXT and answer == Answer(True, TEXT)
    assert codec.decode(await journal.parcel(BIRTH, agent), Beginning).init == TEXT
    luggage = Luggage()
    await journal.kept.recall(agent, luggage)
    assert luggage.standing.topics == (TEXT.decode(),)
    await disk.close()


async def test_each_owner_has_a_key_of_its_own(tmp_path: Path) -> None:
    await write_everything(tmp_path, seals())
    disk = FileDisk(tmp_path)
    database = await disk.open("custody", CUSTODY)
    owner = Identity(bytes(32)).public
    for table, column in (("states", "head"), ("pieces", "body"), ("outbox", "letter"), ("standings", "body")):
        for (sealed,) in await database.read(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL"):
            assert sealed[9:41] == owner
    ((record,), *_) = await database.read("SELECT body FROM records")
    assert record[9:41] == NOBODY
    await disk.close()


@pytest.mark.parametrize(
    "swap",
    [
        "UPDATE states SET head = (SELECT head FROM states WHERE agent LIKE '%fedcba9876543210')",
        "UPDATE states SET head = (SELECT body FROM standings)",
        "UPDATE pieces SET body = (SELECT body FROM parcels LIMIT 1)",
        "UPDATE states SET head = 'not sealed at all, as before'",
    ],
)
async def test_rows_that_change_their_places_are_not_taken(swap: str, tmp_path: Path) -> None:
    await write_everything(tmp_path, seals())
    with contextlib.closing(sqlite3.connect(tmp_path / "custody.db", isolation_level=None)) as database:
        assert database.execute(swap).rowcount > 0
    disk = FileDisk(tmp_path)
    journal = await Journal.open(disk, seals())
    with pytest.raises(Misuse, match="cannot be opened"):
        await journal.kept.state(certified()[0].agent)
    await disk.close()
