"""Daemons with endpoints for requests, and a client that asks an agent without pause, while it moves."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from agentplatform.agent import Agent
from agentplatform.console import processes
from agentplatform.consortium import found, free_ports
from agentplatform.handlers import handles
from agentplatform.requests import Client, OutcomeUnknown
from agentplatform.service_agent import ServiceAgent
from ledger.errors import Unavailable
from tests.helpers.local import Local, small


class Tally(ServiceAgent):
    """Writes down each number that it is asked with: how often it was handled."""

    service, version = "tally", "1.0"
    checkpoint = "message"

    def on_creation(self, init: Any) -> None:
        self.numbers: list[int] = []

    @handles("count")
    def count(self, number: int) -> list[Any]:
        self.numbers.append(number)
        return [number, self.host]

    @handles("numbers")
    def said(self) -> list[int]:
        return self.numbers

    @handles("fetch")
    def fetch(self, path: str) -> str:
        """What an agent of this machine can read."""
        return Path(path).read_text()


class Thief(Agent):
    """Looks at its host's endpoint from within its worker."""

    @handles("connect")
    def connect(self, host: str, port: int) -> list[int]:
        statuses = []
        for path, method in (("/healthz", "GET"), ("/metrics", "GET"), ("/agents/tally/count", "POST")):
            connection = HTTPConnection(host, port, timeout=10)
            connection.request(method, path)
            statuses.append(connection.getresponse().status)
            connection.close()
        return statuses

    @handles("read")
    def read(self, path: str) -> str:
        return Path(path).read_text()


class Hosts(Local):
    """Each takes requests."""

    def __init__(self, root: Path, ports: dict[str, int]) -> None:
        super().__init__(root)
        self.addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}

    def port(self, name: str) -> int:
        return int(self.addresses[name].rpartition(":")[2])

    def tokens(self, *names: str) -> dict[str, str]:
        return {self.addresses[name]: self.home(name).http_token.read_text() for name in names or self.addresses}

    def client(self, *names: str, kind: type[Client] = Client, **more: Any) -> Client:
        """Of the endpoints of these hosts, tried in this order."""
        chosen = names or tuple(self.addresses)
        return kind([self.addresses[name] for name in chosen], token=self.tokens(*chosen), **more)


@contextmanager
def asked_hosts(root: Path, *names: str, settings: str = "") -> Iterator[Hosts]:
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    for home in found(root, names):
        small(home)
        listen = f'\n[http]\nlisten = "127.0.0.1:{ports[home.folder.name]}"\n{settings}\n'
        home.settings_file.write_text(home.settings_file.read_text() + listen)
    hosts = Hosts(root, ports)
    try:
        hosts.start(*names)
        yield hosts
        hosts.judge()
    finally:
        processes.stop(root, names)


class Asking:
    """A thread that asks with one number after the other, and what came of each."""

    def __init__(self, client: Client, timeout: float = 30.0) -> None:
        self.answered: list[int] = []
        self.hosts: set[str] = set()  # where they were handled
        self.unknown: list[int] = []
        self.refused: list[int] = []  # surely not handled
        self.failed: list[BaseException] = []
        self._client, self._timeout = client, timeout
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> "Asking":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _ask(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            try:
                said, host = self._client.ask("tally", "count", number, timeout=self._timeout)
                assert said == number
                self.answered.append(number)
                self.hosts.add(host)
            except OutcomeUnknown:
                self.unknown.append(number)
            except Unavailable:
                self.refused.append(number)
            except BaseException as error:
                self.failed.append(error)
                return

    def check(self, handled: list[int]) -> None:
        """Against what the agent has handled. Raises AssertionError for a number that was lost, or handled twice."""
        twice = sorted({number for number in handled if handled.count(number) > 1})
        assert not twice, f"handled twice: {twice}"
        lost = sorted(set(self.answered) - set(handled))
        assert not lost, f"answered and lost: {lost}"
        beyond = sorted(set(handled) - set(self.answered) - set(self.unknown))
        assert not beyond, f"handled, and who asked was told that it was not: {beyond}"
        assert not self.failed, self.failed


def answers_all(wait: Callable[[str, Callable[[], Any]], Any], asking: Asking, more: int) -> None:
    """Until so many more were answered."""
    goal = len(asking.answered) + more
    wait(f"{more} more answers", lambda: len(asking.answered) >= goal or asking.failed)
