"""Two real daemons: an agent's life between them, and what is left of it when one of them is killed."""

import random
import threading
import time
from collections.abc import Iterator

import pytest

from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import Misuse, PlatformError, Unavailable
from tests.helpers.local import Local, consortium, gone, patiently, until
from tests.helpers.shuttle import Careless, Dreamer, Shuttle, Teller

NORTH, SOUTH = "north", "south"
OTHER = {NORTH: SOUTH, SOUTH: NORTH}
LETTERS = 250  # from one agent to another


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with consortium(tmp_path_factory.mktemp("two-hosts") / "root", NORTH, SOUTH, light=True) as local:
        yield local


def shuttle(hosts: Local, name: str, host: str = NORTH) -> AgentProxy:
    return hosts.host(host).create(Shuttle, name, [NORTH, SOUTH])


def test_a_life_between_two_hosts(hosts: Local) -> None:
    agent = shuttle(hosts, "life")
    assert agent.call("note", 1) == 1
    hop = agent.dispatch(SOUTH)
    assert (hop["source"], hop["destination"], hop["agents"]) == (NORTH, SOUTH, [agent.id])
    assert agent.dispatch(SOUTH) == {}  # it is there
    there = hosts.host(SOUTH).agent(agent.id)
    assert there.call("note", 2) == 2 and agent.call("note", 3) == 3
    assert there.call("look") == {"host": SOUTH, "epochs": [1], "notes": [1, 2, 3], "failed": []}
    assert [row["host"] for row in hosts.residents(agent.id)] == [SOUTH]
    until("the news", lambda: agent.host == SOUTH)
    there.dispatch(NORTH)  # from where it is
    agent.dispatch(SOUTH)
    agent.dispatch(NORTH)  # and from elsewhere: on its owner's word
    assert there.call("look")["host"] == NORTH
    there.dispose()
    lines = {host: "\n".join(hosts.host(host).call("logs", agent=agent.id)["lines"]) for host in (NORTH, SOUTH)}
    assert "hello from north" in lines[NORTH] and "reached north" in lines[NORTH] and "good-bye" in lines[NORTH]
    assert "reached south" in lines[SOUTH]
    assert hosts.residents(agent.id) == []
    until("the news of its end", lambda: hosts.host(SOUTH).call("resolve", agent=agent.id)["host"] == "")
    with pytest.raises(Misuse, match=r"ended on .* in its epoch"):
        agent.call("look")


def test_an_attribute_that_cannot_travel_is_named_and_the_agent_goes_on(hosts: Local) -> None:
    agent = hosts.host(NORTH).create(Careless, "locked", [NORTH, SOUTH])
    agent.call("lock")
    with pytest.raises(Misuse, match="treasure"):
        agent.dispatch(SOUTH)
    agent.call("go", SOUTH)  # by its own wish
    until("on_move_failed", lambda: len(agent.call("look")["failed"]) == 2)
    looked = agent.call("look")
    assert looked["host"] == NORTH and all("treasure" in reason for reason in looked["failed"])
    agent.call("unlock")
    agent.dispatch(SOUTH)
    assert agent.call("look")["host"] == SOUTH
    agent.dispose()


def test_hosts_and_agents_that_do_not_exist_are_named(hosts: Local) -> None:
    agent = shuttle(hosts, "lost")
    with pytest.raises(Misuse, match="the ledger knows no host 'atlantis'"):
        agent.dispatch("atlantis")
    agent.call("go", "atlantis")
    until("on_move_failed", lambda: agent.call("look")["failed"])
    assert "atlantis" in agent.call("look")["failed"][0]
    with pytest.raises(Misuse, match="no agent 'nobody' is known here"):
        hosts.host(NORTH).agent("nobody")
    agent.dispose()


def test_nothing_is_left_of_a_creation_that_took_too_long(hosts: Local) -> None:
    north = hosts.host(NORTH)
    before = north.call("status")["agents"]
    with pytest.raises(Unavailable, match=r"create was not done within 0.2 s"):
        north.create(Dreamer, patience=0.2)
    assert north.call("status")["agents"] == before
    assert not [row for row in north.call("agents") if row["name"] == "dreamer"]
    assert shuttle(hosts, "dreamer").call("note", 1) == 1


def test_calls_go_on_while_the_agent_goes_to_and_fro(hosts: Local) -> None:
    agent = shuttle(hosts, "busy")
    answers: dict[str, list[int]] = {name: [] for name in (NORTH, SOUTH)}
    over = threading.Event()
    problems: list[BaseException] = []

    def call(name: str) -> None:
        try:
            mine = patiently(lambda: hosts.host(name).agent(agent.id))
            while not over.is_set():
                answers[name].append(mine.call("note", len(answers[name])))
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=call, args=(name,)) for name in (NORTH, SOUTH)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        agent.dispatch(SOUTH)
        agent.dispatch(NORTH)
    until("answers to both", lambda: all(answers.values()))
    over.set()
    for thread in threads:
        thread.join()
    assert problems == []
    looked = agent.call("look")
    assert looked["epochs"] == list(range(1, 11))
    # Both count from 0: what each noted is in the order of its calls, once; and each answer was the length then.
    assert len(looked["notes"]) == sum(map(len, answers.values()))
    assert sorted(looked["notes"]) == sorted(note for each in answers.values() for note in range(len(each)))
    assert sorted(count for each in answers.values() for count in each) == list(range(1, len(looked["notes"]) + 1))
    for name, counts in answers.items():
        assert [looked["notes"][count - 1] for count in counts] == list(range(len(counts))), name
    agent.dispose()


