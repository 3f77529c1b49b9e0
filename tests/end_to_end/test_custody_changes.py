"""A change of an agent's custody on four real daemons: by its owner, by itself, across kill -9, and with a host that is
gone."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentplatform import Agent
from agentplatform.correspondence import Message
from agents.counter import Counter
from ledger.errors import Misuse, PlatformError
from tests.helpers.local import Local, consortium, patiently, until


class Careful(Agent):
    """Changes its custody when it is told to."""

    def on_creation(self, init: Any) -> None:
        self.seen: list[Any] = []

    def handle_message(self, message: Message) -> Any:
        if message.kind == "change":
            self.change_custody(*message.body)
        return self.seen

    def on_dispatching(self, destination: str) -> None:
        self.seen.append(["leaves for", destination])

    def on_arrival(self, arrival: Any) -> None:
        self.seen.append([arrival.host, arrival.source, arrival.epoch])

    def on_move_failed(self, reason: str) -> None:
        self.seen.append("failed")


def custody(local: Local, agent: str) -> tuple[str, str, int]:
    """Its kind, host and epoch, as its host says when it is there."""
    (row,) = until("it is on one host", lambda: local.residents(agent))
    return row["custody"], row["host"], row["epoch"]


@pytest.mark.slow
def test_it_changes_its_custody_where_it_is_and_goes_on_elsewhere_when_its_host_is_gone(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        east = local.host("east")
        counter = east.create(Counter, init=1)
        assert counter.call("add", 1) == 2
        watcher = local.host("west").agent(counter.id)
        watcher.change_custody("held")  # signed by its owner, performed where it is
        assert custody(local, counter.id) == ("held", "east", 1) and watcher.call("add", 1) == 3
        counter.change_custody("held")  # it is
        assert custody(local, counter.id) == ("held", "east", 1)
        patiently(lambda: counter.dispatch("south"))  # its chain may be a block behind
        counter.change_custody("local")
        assert custody(local, counter.id) == ("local", "south", 3)
        patiently(lambda: counter.dispatch("east"))
        counter.change_custody("held")
        assert custody(local, counter.id) == ("held", "east", 5) and counter.call("add", 1) == 4
        clone = watcher.clone()  # ordered elsewhere, by the owner of both
        assert custody(local, clone.id) == ("held", "east", 0) and clone.call("add", 1) == 5
        free = counter.clone(custody="local")
        assert custody(local, free.id) == ("local", "east", 0)
        local.wipe("east")
        assert patiently(lambda: watcher.call("read")) == 4
        elsewhere = local.host("west").agent(clone.id)
        assert patiently(lambda: elsewhere.call("read")) == 5


@pytest.mark.slow
def test_an_agent_changes_its_custody_itself_with_its_owners_consent(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", light=True) as local:
        agent = local.host("east").create(Careful)
        agent.call("change", ["held"])
        until("it hears that its owner did not consent", lambda: agent.call("read") == ["failed"])
        agent.call("change", ["held", agent.consent()])
        until("it is in held custody", lambda: custody(local, agent.id) == ("held", "east", 1))
        assert agent.call("read") == ["failed", ["leaves for", "east"], ["east", None, 1]]
        agent.call("change", ["local"])
        until("it is in local custody", lambda: custody(local, agent.id) == ("local", "east", 2))
        with pytest.raises(Misuse, match="custody"):
            agent.call("change", ["elsewhere"])


def phases(local: Local) -> list[str]:
    return [each["phase"] for each in local.host("east").call("status")["in_doubt"]]


@pytest.mark.slow
@pytest.mark.parametrize("before", ["local", "held"])
def test_a_host_that_is_killed_while_the_ledger_is_asked_leaves_it_in_one_custody(tmp_path: Path, before: str) -> None:
    """Without a quorum the change stands at that step; later the ledger decides, one way or the other."""
    after = "held" if before == "local" else "local"
    with consortium(tmp_path / "root", light=True) as local, ThreadPoolExecutor() as threads:
        east = local.host("east")
        east.create(Counter, name="other", custody="held")  # so that it has a lease
        counter = east.create(Counter, init=1, custody=before)
        assert counter.call("add", 1) == 2
        for name in ("north", "west"):
            local.kill(name)
        changing = threads.submit(counter.change_custody, after)
        until("the ledger is asked", lambda: phases(local) == ["asked"])
        (wait,) = (each for each in east.call("blocked", agent=counter.id) if "it is asked" in each["why"])
        assert wait["waits_for"] == "the ledger"
        local.kill("east")
        local.start("east", "north", "west")
        until("nothing is in doubt", lambda: not local.in_doubt())
        until("it runs", lambda: local.residents(counter.id))
        kind, host, epoch = custody(local, counter.id)
        assert (host, epoch) == ("east", 1) and kind in ("local", "held")
        assert isinstance(changing.exception(), PlatformError)  # whoever asked went with the host
        counter = local.host("south").agent(counter.id)
        assert patiently(lambda: counter.call("read")) == 2
        patiently(lambda: counter.dispatch("south"))  # its chain may be a block behind
        assert custody(local, counter.id) == (kind, "south", 2)
        counter.change_custody("local" if kind == "held" else "held")
        assert counter.call("read") == 2
