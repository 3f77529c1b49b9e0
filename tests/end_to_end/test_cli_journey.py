"""An agent's life on the command line, with real hosts."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform import consortium
from agentplatform.console import processes
from agentplatform.console.cli import main
from agentplatform.console.demo.stage import await_that
from agentplatform.version import __version__

HOSTS = ["north", "south"]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    consortium.found(root, HOSTS)
    try:
        processes.start(root, HOSTS)
        yield root
    finally:
        processes.stop(root, HOSTS)


def test_an_agent_is_created_asked_moved_explained_and_ended(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def done(*argv: str) -> Any:
        code = main(["--root", str(root), "--json", *argv])
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return json.loads(printed.out)

    def shown(*argv: str) -> str:
        assert main(["--root", str(root), *argv]) == 0
        return capsys.readouterr().out

    def refused(*argv: str) -> tuple[int, str]:
        code = main(["--root", str(root), *argv])
        printed = capsys.readouterr()
        assert printed.out == "" and printed.err.count("\n") == 1
        return code, printed.err

    def claimed() -> bool | None:
        return all(each["claims"] for each in done("hosts")) or None

    agent = done("--host", "north", "create", "counter", "--init", "5")["agent"]
    assert done("message", "counter", "add", "2")["answer"] == 7
    code, line = refused("message", "counter", "add", '"two"')
    assert code == 2 and "TypeError" in line
    assert any("TypeError" in each["line"] for each in done("logs", agent)["lines"])
    hop = done("dispatch", "counter", "south")
    assert (hop["source"], hop["destination"], hop["agents"]) == ("north", "south", [agent])
    assert done("message", "counter", "add", "1")["answer"] == 8
    (row,) = done("agents")
    assert (row["host"], row["resident"]) == ("south", True)
    assert {each["host"]: each["trusted"] for each in done("hosts")} == {"north": True, "south": True}
    await_that("both hosts have claimed what they are", claimed, 30.0)
    assert {each["claims"]["version"] for each in done("hosts")} == {__version__}
    assert [each["status"] for each in done("trust")["organisations"]] == ["trusted", "trusted"]
    (step,) = done("path", "counter")["hops"]
    assert (step["epoch"], step["source"], step["destination"], step["breaks"]) == (1, "north", "south", [])
    assert {"pass: signed by north", "word of north"} <= set(step["proved"]) and "north" in shown("path", agent)
    assert done("why", agent) == [] and done("blame") == [] and done("blame", "south") == []
    assert refused("blame", "nowhere")[0] == 2
    asked = done("decide", "counter", "--save", str(root / "d.json"), "--picture", str(root / "d.svg"))
    assert asked["decision"]["present"] == {agent: "south"} and (root / "d.svg").read_bytes().startswith(b"<svg ")
    changed = done("decide", "--snapshot", str(root / "d.json"), "--without", "south")
    out = {each["host"]: each["reason"] for each in changed["decision"]["rejected"]}
    assert "left out" in out["south"] and done("agents")[0]["host"] == "south"
    assert [each["running"] for each in done("status")] == [True, True]
    for verb in (["status"], ["hosts"], ["agents"], ["trust"], ["why", agent], ["logs", agent]):
        assert shown(*verb) != ""
    assert refused("dispatch", "counter", "nowhere")[0] == 2
    for verb in ("message nobody add", "dispatch nobody south", "dispose nobody", "why nobody", "logs nobody"):
        assert refused(*verb.split())[0] == 2
    done("dispose", agent)
    assert done("agents") == []
