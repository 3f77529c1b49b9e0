"""Where an agent's `shared_file` looks, and what it says when there is nothing."""

import os
from pathlib import Path
from typing import Any

import pytest

from agentplatform import Agent, Message
from agentplatform.runners.inline import Inline
from ledger.errors import Misuse, PeerFault


class Reader(Agent):
    def handle_message(self, message: Message) -> Any:
        return str(self.shared_file(message.body))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name, files in (("first", ("a", "deep/b")), ("second", ("a", "c"))):
        for file in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(name)
    os.mkfifo(tmp_path / "second" / "pipe")
    return tmp_path / "first", tmp_path / "second"


def test_relative_names_are_looked_for_in_each_folder_in_order(folders: tuple[Path, Path]) -> None:
    first, second = folders
    with Inline(readable=folders) as inline:
        reader = inline.create(Reader)
        asked = ("a", "deep/b", "./c", str(second / "a"))
        found = [reader.call("where", name) for name in asked]
        assert found == [str(first / "a"), str(first / "deep/b"), str(second / "c"), str(second / "a")]


def test_what_is_not_there_names_every_place_and_how_a_folder_is_shared(folders: tuple[Path, Path]) -> None:
    first, second = folders
    with Inline(readable=folders) as inline:
        reader = inline.create(Reader)
        with pytest.raises(PeerFault) as none:
            reader.call("where", "pipe")  # it does not wait for the pipe's other end either
    said = str(none.value)
    assert f"{first}/pipe (No such file or directory), {second}/pipe (no regular file)" in said
    assert "no file 'pipe'" in said and "[workers] readable = [" in said


@pytest.mark.parametrize("name", ["../second/c", "deep/../../second/c", "/etc/../etc/passwd"])
def test_no_name_climbs_out(folders: tuple[Path, Path], name: str) -> None:
    with Inline(readable=folders[:1]) as inline, pytest.raises(PeerFault, match=r"climbs out of the folder by '\.\.'"):
        inline.create(Reader).call("where", name)


@pytest.mark.parametrize("name", ["", "a\0b", 7, None, "x" * 5000])
def test_what_is_no_name_is_refused(folders: tuple[Path, Path], name: Any) -> None:
    with Inline(readable=folders) as inline, pytest.raises(PeerFault, match="a file's name is a text"):
        inline.create(Reader).call("where", name)


def test_a_host_that_shares_nothing_says_so() -> None:
    with Inline() as inline, pytest.raises(PeerFault, match="no folder, since this host shares none"):
        inline.create(Reader).call("where", "a")


def test_an_agent_without_a_host_has_no_files() -> None:
    with pytest.raises(Misuse, match="lives on no host"):
        Reader().shared_file("a")
