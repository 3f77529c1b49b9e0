"""The frame of the papers' experiments: what it writes, and how it says that something could not be measured."""

import csv
import io
import signal
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from agentplatform.console import reproduce
from agentplatform.console.cli import main
from examples.papers import PAPERS, run
from examples.papers.result import Column, NotHere, Result, Row, Say, Scale
from ledger.errors import Misuse, Unavailable

pytest.importorskip("matplotlib")

from examples.papers import plots, write

SIZE = (1080, 660)  # pixels: write.INCHES at write.DPI


def line(figure: Any, rows: Any) -> None:
    axes = figure.subplots()
    plots.lines(axes, {"rising": rows, "flat": [(across, 1.0) for across, _ in rows]})
    plots.plain(axes, "size (MB)", "time (s)")


def measured(rows: tuple[Row, ...] = ((1, 2.5), (2, 3.25)), **more: Any) -> Result:
    columns = Column("size", "MB"), Column('odd, "name"')
    return Result("A line that rises", columns, rows, "It rises.", "It rises here.", "Nowhere.", line, **more)


def fake_paper(monkeypatch: pytest.MonkeyPatch, **figures: Any) -> Any:
    """A paper whose figures are these functions; one that is an exception fails while it is imported."""
    for name, measure in figures.items():
        monkeypatch.setitem(sys.modules, f"fake.{name}", SimpleNamespace(measure=measure))
    return SimpleNamespace(__name__="fake", FIGURES={name: f"what {name} shows" for name in figures})


def told(paper: Any, out: Path, *wanted: str, scale: Scale = Scale.TINY) -> tuple[list[dict[str, Any]], str]:
    console = Console(file=io.StringIO(), width=200)
    reports = run.reproduce(paper, wanted, scale, out, console)
    return reports, console.file.getvalue()  # type: ignore[attr-defined]


def texts(path: Path) -> list[str]:
    tree = ElementTree.parse(path)  # noqa: S314  our own file
    return [(each.text or "").strip() for each in tree.iter("{http://www.w3.org/2000/svg}text")]


