"""Measures the figures of a paper one after the other, and says how each went."""

import importlib
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from agentplatform.console.interrupts import ending_in_order
from examples.papers import PAPERS
from examples.papers.result import NotHere, Result, Scale
from ledger.errors import Misuse, PlatformError, Unavailable

INSTALL = "in the folder of the sources, say: pip install '.[demo,benchmarks]'"


class Paper(Protocol):
    __name__: str  # a package; the modules of its figures are in it
    FIGURES: dict[str, str]  # name -> what it shows


def paper(name: str) -> Paper:
    """Raises Misuse, with the papers that there are, when there is none."""
    if name not in PAPERS:
        raise Misuse(f"there is no paper {name!r}: there is {', '.join(PAPERS)}")
    found: Any = importlib.import_module(f"examples.papers.{name}")
    return found  # type: ignore[no-any-return]


def reproduce(of: Paper, wanted: Sequence[str], scale: Scale, out: Path, console: Console) -> list[dict[str, Any]]:
    """Measures those that are `wanted` (none named: all), and writes them into the folder `out`, which it makes.

    Returns for each: figure, outcome ("measured", "not here" or "failed"), and what there is to say. Raises Misuse,
    before anything is measured, when a name is unknown or the folder cannot be written.
    """
    names = _known(of, wanted)
    _make_writable(out)
    reports = []
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with ending_in_order(), Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:

            def say(what: str, name: str = name) -> None:
                progress.update(task, description=escape(f"{name}: {what}"))

            say(of.FIGURES[name])
            report = _one(of, name, scale, out, say)
            _tell(console, report)
            reports.append(report)
            progress.advance(task)
    _sum_up(console, reports)
    return reports


def check(reports: Sequence[dict[str, Any]]) -> None:
    """Raises Unavailable that names the figures that failed, if any did."""
    if failed := [f"{each['figure']} ({each['why']})" for each in reports if each["outcome"] == "failed"]:
        raise Unavailable(f"{len(failed)} of {len(reports)} figures failed: {', '.join(failed)}; try these alone")


def _known(of: Paper, wanted: Sequence[str]) -> list[str]:
    if unknown := [name for name in wanted if name not in of.FIGURES]:
        raise Misuse(f"there is no figure {unknown[0]!r}: there are {', '.join(of.FIGURES)}")
    return [name for name in of.FIGURES if name in wanted or not wanted]


def _make_writable(out: Path) -> None:
    """Before minutes are spent on measuring."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise Misuse(f"the folder {out} cannot be written ({error.strerror}): name another with --out") from None


def _one(of: Paper, name: str, scale: Scale, out: Path, say: Any) -> dict[str, Any]:
    report: dict[str, Any] = {"figure": name, "about": of.FIGURES[name]}
    begin = time.monotonic()
    try:
        measure, write = _modules(f"{of.__name__}.{name}")
        result: Result = measure(scale, say)
        files = write(name, result, out)
    except NotHere as error:
        return report | {"outcome": "not here", "why": str(error)}
    except Exception as error:  # the others go on; this one is told of at the end
        why = str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {error}"
        return report | {"outcome": "failed", "why": why, "traceback": traceback.format_exc()}
    return report | {
        "outcome": "measured",
        "title": result.title,
        "paper": result.paper,
        "measured": result.measured,
        "differs": result.differs,
        "emulated": list(result.emulated),
        "files": [str(path) for path in files],
        "seconds": round(time.monotonic() - begin, 1),
    }


def _modules(name: str) -> tuple[Any, Any]:
    """What measures the figure, and what writes it. Raises NotHere when something that they import is not installed."""
    try:
        return importlib.import_module(name).measure, importlib.import_module("examples.papers.write").write
    except ModuleNotFoundError as error:
        raise NotHere(f"it needs {error.name}, which is not installed: {INSTALL}") from None
    except Misuse as error:  # packages of ours say which extra they need
        raise NotHere(str(error)) from None


def _tell(console: Console, report: dict[str, Any]) -> None:
    console.print(f"\n[bold]{report['figure']}[/]  {escape(report.get('title', report['about']))}")
    if report["outcome"] == "measured":
        emulated = f" Emulated: {'; '.join(report['emulated'])}." if report["emulated"] else ""
        console.print(report["measured"] + " " + report["differs"] + emulated, markup=False, highlight=False)
        console.print(f"{' '.join(report['files'])}  ({report['seconds']} s)", style="dim", soft_wrap=True)
    else:
        word = "Not measured" if report["outcome"] == "not here" else "FAILED"
        console.print(f"{word}: {report['why']}", markup=False, highlight=False)
        if report["outcome"] == "failed":
            console.print(report["traceback"], style="dim", markup=False, highlight=False)


def _sum_up(console: Console, reports: Sequence[dict[str, Any]]) -> None:
    table = Table(show_lines=True)
    for heading in ("", "paper", "here"):
        table.add_column(heading, overflow="fold")
    for report in reports:
        here = report.get("measured") or f"{report['outcome']}: {report['why']}"
        table.add_row(report["figure"], escape(report.get("paper", "")), escape(here))
    console.print()
    console.print(table)
