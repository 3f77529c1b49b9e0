"""A host's key is rotated: at every step, and cut short anywhere, there is a key with which the host can start."""

import os
from pathlib import Path

import pytest

from agentplatform import consortium, rotation
from agentplatform.settings import Home
from ledger import genesisfile, keyfile
from ledger.client import Client
from ledger.contracts import membership
from ledger.engines import ENGINES
from ledger.errors import Misuse
from ledger.links.memory import Hub, MemoryLinks
from ledger.memory_disk import MemoryDisk
from ledger.replica import Replica


class Alone:
    """A consortium of one host, its folder and its replica."""

    def __init__(self, folder: Path) -> None:
        (self.home,) = consortium.found(folder / "root", ["north"])
        self.disk, self.hub = MemoryDisk(), Hub()

    async def __aenter__(self) -> "Alone":
        genesis, key = genesisfile.read(self.home.genesis), keyfile.load(self.home.host_key)
        self.links = MemoryLinks(self.hub, "north", key.public, genesis.chain_id())
        self.replica = Replica("north", key, genesis, self.disk, self.links, ENGINES["ipbft"])
        await self.replica.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.replica.stop()

    async def announce(self, height: int | None = None) -> int:
        return await rotation.announce(self.home, "north", "north-org", self.replica, height)

    @property
    def registered(self) -> bytes:
        return self.replica.registry()["north"].key


def key(path: Path) -> bytes:
    assert path.stat().st_mode & 0o777 == 0o600
    return keyfile.load(path).public


async def test_the_key_is_drawn_announced_and_put_in_place_when_the_chain_has_it(tmp_path: Path) -> None:
    alone = Alone(tmp_path)
    home, old = alone.home, key(alone.home.host_key)
    async with alone:
        assert not rotation.adopt(home, old)
        at = await alone.announce()
        assert alone.registered == key(home.next_host_key) != old and alone.replica.height + 1 == at
        assert key(home.host_key) == old
        assert rotation.adopt(home, alone.registered)
        assert key(home.host_key) == alone.registered and not home.next_host_key.exists()
        assert key(home.folder / f"host.key.{old.hex()[:16]}") == old
        assert not rotation.adopt(home, alone.registered)
    async with alone:  # goes on with the new key: alone, it has to sign
        assert await alone.announce(alone.replica.height + 9)


async def test_a_later_height_leaves_the_old_key_in_place_until_then(tmp_path: Path) -> None:
    async with Alone(tmp_path) as alone:
        old = alone.registered
        assert await alone.announce(5) == 5
        assert alone.registered == old and not rotation.adopt(alone.home, alone.registered)
        fresh = key(alone.home.next_host_key)
        assert await alone.announce() == await alone.announce(5) == 5  # said again: it stays the same key
        assert key(alone.home.next_host_key) == fresh
        with pytest.raises(Misuse, match="for height 5 already"):
            await alone.announce(6)


async def test_a_key_that_was_drawn_before_a_crash_is_the_one_that_is_announced(tmp_path: Path) -> None:
    async with Alone(tmp_path) as alone:
        drawn = keyfile.load_or_create(alone.home.next_host_key).public
        await alone.announce()
        assert alone.registered == drawn


async def test_a_refusal_leaves_all_as_it_was(tmp_path: Path) -> None:
    async with Alone(tmp_path) as alone:
        old = alone.registered
        with pytest.raises(Misuse, match="name one of the next"):
            await alone.announce(1_000_000)
        assert alone.registered == old == key(alone.home.host_key)
        assert not rotation.adopt(alone.home, old)


async def test_a_void_key_is_drawn_anew(tmp_path: Path) -> None:
    """It was announced, and another announcement has replaced it: the chain never takes it."""
    async with Alone(tmp_path) as alone:
        await alone.announce(7)
        void = key(alone.home.next_host_key)
        other = keyfile.draw()
        possession = membership.prove_possession(other, alone.replica.chain_id, "north-org", "north")
        client = Client(alone.replica, keyfile.load(alone.home.organisation_key))
        await client.call("membership", membership.Rotate("north", other.public, 8, possession))
        await alone.announce(9)
        (waiting,) = membership.pending(alone.replica.state, "north-org")
        assert waiting.key == key(alone.home.next_host_key) != void


def test_cut_short_between_any_two_steps_it_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home,) = consortium.found(tmp_path / "root", ["north"])
    old, fresh = key(home.host_key), keyfile.load_or_create(home.next_host_key).public
    real = {name: getattr(os, name) for name in ("link", "replace")}
    for cut in ("link", "replace"):

        def crash(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, cut, crash)
        with pytest.raises(KeyboardInterrupt):
            rotation.adopt(home, fresh)
        assert key(home.host_key) == old and key(home.next_host_key) == fresh
        monkeypatch.setattr(os, cut, real[cut])
    assert rotation.adopt(home, fresh)
    assert key(home.host_key) == fresh and key(home.folder / f"host.key.{old.hex()[:16]}") == old


def test_without_a_next_key_there_is_nothing_to_put_in_place(tmp_path: Path) -> None:
    (home,) = consortium.found(tmp_path / "root", ["north"])
    with pytest.raises(Misuse, match="has no next key"):
        rotation.put_in_place(Home(home.folder))