def test_a_figure_is_written_as_table_picture_and_sentences(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fig1(scale: Scale, say: Say) -> Result:
        asked.append(scale)
        say("a [strange] word")
        return measured(emulated=("the world",))

    (report,), printed = told(fake_paper(monkeypatch, fig1=fig1), tmp_path / "deep" / "out", scale=Scale.FULL)
    assert asked == [Scale.FULL]
    assert report["outcome"] == "measured" and report["emulated"] == ["the world"]
    table, svg, png, words = map(Path, report["files"])
    with table.open(newline="") as file:
        assert list(csv.reader(file)) == [["size (MB)", 'odd, "name"'], ["1", "2.5"], ["2", "3.25"]]
    labels = {"A line that rises", "Emulated: the world.", "size (MB)", "time (s)", "rising", "flat"}
    assert labels <= set(texts(svg))
    header = png.read_bytes()[:24]
    assert header.startswith(b"\x89PNG")
    assert (int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")) == SIZE
    assert "Paper: It rises.\nHere: It rises here.\nDiffers: Nowhere.\nEmulated: the world.\n" in words.read_text()
    assert "It rises here. Nowhere. Emulated: the world." in printed and str(svg) in printed


def test_equal_results_are_equal_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write.write("x", measured(), tmp_path / "a")
    pairs = zip(first, write.write("x", measured(), tmp_path / "b"), strict=True)
    assert [one.name for one, other in pairs if one.read_bytes() != other.read_bytes()] == []
    pairs = zip(first, write.write("x", measured(rows=((1, 2.5), (2, 3.5))), tmp_path / "b"), strict=True)
    assert [one.suffix for one, other in pairs if one.read_bytes() != other.read_bytes()] == [".csv", ".svg", ".png"]


def test_names_at_one_place_do_not_lie_on_each_other() -> None:
    from matplotlib.figure import Figure

    figure = Figure()
    plots.lines(figure.subplots(), {name: [(0, 0), (1, 1.0)] for name in "abc"})
    figure.draw_without_rendering()
    heights = sorted(text.get_window_extent().y0 for text in figure.axes[0].texts)
    assert all(above - below >= 10 for below, above in pairwise(heights)), heights


def test_what_fails_or_cannot_be_measured_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def no_root(scale: Scale, say: Say) -> Result:
        raise NotHere("it needs root: sudo it")

    def broken(scale: Scale, say: Say) -> Result:
        raise ZeroDivisionError("of [course]")

    def late(scale: Scale, say: Say) -> Result:
        raise Unavailable("north did not answer")

    good = lambda scale, say: measured()  # noqa: E731
    paper = fake_paper(monkeypatch, no_root=no_root, broken=broken, late=late, good=good)
    monkeypatch.setitem(sys.modules, "fake.no_extra", None)  # import raises ModuleNotFoundError
    paper.FIGURES["no_extra"] = "what is not installed"
    reports, printed = told(paper, tmp_path)
    assert {each["figure"]: each["outcome"] for each in reports} == {
        "no_root": "not here", "broken": "failed", "late": "failed", "good": "measured", "no_extra": "not here",
    }  # fmt: skip
    assert "it needs root: sudo it" in printed and "pip install '.[demo,benchmarks]'" in printed
    assert "ZeroDivisionError: of [course]" in printed and "Traceback" in printed
    assert {path.stem for path in tmp_path.iterdir()} == {"good"}
    with pytest.raises(Unavailable, match=r"2 of 5 figures failed: broken \(ZeroDivisionError: .*late \(north"):
        run.check(reports)
    run.check([each for each in reports if each["outcome"] != "failed"])


def test_only_those_that_were_named_in_the_tables_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    paper = fake_paper(monkeypatch, **dict.fromkeys(("one", "two", "three"), lambda scale, say: measured()))
    reports, _ = told(paper, tmp_path, "three", "one")
    assert [each["figure"] for each in reports] == ["one", "three"]
    with pytest.raises(Misuse, match="no figure 'four': there are one, two, three"):
        told(paper, tmp_path, "one", "four")


@pytest.mark.parametrize("place", ["a file", "a file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written_is_told_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    (tmp_path / "a file").write_text("mine")
    paper = fake_paper(monkeypatch, one=lambda scale, say: pytest.fail("it was measured"))
    with pytest.raises(Misuse, match=f"{place}.* cannot be written .*--out"):
        told(paper, tmp_path / place)
    assert (tmp_path / "a file").read_text() == "mine"


def test_sigterm_ends_it_as_ctrl_c_does(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    left: list[str] = []

    def one(scale: Scale, say: Say) -> Result:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            left.append("in order")
        return measured()

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        told(fake_paper(monkeypatch, one=one), tmp_path)
    assert left == ["in order"] and signal.getsignal(signal.SIGTERM) is before


def test_the_verb_lists_writes_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "falcon", "--list"]) == 0
    assert "table2" in capsys.readouterr().out
    assert main(["reproduce", "falcon", "table2", "--out", str(tmp_path)]) == 0
    assert {path.name for path in tmp_path.iterdir()} == {f"table2.{each}" for each in ("csv", "svg", "png", "txt")}
    capsys.readouterr()
    assert main(["reproduce", "falcon", "fig99"]) == 2
    assert "there is no figure 'fig99': there are table2" in capsys.readouterr().err
    assert main(["reproduce", "icarus"]) == 2
    assert f"there is no paper 'icarus': there is {', '.join(PAPERS)}" in capsys.readouterr().err


def test_without_the_sources_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Installed elsewhere, they are found in the folder where one is."""
    sources = reproduce.BESIDE
    monkeypatch.setattr(reproduce, "BESIDE", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "falcon"]) == 2
    assert "no part of the installed package" in capsys.readouterr().err
    monkeypatch.chdir(sources)
    assert main(["reproduce", "falcon", "--list"]) == 0


def test_what_is_missing_is_the_paper_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list"]) == 2
    assert "required: PAPER (see" in capsys.readouterr().err


@pytest.mark.parametrize("paper", PAPERS)
def test_every_figure_of_a_papers_table_has_a_module_and_a_line_in_its_readme(paper: str) -> None:
    found = run.paper(paper)
    folder = Path(run.__file__).parent / paper
    readme = (folder / "README.md").read_text()
    assert [name for name in found.FIGURES if not (folder / f"{name}.py").is_file()] == []
    assert [name for name in found.FIGURES if f"`{name}`" not in readme] == []
