"""Histories of hosts that keep every promise, drawn at random: what a checker must find nothing in."""

from random import Random
from typing import Any

HOSTS = ("north", "east", "south")


class Model:
    """Agents move, hosts are killed and started again, clients' messages are handled. `files` are the processes'."""

    def __init__(self, random: Random, agents: int = 3) -> None:
        self.files: dict[str, list[dict[str, Any]]] = {}
        self._random, self._now = random, 100.0
        self._lives = dict.fromkeys(HOSTS, 1)
        self._up = set(HOSTS)
        self._where: dict[str, tuple[str, int]] = {}  # agent -> host, epoch
        self._numbers: dict[tuple[str, str], int] = {}
        for index in range(agents):
            agent, host = f"agent-{index}", random.choice(HOSTS)
            self._where[agent] = host, 0
            self._worker(host, "running", agent=agent, epoch=0)
            self._daemon(host, "active", agent=agent, epoch=0, transfer="")

    def run(self, steps: int) -> None:
        acts = (self.move, self.move, self.message, self.message, self.message, self.abort, self.kill, self.start)
        for _ in range(steps):
            self._random.choice(acts)()
        while len(self._up) < len(HOSTS):
            self.start()

    def move(self) -> None:
        agent, source, epoch = self._some_agent()
        to = self._random.choice([host for host in HOSTS if host != source])
        if not {source, to} <= self._up:
            return
        transfer = f"{self._random.getrandbits(64):016x}"
        parcel = {"agent": agent, "epoch": epoch + 1, "transfer": transfer}
        self._worker(source, "frozen", agent=agent, epoch=epoch)
        for host, event in (
            (source, "offer"),
            (source, "prepare"),
            (to, "received"),
            (source, "commit"),
            (source, "notice"),
        ):
            self._daemon(host, event, **parcel)
        self._worker(to, "running", agent=agent, epoch=epoch + 1)
        self._where[agent] = to, epoch + 1
        if self._random.random() < 0.9:  # else its host is killed after ACTIVE and before the line
            self._daemon(to, "active", **parcel)

    def abort(self) -> None:
        agent, source, epoch = self._some_agent()
        if source in self._up:
            self._worker(source, "frozen", agent=agent, epoch=epoch)
            self._daemon(source, "offer", agent=agent, epoch=epoch + 1, transfer=f"{self._random.getrandbits(64):016x}")
            self._worker(source, "running", agent=agent, epoch=epoch)

    def message(self) -> None:
        agent, host, _ = self._some_agent()
        if host not in self._up:
            return
        sender = self._random.choice(("client-1", "client-2", "agent-x"))
        number = self._numbers[sender, agent] = self._numbers.get((sender, agent), 0) + 1
        post = {"sender": sender, "sequence": number, "receiver": agent}
        self._daemon(host, "sent", **post)
        acked = sender != "agent-x"
        if acked or self._random.random() < 0.9:
            self._daemon(host, "handled", **post)
        if acked:
            self._daemon(host, "acked", **post)
        self._write("driver", "driver", 1, "effect", effect=f"{sender}:{agent}:{number}")

    def kill(self) -> None:
        if len(self._up) > 1:
            host = self._random.choice(sorted(self._up))
            self._up.discard(host)
            if self._random.random() < 0.5:  # else it ended by itself
                self._write("driver", "driver", 1, "fault", fault="kill", on=host)

    def start(self) -> None:
        for host in HOSTS:
            if host not in self._up:
                self._up.add(host)
                self._lives[host] += 1
                for agent, (where, epoch) in self._where.items():
                    if where == host:
                        self._worker(host, "running", agent=agent, epoch=epoch)

    def _some_agent(self) -> tuple[str, str, int]:
        agent = self._random.choice(sorted(self._where))
        return agent, *self._where[agent]

    def _daemon(self, host: str, event: str, **fields: Any) -> None:
        self._write(f"{host}.{self._lives[host]}", host, self._lives[host], event, **fields)

    def _worker(self, host: str, event: str, **fields: Any) -> None:
        self._write(f"{host}.{self._lives[host]}.worker", host, self._lives[host], event, **fields)

    def _write(self, file: str, host: str, incarnation: int, event: str, **fields: Any) -> None:
        self._now += self._random.uniform(0.001, 0.1)
        line = {"t": self._now, "host": host, "incarnation": incarnation, "event": event} | fields
        self.files.setdefault(f"{file}.jsonl", []).append(line)
