"""Keys on disk: readable by their owner alone, and never half there."""

import os
from pathlib import Path

import pytest

from ledger import keyfile
from ledger.errors import Misuse


def test_a_key_is_its_owners_alone_and_never_overwritten(tmp_path: Path) -> None:
    path, first = tmp_path / "host.key", keyfile.draw()
    keyfile.write(path, first)
    assert path.stat().st_mode & 0o777 == 0o600 and path.stat().st_nlink == 1
    with pytest.raises(Misuse, match="never overwritten"):
        keyfile.write(path, keyfile.draw())
    assert keyfile.load(path).public == keyfile.load_or_create(path).public == first.public
    assert os.listdir(tmp_path) == ["host.key"]


@pytest.mark.parametrize("step", ["fsync", "link"])
def test_a_disk_that_is_full_leaves_no_half_key(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host with an empty next key would not start again."""
    path = tmp_path / "host.key.next"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, step, full)
        with pytest.raises(OSError, match="No space"):
            keyfile.load_or_create(path)
    assert os.listdir(tmp_path) == []
    assert keyfile.load_or_create(path).public == keyfile.load(path).public


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_file_that_is_no_key_is_named(size: int, tmp_path: Path) -> None:
    path = tmp_path / "host.key"
    path.touch(0o600)
    path.write_bytes(bytes(size))
    with pytest.raises(Misuse, match=rf"host.key has {size} bytes"):
        keyfile.load(path)


def test_two_that_need_a_key_at_once_get_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As two threads that create their owner's first agents: the second one draws while the first one writes."""
    path, draw, quicker = tmp_path / "owner.key", keyfile.draw, []

    def slowly() -> keyfile.Identity:
        monkeypatch.setattr(keyfile, "draw", draw)
        quicker.append(keyfile.load_or_create(path))
        return draw()

    monkeypatch.setattr(keyfile, "draw", slowly)
    assert keyfile.load_or_create(path).public == quicker[0].public == keyfile.load(path).public
    assert os.listdir(tmp_path) == ["owner.key"]
