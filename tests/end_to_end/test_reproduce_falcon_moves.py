"""Falcon's figures of moves, with daemons, at the tiniest scale."""

from pathlib import Path

import psutil
import pytest

pytest.importorskip("matplotlib")

from benchmarks import namespaces, shaped
from examples.papers.falcon import fig8, fig9
from examples.papers.result import Scale
from examples.papers.write import write
from tests.helpers.local import until


def running() -> set[psutil.Process]:
    """Of this process; other tests have left it some of multiprocessing's."""
    return {each for each in psutil.Process().children(recursive=True) if each.status() != psutil.STATUS_ZOMBIE}


@pytest.fixture(params=["relay", "namespaces"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The words by which the figures must name them."""
    if request.param == "namespaces":
        if reason := namespaces.why_not():
            pytest.skip(reason)
        return "tbf in network namespaces"
    for module in (shaped, fig8):
        monkeypatch.setattr(module, "why_not", lambda: "network namespaces need root")
    return "shaped in a relay"


@pytest.mark.slow
def test_figure_8(links: str, tmp_path: Path) -> None:
    before = running()
    result = fig8.measure(Scale.TINY, lambda what: None)
    assert write("fig8", result, tmp_path) and links in result.emulated[0]
    assert ("need root" in result.emulated[0]) == (links == "shaped in a relay")
    points = [fig8.Point(*row) for row in result.rows]
    assert [(point.link, point.round_trip) for point in points if point.moved == fig8.AGENT] == [
        ("40", 0.0),
        ("unshaped", 0.0),
        ("40", fig8.ROUND_TRIP),
    ]
    assert len(points) == 2 * 5 + 1
    assert all(0 < point.downtime <= point.seconds for point in points if isinstance(point.downtime, float))
    assert {point.how for point in points if point.size > 10**9} == {fig8.COMPUTED}
    until("nothing runs any more", lambda: running() <= before)


@pytest.mark.slow
def test_figure_9(links: str, tmp_path: Path) -> None:
    before = running()
    result = fig9.measure(Scale.TINY, lambda what: None)
    assert write("fig9", result, tmp_path) and links in result.emulated[0]
    points = [fig9.Point(*row) for row in result.rows]
    for moved in (fig9.AGENT, fig9.CONTAINER):
        for host in fig9.COLOURS:
            seen = [point for point in points if (point.moved, point.host) == (moved, host)]
            assert seen[0].at < -0.5 and seen[-1].at > 0.5  # before, and after
            assert sum(point.processor for point in seen if point.during) > 0.0
    until("nothing runs any more", lambda: running() <= before)
