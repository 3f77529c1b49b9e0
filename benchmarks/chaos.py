"""Four real daemons under every fault of docs/custody.md, while agents move at random and exchange numbered messages.

The histories that all processes write are judged by a checker that knows nothing of the code; at the end every agent is
asked what it was told. With `--mutant` the daemons have one rule left out, and the sum of the last line is above 0.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from agentplatform.messages import Custody
from ledger.errors import PlatformError
from tests.helpers import history_checker
from tests.helpers.chaos_agents import Wanderer
from tests.helpers.chaos_faults import EVERY_FAULT, FAULTS, FAULTS_OF_HELD, HELD_ONLY
from tests.helpers.chaos_hosts import ChaosHosts
from tests.helpers.custody_mutants import MUTANTS, Mutant
from tests.helpers.effects import Effects

HELD, FRIENDS = 10, 6
PACE = 1.0  # seconds between two acts of an agent, in the mean
CLIENTS_PAUSE = 0.2
REST_SECONDS = 60.0  # until all is quiet at the end; a bound for what is broken
Books = dict[str, dict[str, Any]]  # agent -> what it says of itself


class Chaos:
    def __init__(
        self,
        hosts: ChaosHosts,
        effects: Effects,
        seed: int,
        agents: int,
        held: int,
        faults: Sequence[str],
        caught: Callable[[], bool],
    ) -> None:
        """`faults` are drawn until each was there, and then again; `caught` says whether to go on is needless."""
        self.hosts, self.effects, self.caught = hosts, effects, caught
        self.faults: Counter[str] = Counter()
        self._random = Random(f"chaos {seed}")  # noqa: S311  repeatable
        self._count, self._held = agents, held
        self._kinds = faults
        self._agents: list[str] = []
        self._acked: list[tuple[str, str, int]] = []  # agent, client, number
        self.problems: list[str] = []

    async def run(self, seconds: float) -> None:
        await self._create()
        deadline = time.monotonic() + seconds
        clients = [asyncio.create_task(self._client(host)) for host in self.hosts.names]
        try:
            drawn: list[str] = []
            while time.monotonic() < deadline and not self.caught():
                await asyncio.sleep(self._random.uniform(0.1, 0.8))  # the hosts are well for so long
                drawn = drawn or self._random.sample(self._kinds, len(self._kinds))
                name = drawn.pop()
                self.faults[name] += 1
                await EVERY_FAULT[name](self.hosts)
        finally:
            for client in clients:
                client.cancel()
            await asyncio.gather(*clients, return_exceptions=True)

    async def _create(self) -> None:
        names = self.hosts.names
        for index in range(self._count):
            custody: Custody = "held" if index < self._held else "local"
            hosts = [name for name in names if custody == "held" or not self._held or name != HELD_ONLY]
            init = {"hosts": hosts, "pace": PACE, "port": self.effects.port, "seed": self._random.random()}
            self._agents.append(
                await self.hosts.create(hosts[index % len(hosts)], Wanderer, f"w{index}", init, custody)
            )
        self.hosts.held = set(self._agents[: self._held])
        friends = {
            agent: self._random.sample([each for each in self._agents if each != agent], min(FRIENDS, self._count - 1))
            for agent in self._agents
        }
        await asyncio.gather(*(self._insist(agent, "go", friends[agent]) for agent in self._agents))

    async def _client(self, host: str) -> None:
        number = 0
        while True:
            await asyncio.sleep(CLIENTS_PAUSE)
            agent, number = self._random.choice(self._agents), number + 1
            with suppress(PlatformError):
                await self.hosts.ask(host, agent, "client", {"client": host, "number": number}, patience=3.0)
                self._acked.append((agent, host, number))

    async def _insist(self, agent: str, kind: str, body: Any = None) -> dict[str, Any] | None:
        """The answer, from whichever host has one; None when there is none in time."""
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            with suppress(PlatformError):
                host = self._random.choice(self.hosts.names)
                return dict(await self.hosts.ask(host, agent, kind, body, patience=3.0))
            await asyncio.sleep(0.05)
        return None

    # The end

    async def rest(self) -> dict[str, int]:
        """Waits until nothing moves and nothing is under way, and judges what agents and clients know."""
        self.hosts.proxies.heal()
        await self.hosts.start_all()
        halted = await asyncio.gather(*(self._insist(agent, "halt") for agent in self._agents))
        there = [agent for agent, answer in zip(self._agents, halted, strict=True) if answer is not None]
        books: Books = {}
        deadline = time.monotonic() + REST_SECONDS
        while time.monotonic() < deadline:
            answers = await asyncio.gather(*(self._insist(agent, "look") for agent in there))
            books = {agent: book for agent, book in zip(there, answers, strict=True) if book is not None}
            if len(books) < self._count or (not _unheard(books) and not await self._in_doubt()):
                break
            await asyncio.sleep(0.5)
        for each in _unheard(books):
            self.problems += [each, *await self._believed(each.split()[-1])]
        return self._judge(books, await self._residents())

    async def _in_doubt(self) -> int:
        states = await asyncio.gather(*(self.hosts.call(host, "status") for host in self.hosts.names))
        return sum(len(state["in_doubt"]) for state in states)

    async def _believed(self, agent: str) -> list[str]:
        """Where each host believes the agent to be."""
        found = []
        for host in self.hosts.names:
            try:
                found.append(f"    {host}: {await self.hosts.call(host, 'resolve', agent=agent)}")
            except PlatformError as error:
                found.append(f"    {host}: {error}")
        return found

    async def _residents(self) -> Counter[str]:
        rows = await asyncio.gather(*(self.hosts.call(host, "agents") for host in self.hosts.names))
        return Counter(row["agent"] for each in rows for row in each if row["resident"])

    def _judge(self, books: Books, residents: Counter[str]) -> dict[str, int]:
        lost = [agent for agent in self._agents if agent not in books or not residents[agent]]
        doubled = [agent for agent in self._agents if residents[agent] > 1]
        missing = [f"{agent}: {gap}" for agent, book in books.items() for gap in book["lost"]] + _unheard(books)
        twice = [f"{agent}: {each}" for agent, book in books.items() for each in book["twice"]]
        for agent, client, number in self._acked:
            if agent in books:
                count = books[agent]["clients"].get(client, []).count(number)
                (missing if count == 0 else twice if count > 1 else []).append(f"{number} of {client} to {agent}")
        self.problems += [
            *(f"{agent} is gone" for agent in lost),
            *(f"{agent} lives on two hosts" for agent in doubled),
            *(f"never heard: {each}" for each in missing),
            *(f"heard twice: {each}" for each in twice),
        ]
        return {
            "lost": len(lost),
            "duplicated": len(doubled),
            "messages_lost": len(missing),
            "messages_doubled": len(twice),
        }


def _unheard(books: Books) -> list[str]:
    """Numbers that were told and not heard."""
    return [
        f"{number} from {agent} to {friend}"
        for agent, book in books.items()
        for friend, told in book["told"].items()
        if friend in books
        for number in range(books[friend]["heard"].get(agent, 0) + 1, told + 1)
    ]


async def play(
    seconds: float,
    seed: int,
    folder: Path,
    mutant: str | None = None,
    agents: int | None = None,
    held: int | None = None,
    faults: Sequence[str] = (),
) -> dict[str, Any]:
    """The figures, and under "problems" what agents and clients miss. `agents`, `held` and `faults` are, if not given,
    what the mutant needs, or all."""
    lacking = MUTANTS[mutant] if mutant is not None else Mutant(0.0, held=HELD)
    agents = lacking.agents if agents is None else agents
    held = lacking.held if held is None else held
    faults = faults or lacking.faults or (*FAULTS, *(FAULTS_OF_HELD if held else ()))
    print(f"chaos: seed {seed}", file=sys.stderr, flush=True)

    def caught() -> bool:
        return mutant is not None and bool(history_checker.check(history_checker.read(folder), at_rest=False))

    with tempfile.TemporaryDirectory() as root:
        hosts = ChaosHosts(Path(root) / "root", folder, Random(f"hosts {seed}"), mutant)  # noqa: S311
        async with hosts, Effects(hosts.history) as effects:
            began = time.monotonic()
            chaos = Chaos(hosts, effects, seed, agents, held, faults, caught)
            try:
                await chaos.run(seconds)
                known = {} if chaos.caught() else await chaos.rest()
            except RuntimeError as error:  # a host does not start any more
                known, chaos.problems = {"lost": 1}, [str(error)]
            took, errors = time.monotonic() - began, hosts.errors()
    lines = history_checker.read(folder)
    violations = history_checker.check(lines, at_rest=bool(known))
    judged = history_checker.summary(violations)
    counts = Counter(line.event for line in lines)
    return {
        "faults": sum(chaos.faults.values()),
        "moves": len({(line["agent"], line["epoch"]) for line in lines if line.event == "active" and line["epoch"]}),
        "messages": counts["handled"],
        **{name: max(count, known.get(name, 0)) for name, count in judged.items()},
        "problems": [*chaos.problems, *map(str, violations)],
        "errors": errors,
        "kinds": dict(sorted(chaos.faults.items())),
        "effects": counts["effect"],
        "took": took,
    }


def main(arguments: list[str]) -> int:
    """0 when what was expected came out: nothing lost and nothing double, or with a mutant something."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--history", type=Path, help="a new folder for the histories (default: they are thrown away)")
    parser.add_argument("--mutant", choices=MUTANTS, help="leave one rule out")
    parser.add_argument("--agents", type=int, help="50, or as many as the mutant needs")
    parser.add_argument(
        "--held", type=int, help=f"so many of them in held custody (default: {HELD}, or as the mutant needs it)"
    )
    parser.add_argument("--faults", nargs="+", choices=EVERY_FAULT, default=(), metavar="FAULT", help="these alone")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.history or Path(scratch) / "history"
        if folder.exists() and any(folder.iterdir()):
            parser.error(f"{folder} is not empty: a history is of one run")
        of_hosts = options.agents, options.held, options.faults
        result = asyncio.run(play(options.seconds, options.seed, folder, options.mutant, *of_hosts))
    problems, errors, kinds, effects, took = (
        result.pop(name) for name in ("problems", "errors", "kinds", "effects", "took")
    )
    if not options.json:
        print("\n".join([*problems[:40], *(errors[-20:] if problems else ())]))
        print(
            f"{took:.0f} s, {effects} effects; faults: {', '.join(f'{count} {name}' for name, count in kinds.items())}"
        )
    print(json.dumps(result))
    wrong = sum(result[name] for name in ("lost", "duplicated", "messages_lost", "messages_doubled"))
    return 0 if (wrong > 0) == (options.mutant is not None) else 1
