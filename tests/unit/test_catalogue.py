"""The table of ready-made agents, and what is said when their libraries are missing."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

import agents
from agentplatform.agent import Agent
from ledger.errors import Misuse


@pytest.mark.parametrize("name", agents.CATALOGUE)
def test_every_row_names_an_agent(name: str) -> None:
    module, _, kind = agents.CATALOGUE[name].partition(":")
    assert issubclass(getattr(importlib.import_module(module), kind), Agent)


def test_the_table_can_be_read_without_the_libraries() -> None:
    check = "import agents, sys; sys.exit(bool({'cv2', 'av', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("library", ["cv2", "av"])
def test_a_missing_library_is_named_with_the_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("agents.face_recognition")
    monkeypatch.delitem(sys.modules, "agents.face_recognition")
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(Misuse, match=rf"{library} is missing: .*pip install '.\[vision\]'"):
        importlib.import_module("agents.face_recognition")


def test_an_opencv_without_the_recogniser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    importlib.import_module("agents.face_recognition")
    monkeypatch.delitem(sys.modules, "agents.face_recognition")
    monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(__version__="5.0"))
    with pytest.raises(Misuse, match=r"OpenCV 5.0 here has no Haar cascades or no LBPH"):
        importlib.import_module("agents.face_recognition")
