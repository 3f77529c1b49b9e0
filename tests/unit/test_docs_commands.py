"""What the docs tell people to type is taken by the command line."""

import re
import shlex
from pathlib import Path

import pytest

from agentplatform.console.cli import parser
from ledger.errors import Misuse

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("README.md")]


def shown(page: str) -> list[str]:
    """Commands in blocks, without `NAME=VALUE` before them."""
    return re.findall(r"^ {4}(?:[A-Z_]+=\S+ )?agentplatform (.+)", page, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_of_the_docs_are_taken(page: Path) -> None:
    for command in shown(page.read_text()):
        parser().parse_args(shlex.split(command, comments=True))


def test_a_command_that_is_wrong_is_found() -> None:
    page = "Say\n\n    A=/b agentplatform create counter\n    agentplatform create counter name --init 1   # so\n"
    good, wrong = shown(page)
    assert parser().parse_args(shlex.split(good, comments=True)).what == "counter"
    with pytest.raises(Misuse, match="unrecognized arguments: name"):
        parser().parse_args(shlex.split(wrong, comments=True))
