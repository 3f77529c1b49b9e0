"""The graph of links and its best paths (services.eds.graph), against networkx and against all paths."""

import random

import networkx as nx
import pytest

from services.eds.graph import Graph, best_paths
from services.eds.snapshot import Link, Snapshot
from services.eds.weights import REFERENCE_RTT_MS
from tests.helpers.edge_scenes import host, mesh, resources, scene


def random_graph(seed: int) -> nx.DiGraph:
    rng = random.Random(seed)  # noqa: S311
    names = "abcdefgh"[: rng.randint(2, 8)]
    graph = nx.DiGraph()
    graph.add_nodes_from(names)
    for a in names:
        for b in names:
            if a != b and rng.random() < 0.4:
                graph.add_edge(a, b, cost=rng.choice([0.5, 1.0, 2.0, rng.random() + 0.01]))
    return graph


def neighbours(graph: nx.DiGraph, node: str) -> list[tuple[str, float]]:
    return [(after, data["cost"]) for after, data in graph[node].items()]


@pytest.mark.parametrize("seed", range(60))
def test_paths_are_the_best_of_their_length(seed: int) -> None:
    graph = random_graph(seed)
    for steps in (1, 2, 3, 8):
        found = best_paths("a", lambda node: neighbours(graph, node), steps)
        for node in graph:
            costs = [
                nx.path_weight(graph, path, "cost")
                for path in nx.all_simple_paths(graph, "a", node, cutoff=steps)
                if node != "a"
            ]
            if node == "a":
                assert found["a"] == (0.0, ("a",))
            elif not costs:
                assert node not in found
            else:
                cost, path = found[node]
                assert cost == pytest.approx(min(costs)) == pytest.approx(nx.path_weight(graph, path, "cost"))
                assert len(path) - 1 <= steps and (path[0], path[-1]) == ("a", node)
    whole = nx.single_source_dijkstra_path_length(graph, "a", weight="cost")
    assert {node: cost for node, (cost, _) in found.items()} == pytest.approx(whole)


def test_of_equal_paths_the_first_in_alphabetical_order_is_taken() -> None:
    edges = {"a": [("c", 1.0), ("b", 1.0)], "b": [("d", 1.0)], "c": [("d", 1.0)], "d": []}
    for order in (1, -1):
        assert best_paths("a", lambda node: edges[node][::order], 3)["d"] == (2.0, ("a", "b", "d"))  # noqa: B023


def graph_of(*links: Link, **bandwidths: float) -> Graph:
    hosts = [host(name, advert=resources(bandwidth=stated)) for name, stated in bandwidths.items()]
    return Graph(scene(hosts, {"x": "a"}, links=links))


def test_a_hop_has_the_distance_of_equation_2() -> None:
    graph = graph_of(Link("a", "b", REFERENCE_RTT_MS, 0.5), a=100.0, b=300.0)
    assert graph.hops("a") == [("b", pytest.approx(200 / 400 * 4), 0.25)]
    assert graph.at_home("b") == pytest.approx(200 / 600)


def test_a_measured_bandwidth_goes_before_stated_ones() -> None:
    rtt = REFERENCE_RTT_MS
    links = (Link("a", "b", rtt, 0.0, 50.0), Link("b", "a", rtt, 0.0, 150.0))
    graph = graph_of(*links, a=1000.0, b=1000.0)
    assert graph.bandwidth == {"a": 150.0, "b": 50.0}
    assert graph.hops("a") == [("b", pytest.approx(100 / (50 + 50) * 2), 0.5)]


def test_a_large_number_in_an_advert_attracts_nobody_where_others_are_measured() -> None:
    links = (Link("a", "b", 1.0, 0.0, 80.0), Link("b", "a", 1.0, 0.0, 120.0), Link("a", "c", 1.0, 0.0))
    assert graph_of(*links, a=1e3, b=1e3, c=1e6).bandwidth["c"] == 100.0
    assert graph_of(*links, a=1e3, b=1e3, c=10.0).bandwidth["c"] == 10.0


def test_what_a_host_that_is_not_trusted_measured_does_not_count() -> None:
    hosts = [host("a"), host("b"), host("liar", revoked="it lied")]
    links = (Link("liar", "a", 1.0, 0.0, 1e9), Link("liar", "b", 1.0, 0.0, 1e-3))
    snapshot: Snapshot = scene(hosts, {"x": "a"}, links=links)
    assert Graph(snapshot).bandwidth == dict.fromkeys(("a", "b", "liar"), 1000.0)


def test_a_link_that_carries_nothing_is_none() -> None:
    dead = (Link("a", "b", 1.0, 1.0), Link("a", "c", 1.0, 0.0, 0.0), Link("a", "a", 1.0, 0.0), Link("a", "x", 1.0, 0.0))
    assert graph_of(*dead, a=1.0, b=1.0, c=1.0).hops("a") == []
    assert [hop[0] for hop in graph_of(*mesh("abc"), a=1.0, b=1.0, c=1.0).hops("a")] == ["b", "c"]


def test_no_link_is_so_fast_that_two_hosts_send_their_agents_to_and_fro() -> None:
    """Each hop over it would be nearer than staying at either end."""
    names = ("a", "b", "c")
    links = tuple(
        Link(a, b, 0.0, 0.0, 400.0 if {a, b} == {"a", "b"} else 100.0) for a in names for b in names if a != b
    )
    graph = graph_of(*links, a=1e3, b=1e3, c=1e3)
    for start in ("a", "b"):
        assert all(distance >= graph.at_home(start) for _, distance, _ in graph.hops(start))
    back = {there: distance for there, distance, _ in graph.hops("a")}
    assert back["b"] == pytest.approx(graph.at_home("a")) and back["c"] > back["b"]
