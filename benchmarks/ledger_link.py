"""Where the replicas of `benchmarks ledger` stand: all on the loopback, or the primary at one end of a link that is
shaped (benchmarks.shaped) and all others at the other."""

from typing import Protocol

from agentplatform.consortium import free_ports

PRIMARY_END, OTHERS_END = 0, 1


class Link(Protocol):
    """What is needed of benchmarks.shaped.Link."""

    name: str

    def place(self, end: int) -> tuple[str, str]: ...

    def namespace(self, end: int) -> str | None: ...


class Loopback:
    name = "loopback"

    def place(self, end: int) -> tuple[str, str]:
        (port,) = free_ports(1)
        return f"127.0.0.1:{port}", f"127.0.0.1:{port}"

    def namespace(self, end: int) -> str | None:
        return None


LOOPBACK = Loopback()


class Address:
    """Of one replica; the primary is at place 0."""

    def __init__(self, link: Link, place: int) -> None:
        end = OTHERS_END if place else PRIMARY_END
        self.namespace = link.namespace(end)
        self.listen, reached = link.place(end)
        # Of each pair the host with the smaller name dials, and the primary's name is the largest: all dial it, across
        # the link, and the others dial each other at their own end.
        self.dialled = self.listen if place else reached
