"""`agentplatform reproduce`: published experiments, found in the sources: beside the package, or in this folder.

They are looked up by name: the platform imports no examples.
"""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ledger.errors import Misuse

BESIDE = Path(__file__).parents[2]
PLACE = "examples/papers"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paper", metavar="PAPER", help="falcon")
    parser.add_argument("figures", nargs="*", default=[], metavar="FIGURE", help="which (default: all)")
    parser.add_argument("--list", action="store_true", help="only say which figures there are")
    parser.add_argument("--full", action="store_true", help="as much as the paper has; takes much longer")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: PAPER-output)")


def run(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Raises Misuse without the sources; Unavailable that names the figures that failed, after the others are done."""
    papers = _papers()
    paper = papers.paper(args.paper)
    if args.list:
        return [{"figure": name, "about": about} for name, about in paper.FIGURES.items()]
    scale = importlib.import_module("examples.papers.result").Scale
    out = args.out or Path(f"{args.paper}-output")
    console = Console(quiet=args.json)
    reports: list[dict[str, Any]] = papers.reproduce(
        paper, args.figures, scale.FULL if args.full else scale.SMALL, out, console
    )
    papers.check(reports)
    return reports


def show(console: Console, reports: list[dict[str, Any]]) -> None:
    """What was measured has been told already, figure by figure."""
    if reports and "outcome" not in reports[0]:
        table = Table("figure", "what it shows")
        for each in reports:
            table.add_row(each["figure"], each["about"])
        console.print(table)


def _papers() -> Any:
    sources = next((place for place in (BESIDE, Path.cwd()) if (place / PLACE / "run.py").is_file()), None)
    if sources is None:
        raise Misuse(
            f"the papers' experiments are no part of the installed package (no {PLACE} in {BESIDE}, nor here): "
            "get the sources, and say it again in their folder, after: pip install '.[demo,benchmarks]'"
        )
    if sys.path[0] != str(sources):
        sys.path.insert(0, str(sources))
    return importlib.import_module("examples.papers.run")
