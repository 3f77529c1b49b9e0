"""`agentplatform`: the command line. Exit code 0: done; 1: not now, or a peer's fault; 2: your input."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import msgspec
from rich.console import Console

from agentplatform.console.render import visible
from agentplatform.console.verbs import DEEPER, VERBS, Verb
from agentplatform.frontdoor.client import default_root
from agentplatform.version import __version__
from ledger.errors import Misuse, PlatformError

PROGRAM = "agentplatform"
INTERRUPTED = 130  # as a shell says it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    try:
        perform(sys.argv[1:] if argv is None else argv, Console())
        sys.stdout.flush()
    except PlatformError as error:
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        return 2 if isinstance(error, Misuse) else 1
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `agentplatform agents | head` closed it: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return 0


def perform(argv: Sequence[str], console: Console, program: str = PROGRAM) -> None:
    """One command. Raises PlatformError for what cannot be done, SystemExit after --help."""
    for word in argv:
        if not word.isascii() and any("\ud800" <= character <= "\udfff" for character in word):
            raise Misuse(f"{word!r:.60} is no text in UTF-8")
    args = parser(program).parse_args(argv)
    verb: Verb = args.perform
    data = verb.action(args)
    if args.json:
        console.file.write(msgspec.json.encode(data).decode() + "\n")
    else:
        verb.show(console, data)


def one_line(error: Exception) -> str:
    return visible(" ".join(str(error).split()))


class _Parser(argparse.ArgumentParser):
    """Raises where argparse would print its usage and exit: one line is enough, and a shell must not end."""

    def error(self, message: str) -> NoReturn:
        raise Misuse(f"{message} (see: {self.prog.strip()} --help)")


def parser(program: str = PROGRAM) -> argparse.ArgumentParser:
    top = _Parser(prog=program, description="Agents that move, with their state, to hosts that a consortium trusts.")
    top.add_argument("--version", action="version", version=__version__)
    _common(top, root=default_root(), host=None, json=False)
    _add(top, VERBS, ())
    return top


def _add(above: argparse.ArgumentParser, verbs: dict[str, Verb], path: tuple[str, ...]) -> None:
    room = above.add_subparsers(dest="_".join(("verb", *path)), metavar="VERB", required=not path)
    for name, verb in verbs.items():
        below = room.add_parser(name, help=verb.help, description=verb.help)
        below.set_defaults(perform=verb)
        verb.arguments(below)
        # Allowed after the verb too; left out there, what was said before it counts.
        _common(below, root=argparse.SUPPRESS, host=argparse.SUPPRESS, json=argparse.SUPPRESS)
        if not path and name in DEEPER:
            _add(below, DEEPER[name], (name,))


def _common(parser: argparse.ArgumentParser, *, root: object, host: object, json: object) -> None:
    common = parser.add_argument_group("everywhere")
    common.add_argument(
        "--root", type=_folder, default=root, metavar="FOLDER", help="where the hosts live (also: $AGENTPLATFORM_ROOT)"
    )
    common.add_argument("--host", default=host, metavar="NAME", help="which host to ask (default: the first)")
    common.add_argument("--json", action="store_true", default=json, help="print the result as one line of JSON")


def _folder(text: str) -> Path:
    return Path(text).expanduser().absolute()


if __name__ == "__main__":
    sys.exit(main())
