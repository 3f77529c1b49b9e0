"""The shell: the same verbs, completion, a private history, and errors that do not end it."""

import io
from pathlib import Path

import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from agentplatform import consortium
from agentplatform.console.shell import TAKES, Names, VerbCompleter, history_file, main, obey
from agentplatform.console.verbs import VERBS
from tests.helpers.desk_twin import DeskTwin, answering

AGENT = "counter-0123456789abcdef"
SAYS = {
    "agents": [{"agent": AGENT, "name": "counter", "host": "north", "epoch": 1, "resident": True, "state": "running"}],
    "resolve": lambda agent: {"agent": AGENT, "host": "north", "epoch": 0},
    "ask": lambda body, **_: {"body": body},
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    consortium.found(tmp_path / "root", ["north", "south"])
    return tmp_path / "root"


def said(line: str, root: Path) -> str:
    screen = io.StringIO()
    obey(line, root, Console(file=screen, width=120))
    return screen.getvalue()


def completions(text: str, root: Path) -> list[str]:
    completer = VerbCompleter(Names(root))
    return [each.text for each in completer.get_completions(Document(text), CompleteEvent())]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("fly", "invalid choice: 'fly'"),
        ("agents --host nowhere", "there is no host 'nowhere'"),
        ("message 'counter", "No closing quotation"),
        ("dispatch counter", "required: HOST"),
    ],
)
def test_an_error_is_one_line_and_the_shell_goes_on(root: Path, line: str, says: str) -> None:
    printed = said(line, root)
    assert says in printed and printed.count("\n") == 1


def test_verbs_do_what_they_do_on_the_command_line(root: Path) -> None:
    with answering(root, DeskTwin("north", SAYS)):
        assert said("message counter add '{\"by\": 2}' --json", root) == f'{{"agent":"{AGENT}","answer":{{"by":2}}}}\n'
        assert AGENT in said("agents", root)


def test_help_lists_every_verb_and_an_empty_line_is_nothing(root: Path) -> None:
    printed = said("help", root)
    assert [verb for verb in [*VERBS, "help", "exit"] if verb not in printed] == []
    assert said("  ", root) == ""


def test_completion_knows_verbs_hosts_and_agents(root: Path) -> None:
    with answering(root, DeskTwin("north", SAYS)):
        assert completions("di", root) == ["dispatch", "dispose"]
        assert completions("dispatch c", root) == ["counter", AGENT]
        assert completions("dispatch counter s", root) == ["south"]
        assert completions("dispatch counter south ", root) == []
        assert completions("start north s", root) == ["south"]
        assert completions("agents --host n", root) == ["north"]
        assert completions("trust vote-", root) == [
            "vote-revoke",
            "vote-join",
            "vote-suspend",
            "vote-reinstate",
            "vote-rules",
        ]


def test_completion_without_a_running_host_is_empty_not_an_error(root: Path) -> None:
    assert completions("dispose ", root) == []


def test_completion_names_only_verbs_that_there_are() -> None:
    assert set(TAKES) <= set(VERBS)


def test_the_history_is_private(root: Path) -> None:
    assert history_file(root).stat().st_mode & 0o777 == 0o600
    history_file(root).chmod(0o644)
    assert history_file(root).stat().st_mode & 0o777 == 0o600


def test_a_history_that_is_a_link_to_elsewhere_is_refused(root: Path, tmp_path: Path) -> None:
    (root / "shell-history").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        history_file(root)


def test_the_prompt_reads_lines_until_exit(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        keys.send_text("help\rfly\rexit\r")
        assert main(["--root", str(root)]) == 0
    printed = capsys.readouterr().out
    assert "dispatch" in printed and "invalid choice: 'fly'" in printed
    assert "+fly" in (root / "shell-history").read_text()
