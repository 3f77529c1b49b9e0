"""What Falcon's figures make of what was measured; those that need hosts are tried in tests/end_to_end."""

import sys
from collections import Counter

import pytest

pytest.importorskip("matplotlib")

from benchmarks.ledger_cluster import Counts
from benchmarks.ledger_runs import BASELINE, IMPROVED, KINDS, Comparison
from examples.papers.falcon import engines, fig7, fig12, table2
from examples.papers.result import Row, Scale


def quiet(what: str) -> None:
    assert what


def test_table_2_is_the_plan_that_production_makes() -> None:
    result = table2.measure(Scale.TINY, quiet)
    where = {agent: server for server, _, _, agents in result.rows for agent in agents.split()}
    assert set(where) == {f"A{number}" for number in range(1, 9)} and len(result.rows) == 8
    assert where["A1"] == where["A2"] == where["A3"] == "a3"
    assert where["A7"] != where["A8"] and {where["A7"][0], where["A8"][0]} == {"c"}
    assert "the paper's type" in result.measured and "23.61" in result.measured and result.emulated
    swapped = [(server, kind.translate(str.maketrans("AB", "BA")), *rest) for server, kind, *rest in result.rows]
    assert "ANOTHER" in table2._agree(swapped)


def videos(*times: float) -> list[Row]:
    names = [(quality, length) for quality in ("high", "medium", "low") for length in (1, 2)]
    return [(name, "", length, 0, 1.0 * length, taken) for (name, length), taken in zip(names, times, strict=True)]


def test_figure_7_says_what_the_rows_say() -> None:
    as_printed = fig7._sentence(videos(3, 6, 2, 4, 1, 2))
    assert "grows with the file's size in 3 of 3" in as_printed and "the same order" in as_printed
    assert "6 s in high (3.00 s for each megabyte), 4 s in medium (2.00 s" in as_printed
    other = fig7._sentence(videos(3, 6, 2, 1, 1, 2))
    assert "in 2 of 3 qualities, NOT in medium" in other and "ANOTHER order" in other


@pytest.mark.parametrize(
    ("tps", "said"),
    [
        ([(1000, 100.0), (2000, 200.0)], "no fall"),
        ([(1000, 200.0), (1000, 100.0), (2000, 140.0)], "7% less with 2,000 is no more than single runs differ"),
        ([(1000, 200.0), (1000, 198.0), (2000, 100.0)], "most with 1,000, and 50% less with 2,000"),
    ],
)
def test_figure_12_tells_a_fall_from_noise(tps: list[tuple[int, float]], said: str) -> None:
    assert said in fig12._sentence([(count, 1, each) for count, each in tps])


def compared(ratios: list[float]) -> Comparison:
    """Engines that differ by these ratios, one a round, for 100 and 200 transactions."""
    keys = [(engine, kind, count) for engine in (IMPROVED, BASELINE) for kind in KINDS for count in (100, 200)]
    runs = {key: [50.0 * ratio if key[0] == IMPROVED else 50.0 for ratio in ratios] for key in keys}
    counts = Counts(1, 1, Counter(), Counter(), 0, 0.0)
    medians = {key: sorted(values)[len(values) // 2] for key, values in runs.items()}
    return Comparison("loopback", medians, dict.fromkeys((IMPROVED, BASELINE), counts), runs)


def test_figure_13_has_rates_times_and_the_spread_of_the_ratios() -> None:
    rows = engines.rows(compared([0.8, 1.0, 1.2]))
    assert [row[:2] for row in rows] == [(kind, count) for kind in KINDS for count in (100, 200)]
    assert rows[1][2:] == (50.0, 50.0, 4.0, 4.0, 0.8, 1.2)


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ([1.2] * 3, "the improved engine is faster"),
        ([0.8] * 3, "the improved engine is SLOWER"),
        ([1.2] * 2, "no difference that can be told from chance"),  # four coins show that once in eight times
        ([0.99] + [1.5] * 6, "the improved engine is faster"),
        ([0.9, 1.2, 1.2], "no difference that can be told from chance"),
    ],
)
def test_figure_13_sees_a_difference_only_where_coins_would_seldom(ratios: list[float], said: str) -> None:
    sentence = engines.sentence(compared(ratios))
    assert sentence.count(said) == 2, sentence


def test_the_figures_import_what_is_heavy_only_when_they_are_measured() -> None:
    import subprocess

    heavy = ("cv2", "av", "matplotlib", "torch", "onnxruntime", "examples")
    code = f"import agentplatform.console.cli, sys; print([name for name in {heavy} if name in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
