"""The replicas of a benchmark: one that ends, or hangs, ends the benchmark with a reason."""

from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from benchmarks import ledger_cluster
from benchmarks.ledger_cluster import Cluster
from ledger.errors import Unavailable


def one_ends(place: int, pipe: Connection) -> None:
    """Stands for a replica: both come up, and the first does not answer while the second has ended."""
    pipe.send(None)
    pipe.recv()
    if place == 0:
        pipe.recv()


def both_hang(place: int, pipe: Connection) -> None:
    pipe.recv()


@pytest.mark.parametrize(
    ("serve", "seconds", "words"),
    [(one_ends, 60.0, "replica 1 of pbft ended"), (both_hang, 0.01, "replica 0 of pbft did not answer within 0.01 s")],
)
def test_a_replica_that_ends_or_hangs_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, serve: object, seconds: float, words: str
) -> None:
    monkeypatch.setattr(ledger_cluster, "ANSWER_SECONDS", seconds)
    monkeypatch.setattr(ledger_cluster, "serve", serve)
    monkeypatch.setattr(ledger_cluster, "NodePlan", lambda place, *_: place)
    with pytest.raises(Unavailable, match=words):
        Cluster("pbft", 2, tmp_path)