# SIGKILL


def kill_in_mid_handoff(hosts: Local, victim: str, chance: random.Random, name: str) -> None:
    """The agent hops without a pause; the kill comes at a moment by chance, within two hops or so."""
    agent = shuttle(hosts, name, OTHER[victim])
    agent.call("note", 7)
    agent.call("shuttle", 1_000)
    survivor = hosts.host(OTHER[victim])
    start = epoch_of(hosts, agent.id)
    until("some hops", lambda: epoch_of(hosts, agent.id) >= start + 3)
    time.sleep(chance.uniform(0, 0.02))  # the moment of the fault; nothing waits for it
    started = hosts.kill(victim)
    until("the end of all that it had started", lambda: gone(started))
    said = survivor.call("status")["in_doubt"]
    assert all(each["waits_for"] == victim for each in said)
    hosts.start(victim)
    patiently(lambda: survivor.agent(agent.id).call("halt", patience=5.0))
    until("an end of all doubt", lambda: not hosts.in_doubt())
    calm(hosts, agent.id)
    (row,) = hosts.residents(agent.id)
    looked = patiently(lambda: survivor.agent(agent.id).call("look", patience=5.0))
    assert looked["host"] == row["host"]
    # Every epoch once: its state is that of the last arrival at least, and no other copy ever went another way.
    assert looked["epochs"] == list(range(1, row["epoch"] + 1)) and looked["notes"] == [7]
    for host in (NORTH, SOUTH):  # and it moves on, from both
        patiently(lambda: hosts.host(row["host"]).agent(agent.id).dispatch(host, patience=10.0))  # noqa: B023
    patiently(lambda: survivor.agent(agent.id).dispose())


def epoch_of(hosts: Local, agent: str) -> int:
    rows = [row for name in (NORTH, SOUTH) for row in hosts.host(name).call("agents")]
    return max(int(row["epoch"]) for row in rows if row["agent"] == agent)


def calm(hosts: Local, agent: str) -> None:
    """Waits until a halted agent has made its last hop."""
    until(f"one home of {agent}", lambda: len(hosts.residents(agent)) == 1 and not hosts.in_doubt())


@pytest.mark.parametrize("victim", [SOUTH, NORTH])
def test_sigkill_in_mid_handoff(hosts: Local, victim: str) -> None:
    kill_in_mid_handoff(hosts, victim, random.Random(1), f"hit-{victim}")  # noqa: S311


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sigkill_at_many_moments(hosts: Local) -> None:
    seed = time.time_ns() % 1_000_000
    print(f"seed {seed}")
    chance = random.Random(seed)  # noqa: S311
    for number in range(16):
        kill_in_mid_handoff(hosts, chance.choice((NORTH, SOUTH)), chance, f"often-{number}")


def test_a_host_that_is_killed_at_rest_brings_its_agents_back(hosts: Local) -> None:
    """With all that they have answered for; and a client that was connected before goes on after."""
    agent = shuttle(hosts, "phoenix")
    agent.call("note", 1)
    agent.dispatch(SOUTH)
    there = hosts.host(SOUTH).agent(agent.id)
    assert there.call("note", 2) == 2
    started = hosts.kill(SOUTH)
    until("the end of all that it had started", lambda: gone(started))
    with pytest.raises(PlatformError, match="does not answer"):
        there.call("look")
    hosts.start(SOUTH)
    assert there.call("look", patience=10.0)["notes"] == [1, 2]
    assert patiently(lambda: agent.call("note", 3, patience=10.0)) == 3
    agent.dispose()


def test_each_message_is_handled_once_though_both_hosts_are_killed_in_mid_traffic(hosts: Local) -> None:
    listener = shuttle(hosts, "listener", SOUTH)
    patiently(lambda: hosts.host(NORTH).agent(listener.id))
    teller = hosts.host(NORTH).create(Teller, "teller", [listener.id, LETTERS])
    heard: list[int] = []
    mine: list[int] = []  # what this client told too, and has an answer for

    def hear() -> int:
        number = -1 - len(mine)
        patiently(lambda: hosts.host(SOUTH).agent(listener.id).call("note", number, patience=5.0))
        mine.append(number)
        heard[:] = patiently(lambda: listener.call("look"))["notes"]
        return sum(note > 0 for note in heard)

    for victim, share in ((SOUTH, 0.2), (NORTH, 0.5)):
        until(f"{share:.0%} of the traffic", lambda share=share: hear() >= share * LETTERS)  # type: ignore[misc]
        hosts.kill(victim)
        hosts.start(victim)
    until("the last one", lambda: hear() >= LETTERS)
    assert [note for note in heard if note > 0] == list(range(1, LETTERS + 1))
    assert set(mine) <= set(heard) and patiently(lambda: teller.call("look")) == LETTERS
    for agent in (teller, listener):
        patiently(agent.dispose)


def test_a_client_whose_host_was_restarted_is_not_answered_with_old_answers(hosts: Local) -> None:
    agent = shuttle(hosts, "fresh")
    client = hosts.host(SOUTH)
    mine = client.agent(agent.id)
    assert [mine.call("note", number) for number in (1, 2)] == [1, 2]
    hosts.kill(SOUTH)
    hosts.start(SOUTH)
    assert patiently(lambda: mine.call("note", 3, patience=10.0)) == 3
    assert agent.call("look")["notes"] == [1, 2, 3]
    agent.dispose()
