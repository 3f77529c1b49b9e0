"""`agent-shell`: the verbs of the command line at a prompt, with completion and a history."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from prompt_toolkit.shortcuts import CompleteStyle
from rich.console import Console

from agentplatform.console import cli, render
from agentplatform.console.verbs import DEEPER, VERBS
from agentplatform.frontdoor.client import connect, default_root, homes
from agentplatform.settings import private_folder
from ledger.errors import PlatformError

PROGRAM = "agent-shell"
OWN = {"help": "what there is", "exit": "leave (the hosts go on)"}
_NAMES_LAST = 2.0  # seconds for which names that were asked for are shown again
_PATIENCE = 1.0  # seconds: completion must not hold up who types


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(prog=PROGRAM, description=__doc__)
    options.add_argument("--root", type=Path, default=default_root(), metavar="FOLDER", help="where the hosts live")
    root: Path = options.parse_args(argv).root.expanduser().absolute()
    try:
        history = FileHistory(str(history_file(root)))
    except (PlatformError, OSError) as error:
        print(f"{PROGRAM}: {cli.one_line(error)}", file=sys.stderr)
        return 2
    session: PromptSession[str] = PromptSession(
        "agents> ",
        history=history,
        completer=VerbCompleter(Names(root)),
        complete_while_typing=False,
        complete_style=CompleteStyle.READLINE_LIKE,  # Tab completes, as in other shells
    )
    console = Console()
    console.print("[dim]help: what there is; Tab completes; exit leaves[/]")
    while True:
        try:
            line = session.prompt()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return 0
        if line.strip() == "exit":
            return 0
        obey(line, root, console)


def history_file(root: Path) -> Path:
    """What was typed may be private: mode 0600, also if others made the file."""
    path = private_folder(root) / "shell-history"
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    return path


def obey(line: str, root: Path, console: Console) -> None:
    """One line. Whatever goes wrong is one line too, and the shell goes on."""
    try:
        words = shlex.split(line)
        if words == ["help"]:
            show_help(console)
        elif words:
            cli.perform(["--root", str(root), *words], console, program="")
    except (PlatformError, ValueError) as error:  # ValueError: a quote that was not closed
        render.say(console, cli.one_line(error))
    except SystemExit:  # after `VERB --help`
        pass
    except KeyboardInterrupt:
        render.say(console, "interrupted")


def show_help(console: Console) -> None:
    rows = [*((name, verb.help) for name, verb in VERBS.items()), *OWN.items()]
    render.show(console, render.table("Verbs (VERB --help tells more)", ("verb", "what it does"), rows))


class Names:
    """Hosts and agents, for completion: asked for at most every two seconds, and never waited for long."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._asked: float | None = None
        self._agents: list[str] = []

    def hosts(self) -> list[str]:
        return list(homes(self._root))

    def agents(self) -> list[str]:
        now = time.monotonic()
        if self._asked is None or now - self._asked > _NAMES_LAST:
            self._asked = now
            try:
                rows = connect(root=self._root).call("agents", patience=_PATIENCE)
                self._agents = sorted({row[field] for row in rows for field in ("agent", "name")})
            except PlatformError:
                self._agents = []
        return self._agents


class VerbCompleter(Completer):
    """The first word is a verb; then what the verb takes: agents, hosts, or verbs of its own."""

    def __init__(self, names: Names) -> None:
        self._names = names

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        words = document.text_before_cursor.split(" ")
        typed = words[-1]
        for word in self._words([word for word in words[:-1] if word]):
            if word.startswith(typed):
                yield Completion(word, start_position=-len(typed))

    def _words(self, before: list[str]) -> Iterable[str]:
        if not before:
            return [*VERBS, *OWN]
        if before[-1] in ("--host", "--as"):
            return self._names.hosts()
        verb, said = before[0], [word for word in before[1:] if not word.startswith("-")]
        if verb in DEEPER and not said:
            return DEEPER[verb]
        takes = TAKES.get(verb, ())
        kind = takes[min(len(said), len(takes) - 1)] if takes else None
        return kind(self._names) if kind else []


Kind = Callable[[Names], list[str]] | None
# What the words after a verb are; the last entry holds for all further words.
TAKES: dict[str, tuple[Kind, ...]] = {
    "start": (Names.hosts,),
    "stop": (Names.hosts,),
    "drain": (Names.hosts, None),
    "message": (Names.agents, None),
    "dispatch": (Names.agents, Names.hosts, None),
    "retract": (Names.agents, None),
    "clone": (Names.agents, None),
    "deactivate": (Names.agents, None),
    "activate": (Names.agents, None),
    "snapshot": (Names.agents, None),
    "data": (Names.agents, None),
    "custody": (Names.agents, None),
    "dispose": (Names.agents, None),
    "why": (Names.agents, None),
    "decide": (Names.agents, None),
    "path": (Names.agents, None),
    "logs": (Names.agents, None),
}


if __name__ == "__main__":
    sys.exit(main())
