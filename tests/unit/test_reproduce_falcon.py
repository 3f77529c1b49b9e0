"""Falcon's figures, measured at the tiniest scale: each says what its rows say."""

import pytest

pytest.importorskip("matplotlib")

from examples.papers.falcon import table2
from examples.papers.result import Scale


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
