"""A client asks without pause over HTTP while the agent hops to and fro between real daemons: each request has one
outcome, and nothing is lost or handled twice; also when its host is killed."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from http.client import HTTPConnection
from typing import Any

import pytest

from agentplatform.requests import Client, OutcomeUnknown
from ledger.errors import PeerFault
from tests.helpers.asked_hosts import Asking, Hosts, Tally, Thief, answers_all, asked_hosts
from tests.helpers.cutting_proxy import CuttingProxy
from tests.helpers.local import gone, patiently, until

pytestmark = pytest.mark.slow
NORTH, SOUTH = "north", "south"
OTHER = {NORTH: SOUTH, SOUTH: NORTH}
HOPS = 30


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    with asked_hosts(tmp_path_factory.mktemp("asked") / "root", NORTH, SOUTH) as hosts:
        yield hosts


@pytest.fixture
def tally(hosts: Hosts) -> Iterator[Any]:
    agent = hosts.host(NORTH).create(Tally, "tally")
    for name in (NORTH, SOUTH):
        until("the news", lambda name=name: hosts.host(name).call("services", service="tally"))  # type: ignore[misc]
    yield agent
    agent.dispose()
    for name in (NORTH, SOUTH):
        until("the end", lambda name=name: not hosts.host(name).call("services", service="tally"))  # type: ignore[misc]


@pytest.mark.parametrize("moving", ["hold", "forward", "refuse"])
def test_every_request_is_answered_once_while_the_agent_hops(hosts: Hosts, tally: Any, moving: str) -> None:
    at = NORTH
    with Asking(hosts.client(moving=moving)) as asking:
        answers_all(until, asking, 5)
        for _ in range(HOPS):
            here, at = at, OTHER[at]
            patiently(partial(hosts.host(here).agent(tally.id).dispatch, at))
            answers_all(until, asking, 2)
    asking.check(tally.call("numbers"))
    assert not asking.unknown and not asking.refused and asking.hosts == {NORTH, SOUTH}
    assert len(asking.answered) >= 2 * HOPS
    metrics = scraped(hosts, NORTH)
    assert 'agentplatform_requests_total{kind="count",outcome="answered",service="tally"}' in metrics
    if moving == "forward":
        assert 'outcome="forwarded",service="tally"' in metrics + scraped(hosts, SOUTH)


def scraped(hosts: Hosts, name: str) -> str:
    connection = HTTPConnection("127.0.0.1", hosts.port(name), timeout=10)
    connection.request(
        "GET", "/metrics", headers={"Authorization": f"Bearer {hosts.tokens(name)[hosts.addresses[name]]}"}
    )
    told = connection.getresponse().read().decode()
    connection.close()
    return told


class Forgetful(Client):
    """What broke off it asks again as if it were new."""

    def _ask(self, path: str, query: dict[str, str], body: Any, timeout: float | None) -> Any:
        try:
            return super()._ask(path, dict(query), body, 0.5)
        except OutcomeUnknown:
            return super()._ask(path, dict(query), body, timeout)

    def incarnation(self, address: str, until: float) -> str:
        return ""


@pytest.mark.parametrize("kind", [Client, Forgetful])
def test_an_answer_that_is_lost_on_its_way_is_given_again_and_a_client_without_keys_is_found_out(
    hosts: Hosts, tally: Any, kind: type[Client]
) -> None:
    """The second is the broken twin: what the harness counts, it sees."""
    proxy = CuttingProxy(hosts.port(NORTH), every=5)
    token = hosts.tokens(NORTH)[hosts.addresses[NORTH]]
    try:
        with Asking(kind(proxy.address, token=token)) as asking:
            answers_all(until, asking, 20)
    finally:
        proxy.close()
    assert proxy.cut >= 3
    if kind is Client:
        asking.check(tally.call("numbers"))
        assert not asking.unknown
    else:
        with pytest.raises(AssertionError, match="handled twice"):
            asking.check(tally.call("numbers"))


def test_an_agent_here_gains_nothing_by_the_endpoint(hosts: Hosts, tally: Any) -> None:
    thief = hosts.host(NORTH).create(Thief, "thief")
    assert thief.call("connect", {"host": "127.0.0.1", "port": hosts.port(NORTH)}) == [200, 401, 401]
    with pytest.raises(Exception, match=r"PermissionError|No such file"):
        thief.call("read", str(hosts.home(NORTH).http_token))
    assert tally.call("numbers") == []
    thief.dispose()


def test_what_a_newcomer_types(hosts: Hosts, tally: Any) -> None:
    """As docs/requests.md has it: the token by the command line, the rest by curl."""
    shown = subprocess.run(
        ["agentplatform", "--root", str(hosts.root), "--json", "token", NORTH], capture_output=True, check=True
    )
    (row,) = json.loads(shown.stdout)
    assert row["endpoint"] == hosts.addresses[NORTH].removeprefix("http://")
    curl = ["curl", "-s", "-H", f"Authorization: Bearer {row['token']}", "-H", "Content-Type: application/json"]
    asked = [*curl, "-d", "7", f"{hosts.addresses[NORTH]}/services/tally/count"]
    assert json.loads(subprocess.run(asked, capture_output=True, check=True).stdout) == [7, NORTH]
    asked[-1] = f"{hosts.addresses[NORTH]}/agents/{tally.id}/nonsense"
    assert json.loads(subprocess.run(asked, capture_output=True, check=True).stdout)["error"] == "Misuse"
    status = hosts.host(NORTH).call("status")
    assert status["endpoint"] == row["endpoint"]


@pytest.mark.parametrize("moving", ["hold", "forward", "refuse"])
def test_a_host_is_killed_while_the_agent_leaves_it(hosts: Hosts, tally: Any, moving: str) -> None:
    """What the client then knows is true: answered, not handled, or that nobody can know."""
    with Asking(hosts.client(SOUTH, NORTH, moving=moving), timeout=5.0) as asking:
        answers_all(until, asking, 10)
        try:
            hosts.host(NORTH).agent(tally.id).dispatch(SOUTH, patience=0.001)
        except Exception as error:  # it is under way
            assert "was not done within" in str(error)
        for child in (children := hosts.kill(NORTH)):
            child.wait()
        assert gone(children)
        hosts.start(NORTH)
        until("it lives", lambda: len(hosts.residents(tally.id)) == 1)
        answers_all(until, asking, 10)
    asking.check(patiently(lambda: hosts.host(SOUTH).agent(tally.id).call("numbers")))
    print(f"{moving}: {len(asking.answered)} answered, {len(asking.unknown)} unknown, {len(asking.refused)} refused")


def test_the_endpoint_a_client_asks_by_is_killed(hosts: Hosts, tally: Any) -> None:
    """The other one takes over; what was asked of the first is answered, or honestly unknown."""
    tally.dispatch(SOUTH)
    with Asking(hosts.client(NORTH, SOUTH), timeout=5.0) as asking:
        answers_all(until, asking, 10)
        for child in hosts.kill(NORTH):
            child.wait()
        answers_all(until, asking, 10)
    hosts.start(NORTH)
    asking.check(patiently(lambda: hosts.host(SOUTH).agent(tally.id).call("numbers")))
    assert len(asking.unknown) <= 1 and not asking.refused


def test_an_agents_own_failure_is_a_peers_fault_and_a_wrong_body_misuse(hosts: Hosts, tally: Any) -> None:
    client = hosts.client(NORTH)
    with pytest.raises(PeerFault, match="FileNotFoundError"):
        client.ask_agent(tally.id, "fetch", "/usr/no/such/file")
    with pytest.raises(Exception, match="does not fit"):
        client.ask_agent(tally.id, "count", "seven")
