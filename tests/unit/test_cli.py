"""The command line: what it takes, what it prints, and how it says no."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agentplatform import consortium
from agentplatform.commands import Command, open_command, read_command
from agentplatform.console.cli import main
from agentplatform.console.verbs import VERBS
from agentplatform.frontdoor.client import homes
from agentplatform.ticket import Ticket
from ledger import codec, keyfile
from ledger.disk import FileDisk
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.decisions import FACE, USER, city, decided
from tests.helpers.desk_twin import DeskTwin, answering

AGENT = "counter-0123456789abcdef"
CLONE = "counter-fedcba9876543210"
HOP = {
    "agents": [AGENT],
    "source": "north",
    "destination": "south",
    "epoch": 2,
    "why": "its owner's wish",
    "bytes": 1234,
    "downtime_ms": 1.5,
    "height": None,
}
STATUS = {
    "host": "north",
    "organisation": "north-org",
    "pid": 7,
    "uptime_s": 61.0,
    "jail": "landlock",
    "disk_full": "the disk is full: free 64 MiB under data",
    "ledger": {"height": 3, "members": ["north", "south"], "members_version": 1, "quorum": 2},
    "links": {"up": [], "down": ["south"]},
    "agents": 3,
    "deactivated": 2,
    "in_doubt": [{"transfer": "00", "agents": [AGENT], "role": "source", "phase": "committed", "waits_for": "south"}],
    "blocked": [{"host": "north", "agents": [AGENT], "waits_for": "south", "why": "it has not said yet"}],
}
HOSTS = [
    {
        "host": name,
        "organisation": f"{name}-org",
        "address": "127.0.0.1:1",
        "trusted": name == "north",
        "reason": "the [reason] it has",
        "since": 0,
        "up": name == "north",
        "state": "online" if name == "north" else "offline",
        "offline_since": None if name == "north" else 1000.0,
        "cpu_free": 0.5 if name == "north" else None,
        "memory_free": 1 << 30 if name == "north" else None,
        "rtt_ms": None,
        "loss": None,
        "agents": 1,
    }
    for name in ("north", "south")
]
EXPLANATION = {
    "decision": "d1",
    "groups": ["g"],
    "at": 1000.0,
    "why": "ada moved",
    "policy": {"name": "falcon", "settings": {"weights": {"cpu": 0.25, "memory": 0.25, "network": 0.5}}},
    "inputs": {"access": {"ada": [{"host": "north", "rtt_ms": 4.0, "loss": 0.0, "source": "emulated"}]}},
    "candidates": [
        {
            "agent": AGENT,
            "host": "north",
            "score": 1.25,
            "terms": {"network": 0.5, "cpu": 0.5, "memory": 0.5, "experience": 0.5},
            "distance": 0.0,
            "path": ["north"],
            "note": "it stays",
        }
    ],
    "rejected": [{"agent": AGENT, "host": "west", "reason": "not trusted"}],
    "present": {AGENT: "north"},
    "chosen": {AGENT: "north"},
    "benefit": 1.25,
    "bound": 1.25,
    "stuck": {},
    "steps": 1,
    "remark": "staying is best",
    "outcome": {"failed": {}},
}
SERVICE = {"agent": AGENT, "service": "echo", "version": "1.4", "host": "east", "owner": "ab" * 32}
BLAME = {
    "host": "west",
    "by": "north",
    "standing": "member",
    "total": 2,
    "kinds": {"mail": 2},
    "suspected": None,
    "newest": [{"kind": "mail", "reason": "sent nonsense", "first": 1.0, "last": 2.0, "times": 2}],
    "double_signing": [{"evidence": "ab" * 32, "height": 9}, {"evidence": "cd" * 32, "height": None}],
}
TRUST = {
    "height": 3,
    "organisations": [{"name": "west-org", "status": "revoked", "reason": "gone", "since": 2, "hosts": ["west"]}],
    "proposals": [],
}
COUNTER = {
    "agent": AGENT,
    "name": "counter",
    "host": "north",
    "epoch": 1,
    "resident": True,
    "state": "running",
    "offline_since": None,
}
OUTCOMES: dict[str, Any] = {"dispatch": HOP, "retract": HOP, "clone": {"clone": CLONE}}
KEEPS = {"list": [{"key": "a/1", "bytes": 7}], "get": {"text": b"plain", "raw": b"\0\x01"}, "snapshot": 3}
KEEPS["snapshots"] = [{"number": 3, "at": 0.0, "note": "noon", "entries": 2, "size": 9}]
OUTCOMES |= {verb: {} for verb in ("deactivate", "activate", "snapshot", "custody", "dispose")}


def ordered(command: Command) -> dict[str, Any]:
    if command.data is not None:
        return {"data": codec.encode(KEEPS.get(command.data.act))}
    return OUTCOMES[command.verb]


SAYS: dict[str, Any] = {
    "status": STATUS,
    "hosts": HOSTS,
    "agents": [COUNTER],
    "services": lambda service, version, owner: [SERVICE] if (service, version) == ("echo", "1.2") else [],
    "resolve": lambda agent: {"agent": AGENT, "host": "north", "epoch": 0},
    "create": lambda **_: {"agent": AGENT},
    "ask": lambda body, **_: {"body": body},
    "tell": None,
    "order": lambda command, **_: ordered(read_command(command)),
    "why": lambda agent: [EXPLANATION],
    "blocked": lambda agent: [],
    "fence": lambda agent: None,
    "logs": lambda agent, lines: {"lines": ["2026-01-02 00:00:00 out  hello [b]"]},
    "trust": TRUST,
    "blame": lambda host: [BLAME],
    "vote_revoke": lambda organisation, reason: {"height": 9, "status": "revoked"},
    "vote_suspend": lambda organisation, reason: {"height": 9, "status": "suspended"},
    "vote_reinstate": lambda organisation, reason: {"height": 9, "status": "trusted"},
    "leave": lambda reason: {"height": 9, "status": "left"},
    "vote_rules": lambda **_: {"height": 9, "status": "decided"},
    "rotate_key": lambda height: {"host": "north", "from": height or 5, "height": 4, "in_place": height is None},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    consortium.found(tmp_path / "root", ["north", "south"])
    return tmp_path / "root"


@pytest.fixture(scope="module")
def answered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Such a root whose north answers, for all tests that need no other answers. (To end a front door takes 0.2 s.)"""
    root = tmp_path_factory.mktemp("answered") / "root"
    consortium.found(root, ["north", "south"])
    with answering(root, DeskTwin("north", SAYS | {"dry_run": lambda about: msgspec.to_builtins(decided(city()))})):
        yield root


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    code = main([str(each) for each in argv])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str]:
    """The exit code and the one line that says why; nothing else may be printed."""
    code, out, err = run(capsys, *argv)
    assert out == "" and err.startswith("agentplatform: ") and err.count("\n") == 1, (out, err)
    return code, err


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["fly"], "invalid choice: 'fly'"),
        ([], "required: VERB"),
        (["create"], "required: WHAT"),
        (["start", "nowhere"], "there is no host 'nowhere' under"),
        (["stop", "nowhere"], "there are: north, south"),
        (["--host", "nowhere", "agents"], "there is no host 'nowhere'"),
        (["found"], "founded under"),
        (["logs", AGENT, "--lines", "0"], "no number above 0"),
        (["logs", AGENT, "--lines", "many"], "no number above 0"),
        (["message", AGENT, "hi", "--patience", "nan"], "no number of seconds"),
        (["deactivate", AGENT, "--for", "inf"], "no number of seconds above 0, at most 316224000"),
        (["dispatch", AGENT, "south", "--deadline", "604801"], "no number of seconds above 0, at most 604800"),
        (["trust", "vote-revoke", "west-org", "--as", "all"], "required: --reason"),
        (["trust", "vote-join", "/nowhere", "--reason", "r", "--as", "all"], "/nowhere cannot be read"),
        (["trust", "fly"], "invalid choice: 'fly'"),
        (["trust", "rotate-key"], "required: HOST"),
        (["trust", "rotate-key", "south", "--at", "-1"], "no number above 0"),
        (["trust", "rotate-key", "nowhere"], "there is no host 'nowhere'"),
        (["trust", "adopt-key", "nowhere"], "there is no host 'nowhere'"),
        (["trust", "adopt-key", "south"], "south has no next key; draw one with"),
        (["trust", "vote-rules", "two", "9", "--reason", "r", "--as", "all"], "'two' is no number above 0"),
        (["trust", "vote-suspend", "west-org", "--reason", "r"], "required: --as"),
        (["ledger", "evidence", "--record", "now"], "unrecognized arguments: now"),
        (["create", "nobody"], "the catalogue has no agent 'nobody'; it has counter"),
        (["create", "nowhere.py:Agent"], "there is no file"),
        (["create", "no_such_module:Agent"], "there is no module 'no_such_module'"),
        (["create", "agents.counter:Nobody"], "it has: Counter"),
        (["create", ":Agent"], "is no module"),
        (["create", "agents.counter:Counter", "--init", "{"], "--init is no JSON"),
        (["create", "counter", "--name", "Not A Name"], "is no agent name"),
        (["message", AGENT, "hi", "hello"], "the body is no JSON"),
        (["demo", "--input", "/nowhere"], "there is no file or folder /nowhere"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(
    answered: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    code, line = refused(capsys, "--root", answered, *argv)
    assert (code, says in line) == (2, True), line


@pytest.mark.parametrize(
    ("error", "code"),
    [(Misuse("there is no agent 'x';\nsay another"), 2), (Unavailable("not now"), 1), (PeerFault("south", "lies"), 1)],
)
def test_what_the_host_refuses_is_one_line_too(
    root: Path, capsys: pytest.CaptureFixture[str], error: Exception, code: int
) -> None:
    with answering(root, DeskTwin("north", {"resolve": error})):
        expected = " ".join(str(error).splitlines())
        assert refused(capsys, "--root", root, "message", "x", "hi") == (code, f"agentplatform: {expected}\n")


def test_without_a_consortium_or_a_running_host_it_says_what_to_do(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, line = refused(capsys, "--root", tmp_path / "elsewhere", "agents")
    assert code == 2 and "agentplatform found" in line
    code, line = refused(capsys, "--root", root, "agents")
    assert code == 1 and "agentplatform start" in line


JSON = [
    (["status"], {"north": True, "south": False}, lambda data: {row["host"]: row["running"] for row in data}),
    (["hosts"], ["north", "south"], lambda data: [row["host"] for row in data]),
    (["services", "echo", "--version", "1.2"], [AGENT], lambda data: [row["agent"] for row in data]),
    (["services"], [], list),
    (["agents"], [AGENT], lambda data: [row["agent"] for row in data]),
    (["create", "counter"], {"agent": AGENT, "host": "north"}, dict),
    (["message", "counter", "add", "[1, 2]"], {"agent": AGENT, "answer": [1, 2]}, dict),
    (["message", "counter", "add", "--no-wait"], {"agent": AGENT, "answer": None}, dict),
    (["dispatch", "counter", "south"], HOP, dict),
    (["retract", "counter"], HOP, dict),
    (["clone", "counter"], {"agent": CLONE, "host": "north"}, dict),
    (["deactivate", "counter", "--for", "5"], {"agent": AGENT, "done": "is deactivated"}, dict),
    (["activate", "counter"], {"agent": AGENT, "done": "runs"}, dict),
    (["snapshot", "counter"], {"agent": AGENT, "done": "has a checkpoint of how it is now"}, dict),
    (["data", "counter"], {"agent": AGENT, "keys": KEEPS["list"]}, dict),
    (["data", "counter", "get", "k"], {"text": "plain", "raw": "2 bytes: 0001"}, lambda data: data["value"]),
    (["data", "counter", "snapshots"], {"agent": AGENT, "snapshots": KEEPS["snapshots"]}, dict),
    (["data", "counter", "snapshot", "noon"], {"agent": AGENT, "done": "has snapshot 3"}, dict),
    (["data", "counter", "restore", "3"], {"agent": AGENT, "done": "is as it was at snapshot 3"}, dict),
    (["data", "counter", "forget", "3"], {"agent": AGENT, "done": "has no more snapshot 3"}, dict),
    (["custody", "counter", "held"], {"agent": AGENT, "done": "is in held custody"}, dict),
    (["custody", "counter", "local"], {"agent": AGENT, "done": "is in local custody"}, dict),
    (["clone", "counter", "--custody", "local"], {"agent": CLONE, "host": "north"}, dict),
    (["dispose", "counter"], {"agent": AGENT, "disposed": True}, dict),
    (["why", "counter"], ["d1"], lambda data: [row["decision"] for row in data]),
    (["logs", "counter"], ["north"], lambda data: [row["host"] for row in data["lines"]]),
    (["trust"], TRUST, dict),
    (
        ["trust", "vote-revoke", "west-org", "--reason", "gone", "--as", "all"],
        {"north": "revoked"},
        lambda data: {vote["host"]: vote["status"] for vote in data["votes"]},
    ),
]


@pytest.mark.parametrize(
    ("argv", "expected", "look"), JSON, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_json_is_one_document_on_stdout(
    answered: Path, capsys: pytest.CaptureFixture[str], argv: list[str], expected: Any, look: Any
) -> None:
    code, out, err = run(capsys, *argv, "--json", "--root", answered)
    assert (code, err) == (0, "")
    assert look(json.loads(out)) == expected


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["status"], ["north", "does not run", "3 (2 deactivated)", "down: south"]),
        (["status"], ["counter-0123456789abcdef", "waits for south"]),
        (["status"], ["north: the disk is full: free 64 MiB under data"]),
        (["hosts"], ["50%", "1.0 GiB", "not trusted", "[reason]"]),
        (["services", "echo", "--version", "1.2"], ["echo", "1.4", AGENT, "east", "ab" * 8 + ".."]),
        (["agents"], [AGENT, "running"]),
        (["create", "counter"], [f"{AGENT} lives on north"]),
        (["message", "counter", "add", "7"], ["7"]),
        (["dispatch", "counter", "south"], ["1,234", "1.5 ms"]),
        (["clone", "counter"], [f"{CLONE} lives on north"]),
        (["deactivate", "counter"], [f"{AGENT} is deactivated"]),
        (
            ["why", "counter"],
            ["ada moved", "1.25", "network 0.5, cpu 0.25, memory 0.25", "not west: not trusted", "(emulated)"],
        ),
        (["logs", "counter"], ["north", "hello [b]"]),
        (["data", "counter", "snapshots"], ["keeps 1 snapshot\n", "noon"]),
        (["blame"], ["west", "north", "mail 2", "sent nonsense, 2 times", "height 9", "not on the chain yet"]),
        (["trust"], ["west-org", "revoked", "height 2"]),
        (["trust", "rotate-key", "north"], ["since height 5", "agentplatform stop north; agentplatform start north"]),
        (["trust", "rotate-key", "north", "--at", "9"], ["from height 9 on; this is 4"]),
        (["trust", "vote-rules", "2", "9", "--reason", "new", "--as", "all"], ["version 2 of the rules is decided"]),
    ],
)
def test_people_see_words_and_tables(
    answered: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    words: list[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    code, out, err = run(capsys, "--root", answered, *argv)
    assert (code, err) == (0, "")
    assert [word for word in words if word not in out] == []


def test_what_agents_say_does_not_steer_the_terminal(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "\x1b]0;owned\x07\x9b2J\x1b[31m"
    says = SAYS | {"logs": lambda agent, lines: {"lines": [f"2026-01-02 00:00:02 out  {evil}"]}, "trust": Misuse(evil)}
    says["why"] = lambda agent: [EXPLANATION | {"why": evil, "policy": {"name": evil}, "remark": evil}]
    fault = BLAME["newest"][0] | {"reason": evil, "kind": evil}
    says["blame"] = lambda host: [BLAME | {"newest": [fault], "kinds": {evil: 2}}]
    with answering(root, DeskTwin("north", says)):
        for verb in (["why", "counter"], ["blame"]):
            _, out, _ = run(capsys, "--root", root, *verb)
            assert r"\x1b]0;owned\x07" in out and not set("\x1b\x07\x9b") & set(out), verb
        _, out, _ = run(capsys, "--root", root, "logs", "counter")
        _, _, error = run(capsys, "--root", root, "trust")
    for shown in (out, error):
        assert r"\x1b]0;owned\x07\x9b2J\x1b[31m" in shown and not set("\x1b\x07\x9b") & set(shown)


def test_found_makes_hosts_with_private_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "--root", tmp_path / "r", "--json", "found", "a", "b")
    assert code == 0 and [row["host"] for row in json.loads(out)] == ["a", "b"]
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "r").rglob("*.key")} == {0o600}


def test_logs_and_agents_of_several_hosts_are_merged(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def desk(name: str, line: str, **row: Any) -> DeskTwin:
        agent = {"agent": AGENT, "name": "counter", "epoch": 1, "resident": False, "state": None} | row
        return DeskTwin(name, SAYS | {"agents": [agent], "logs": lambda agent, lines: {"lines": [line]}})

    north = desk("north", "2026-01-02 00:00:02 out  second", host="south", epoch=3)
    south = desk("south", "2026-01-02 00:00:01 out  first", host="south", epoch=2, resident=True, state="running")
    with answering(root, north, south):
        _, out, _ = run(capsys, "--root", root, "--json", "logs", "counter")
        assert [each["line"][-6:] for each in json.loads(out)["lines"]] == [" first", "second"]
        _, out, _ = run(capsys, "--root", root, "--json", "agents")
        assert [(row["state"], row["epoch"]) for row in json.loads(out)] == [("running", 2)]
    stranded = desk("south", "", host="south", state="stranded")
    with answering(root, desk("north", "", host="south"), stranded):
        _, out, _ = run(capsys, "--root", root, "agents")
        assert "stranded" in out
    with answering(root, desk("north", "", host="south")):
        _, out, _ = run(capsys, "--root", root, "agents")
        assert "its host does not say" in out


def test_hosts_that_never_heard_of_an_agent_do_not_keep_others_from_telling(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stranger = DeskTwin("north", SAYS | {"resolve": Misuse("no agent 'counter' is known here")})
    with answering(root, stranger, DeskTwin("south", SAYS)):
        code, out, err = run(capsys, "--root", root, "logs", "counter")
        assert (code, err) == (0, "") and "hello [b]" in out
        code, out, err = run(capsys, "--root", root, "--json", "why", "counter")
        assert (code, err) == (0, "") and [row["decision"] for row in json.loads(out)] == ["d1"]
    with answering(root, stranger):
        code, line = refused(capsys, "--root", root, "logs", "counter")
        assert code == 2 and "no agent 'counter'" in line


def test_a_decision_is_drawn_saved_and_taken_again(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = msgspec.to_builtins(decided(city()))
    drawn, saved = tmp_path / "why.svg", tmp_path / "why.json"
    with answering(root, DeskTwin("north", SAYS | {"why": lambda agent: [made], "dry_run": lambda about: made})):
        code, out, _ = run(capsys, "--root", root, "why", "counter", "--picture", drawn, "--save", saved)
        assert code == 0 and f"picture: {drawn}" in out and f"saved decision: {saved}" in out
        assert "exists; name another" in refused(capsys, "--root", root, "why", "counter", "--picture", drawn)[1]
        code, out, _ = run(capsys, "--root", root, "decide", "counter", "--without", "east")
        assert code == 0 and "user stays on north" in out and "no: not trusted: it is left out" in out
    code, out, _ = run(capsys, "--root", root, "decide", "--snapshot", saved)  # nobody is asked
    assert code == 0 and "user goes from north to east" in out and "your changes" not in out
    code, out, _ = run(capsys, "--root", root, "decide", "--snapshot", saved, "--set", "host.south.cpu_free=0.6")
    assert code == 0 and "your changes move nobody" in out
    weights = "network=0,cpu=0.5,memory=0.2,experience=0.1,gpu=0.2"
    code, out, _ = run(capsys, "--root", root, "--json", "decide", "--snapshot", saved, "--weights", weights)
    assert code == 0 and json.loads(out)["decision"]["policy"]["settings"]["weights"]["more"] == {"gpu": 0.2}
    stale = json.loads(saved.read_text()) | {"chosen": {USER: "south", FACE: "south"}}
    saved.write_text(json.dumps(stale))
    code, out, _ = run(capsys, "--root", root, "decide", "--snapshot", saved)
    assert code == 0 and "this version decides otherwise" in out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "name a group or an agent"),
        (["counter", "--snapshot", "x.json"], "name a group or an agent"),
        (["--snapshot", "nowhere.json"], "cannot be read"),
        (["counter", "--set", "moon=1"], "write it as host.NAME"),
        (["counter", "--weights", "network"], "is no weight"),
        (["counter", "--policy", "moon"], "there are: falcon"),
    ],
)
def test_decide_says_what_it_needs(
    answered: Path, capsys: pytest.CaptureFixture[str], argv: list[str], words: str
) -> None:
    code, line = refused(capsys, "--root", answered, "decide", *argv)
    assert code == 2 and words in line


def test_a_group_is_formed_as_a_file_says_where_its_first_agent_lives(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rules = [{"type": "atomic", "agents": ["counter", "echo"]}]
    file = tmp_path / "pair.toml"
    file.write_text(
        'name = "pair"\nagents = ["counter", "echo"]\nrules = [{type = "atomic", agents = ["counter", "echo"]}]\n'
    )
    says = {"group": lambda name, user, agents, rules: {"group": name, "agents": [AGENT, CLONE]}}
    south = DeskTwin("south", SAYS | says)
    with answering(root, DeskTwin("north", SAYS | {"resolve": {"agent": AGENT, "host": "south", "epoch": 1}}), south):
        code, out, err = run(capsys, "--root", root, "group", file)
        assert (code, err) == (0, "") and "pair is formed on south" in out and "agentplatform decide pair" in out
        file.write_text(
            'name = "pair"\nagents = ["counter"]\nrules = [{type = "atomic", agents = ["counter", "echo"]}]\n'
        )
        assert f"{file}: a rule of the group 'pair' names 'echo'" in refused(capsys, "--root", root, "group", file)[1]
        file.write_text("name = pair")
        assert f"{file} is no TOML" in refused(capsys, "--root", root, "group", file)[1]
        assert "cannot be read" in refused(capsys, "--root", root, "group", tmp_path / "nowhere.toml")[1]
    formed = [arguments for verb, arguments in south.asked if verb == "group"]
    assert formed == [{"name": "pair", "user": "", "agents": ["counter", "echo"], "rules": rules}]


def test_nothing_is_drawn_where_nothing_was_decided(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with answering(root, DeskTwin("north", SAYS | {"why": lambda agent: []})):
        code, line = refused(capsys, "--root", root, "why", "counter", "--picture", root / "x.svg")
    assert code == 2 and f"try: agentplatform decide {AGENT}" in line and not (root / "x.svg").exists()


def test_why_asks_who_knows_best_about_an_agent_whose_host_is_offline(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fence(custody: str | None) -> Any:
        row = {"agents": [AGENT], "host": "west", "waits_for": "the ledger", "why": f"its custody is {custody}"}
        return lambda agent: row | {"custody": custody}

    quiet = SAYS | {"why": lambda agent: []}
    knows, does_not, hears = {"fence": fence("held")}, {"fence": fence(None)}, {"fence": lambda agent: None}
    with answering(root, DeskTwin("north", quiet | does_not), DeskTwin("south", quiet | knows)):
        code, out, _ = run(capsys, "--root", root, "why", "counter")
    assert code == 0 and out == f"{AGENT} on west waits for the ledger: its custody is held\n"
    with answering(root, DeskTwin("north", quiet | knows), DeskTwin("south", quiet | hears)):
        code, out, _ = run(capsys, "--root", root, "why", "counter")
    assert code == 0 and "it waits for nobody" in out  # south has a link to its host


def test_an_agent_whose_host_is_offline_is_shown_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at = time.strftime("%H:%M:%S", time.localtime(1000.0))
    rows = [COUNTER | {"state": None, "offline_since": 1000.0}, COUNTER | {"agent": CLONE, "state": None}]
    with answering(root, DeskTwin("north", SAYS | {"agents": rows})):
        _, out, _ = run(capsys, "--root", root, "agents")
        assert f"host offline since {at}" in out and "its host does not say" in out
        _, out, _ = run(capsys, "--root", root, "hosts")
        assert f"offline since {at}" in out and "online" in out


NARROW = {
    "agents": [AGENT, "counter", "north", "running"],
    "status": ["north-org", "1 min 1 s", "3 (2 deactivated)", "members: north, south (version 1)"],
    "hosts": ["north-org", "not trusted", "1.0 GiB"],
    "services echo --version 1.2": [AGENT, "ab" * 8 + ".."],
    "dispatch counter south": ["counter", "1,234", "1.5 ms"],
}


def test_a_narrow_screen_leaves_nothing_out(
    answered: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for columns in ("20", "60", "80", "200"):
        monkeypatch.setenv("COLUMNS", columns)
        for words, shown in NARROW.items():
            _, out, _ = run(capsys, "--root", answered, *words.split())
            assert [word for word in shown if word not in out] == [], (columns, out)


def test_the_token_of_an_endpoint_is_shown_and_status_says_where_it_is(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north = homes(root)["north"]
    north.settings_file.write_text(north.settings_file.read_text() + '\n[http]\nlisten = "127.0.0.1:8080"\n')
    code, out, _ = run(capsys, "--root", root, "--json", "token", "north")
    assert code == 0
    assert json.loads(out) == [{"host": "north", "endpoint": "127.0.0.1:8080", "token": north.http_token.read_text()}]
    assert north.http_token.stat().st_mode & 0o777 == 0o600
    _, out, _ = run(capsys, "--root", root, "token")
    assert north.http_token.read_text() in out and "none" in out  # south takes no requests
    assert "there is no host 'mars'" in refused(capsys, "--root", root, "token", "mars")[1]
    says = {"status": STATUS | {"endpoint": "127.0.0.1:8080"}}
    with answering(root, DeskTwin("north", SAYS | says), DeskTwin("south", SAYS)):
        _, out, _ = run(capsys, "--root", root, "status")
        assert out.count("north takes requests on http://127.0.0.1:8080") == 1


def test_status_tells_a_host_that_hangs_from_one_that_does_not_run(
    root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Daemon:
        pid = 4711

    hangs = homes(root)["north"]
    monkeypatch.setattr(
        "agentplatform.console.processes.running", lambda home: Daemon if home.folder == hangs.folder else None
    )
    _, out, _ = run(capsys, "--root", root, "status")
    assert "does not answer (process 4711)" in out and "does not run" in out
    for verb in (["hosts"], ["data", "counter"], ["drain", "north"]):
        line = refused(capsys, "--root", root, "--host", "north", *verb)[1]
        assert "north does not answer (process 4711)" in line and "agentplatform status" in line
    assert "south is not running; start it with" in refused(capsys, "--root", root, "--host", "south", "hosts")[1]


def test_members_are_named_once_or_by_who_says_so(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = STATUS | {"host": "south", "ledger": STATUS["ledger"] | {"members_version": 2}}
    with answering(root, DeskTwin("north", SAYS), DeskTwin("south", SAYS | {"status": STATUS | {"host": "south"}})):
        _, out, _ = run(capsys, "--root", root, "status")
        assert out.count("members: ") == 1
    with answering(root, DeskTwin("north", SAYS), DeskTwin("south", SAYS | {"status": other})):
        _, out, _ = run(capsys, "--root", root, "status")
        assert "(version 1), as north has it" in out and "(version 2), as south has it" in out


def test_votes_stop_when_it_is_decided_and_the_one_concerned_is_not_asked(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    north, south = DeskTwin("north", SAYS), DeskTwin("south", SAYS)
    with answering(root, north, south):
        vote = ["--root", root, "--json", "trust", "vote-revoke", "--reason", "gone", "--as"]
        run(capsys, *vote, "all", "north-org")
        assert [verb for verb, _ in north.asked if verb == "vote_revoke"] == []
        code, out, _ = run(capsys, *vote, "north", "--as", "south", "west-org")
    assert code == 0 and [each["host"] for each in json.loads(out)["votes"]] == ["north"]


@pytest.mark.parametrize(
    ("argv", "verb", "status"),
    [
        (["vote-suspend", "west-org", "--as", "all"], "vote_suspend", "suspended"),
        (["vote-reinstate", "west-org", "--as", "all"], "vote_reinstate", "trusted"),
        (["leave", "--as", "north"], "leave", "left"),
    ],
)
def test_trust_is_suspended_given_back_and_left(
    root: Path, capsys: pytest.CaptureFixture[str], argv: list[str], verb: str, status: str
) -> None:
    north = DeskTwin("north", SAYS)
    with answering(root, north):
        code, out, _ = run(capsys, "--root", root, "trust", *argv, "--reason", "a test")
    assert code == 0 and f"is {status}" in out
    assert [arguments["reason"] for asked, arguments in north.asked if asked == verb] == ["a test"]


def test_a_next_key_is_put_in_place_of_a_host_that_does_not_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = homes(root)["south"]
    fresh = keyfile.load_or_create(home.next_host_key)
    disk = FileDisk(home.data)  # as the daemon has it
    assert "in use" in refused(capsys, "--root", root, "trust", "adopt-key", "south")[1]
    asyncio.run(disk.close())
    code, out, _ = run(capsys, "--root", root, "trust", "adopt-key", "south")
    assert code == 0 and "starts with its next key" in out
    assert keyfile.load(home.host_key).public == fresh.public


def test_an_agent_is_made_from_a_file(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my_agent_of_a_file.py"
    file.write_text("from agentplatform import Agent\nclass Mine(Agent):\n    pass\n")
    north = DeskTwin("north", SAYS)
    with answering(root, north):
        assert run(capsys, "--root", root, "create", f"{file}:Mine", "--init", "[1]")[0] == 0
    assert b"class Mine" in next(arguments["code"] for verb, arguments in north.asked if verb == "create")


def test_a_file_that_cannot_be_imported_is_named(
    answered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken_agent.py").write_text("1 / 0\n")
    (tmp_path / "json.py").write_text("")
    code, line = refused(capsys, "--root", answered, "create", f"{tmp_path}/broken_agent.py:A")
    assert code == 2 and "ZeroDivisionError" in line
    code, line = refused(capsys, "--root", answered, "create", f"{tmp_path}/json.py:A")
    assert code == 2 and "rename the file" in line


def test_every_verb_of_the_issue_is_there() -> None:
    wanted = "found start stop status create dispatch retract clone deactivate activate snapshot dispose"
    wanted += " agents hosts why logs trust demo drain group"
    assert set(wanted.split()) <= set(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([verb, "--help"])
    assert end.value.code == 0 and VERBS[verb].help.split()[0] in capsys.readouterr().out


def test_a_dispatch_to_where_the_agent_is_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    consortium.found(tmp_path / "root", ["north"])
    desk = DeskTwin("north", {"resolve": {"agent": AGENT, "host": "north"}, "order": {}})
    with answering(tmp_path / "root", desk):
        assert main(["--root", str(tmp_path / "root"), "dispatch", "counter", "north"]) == 0
    assert capsys.readouterr().out.strip() == "it is there already"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["dispatch", "counter", "south", "--retries", "-1"], "'-1' is no number"),
        (["dispatch", "counter", "south", "--retries", "101"], "0 to 100 retries"),
        (["dispatch", "counter", "south", "--need", "a b"], "'a b' is no need"),
        (["dispatch", "counter", "south", "--deadline", "0"], "no number of seconds"),
        (["deactivate", "counter", "--for", "soon"], "no number of seconds"),
    ],
)
def test_terms_that_cannot_be_are_refused_with_what_can(
    answered: Path, capsys: pytest.CaptureFixture[str], argv: list[str], says: str
) -> None:
    code, line = refused(capsys, "--root", answered, *argv)
    assert code == 2 and says in line


def test_a_ticket_reaches_the_host_whole_and_signed(root: Path) -> None:
    desk = DeskTwin("north", SAYS)
    terms = ["--deadline", "5", "--retries", "2", "--need", "cv2", "--need", "memory>=10"]
    with answering(root, desk):
        assert main(["--root", str(root), "dispatch", "counter", "south", *terms]) == 0
    raw = desk.asked[-1][1]["command"]
    owner = keyfile.load(root / "owner.key").public
    command = open_command(raw, owner, 0, "the test")
    assert command.ticket == Ticket("south", 5.0, 2, ("cv2", "memory>=10"))


def test_who_has_voted_already_does_not_keep_others_from_voting(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voted = Misuse("north-org has voted on this already")
    vote = ["--root", root, "trust", "vote-revoke", "west-org", "--reason", "gone", "--as", "all"]
    with answering(root, DeskTwin("north", SAYS | {"vote_revoke": voted}), DeskTwin("south", SAYS)):
        code, out, _ = run(capsys, *vote)
    assert code == 0 and "south voted at height 9" in out and "north did not vote: north-org has voted" in out
    with answering(root, DeskTwin("north", SAYS | {"vote_revoke": voted})):
        code, line = refused(capsys, *vote)
    assert code == 2 and "has voted on this already" in line


def test_every_running_host_votes_on_who_joins(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    consortium.found(root, ["north", "south"])
    joining = tmp_path / "west.json"
    joining.write_text(json.dumps({"name": "west-org", "key": "00", "hosts": []}))
    says = {"hosts": HOSTS, "vote_join": {"height": 1, "status": "proposed"}}
    desks = [DeskTwin("north", says), DeskTwin("south", says)]
    with answering(root, *desks):
        command = ["trust", "vote-join", str(joining), "--reason", "a new operator", "--as", "all"]
        assert main(["--root", str(root), *command]) == 0
    assert all("vote_join" in [verb for verb, _ in desk.asked] for desk in desks)
    capsys.readouterr()


@pytest.mark.parametrize(
    "arguments",
    [
        ["found", "--root", "/dev/null"],
        ["found", "--root", "/proc/nope"],
        ["message", "counter", "add", "[" * 3000],
        ["message", "counter", "\udcff"],
        ["message", "\udcff", "add"],
    ],
)
def test_bad_places_and_bad_json_are_one_line(
    arguments: list[str], answered: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*([] if "--root" in arguments else ["--root", str(answered)]), *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("agentplatform: ") and "\n" not in error
