"""What comes over the links while a host starts."""

from typing import Any

from agentplatform.custody.carry import is_recall
from agentplatform.custody.messages import Inquire, Life, Recall
from agentplatform.porch import MAX_BYTES, Porch
from ledger import codec
from ledger.errors import PeerFault
from ledger.links.base import Channel

RECALL = codec.encode(Recall(Life(1), ("x",)))
INQUIRY = codec.encode(Inquire(b"t"))


def porch(seen: list[Any]) -> Porch:
    return Porch(
        lambda *message: seen.append(message),
        lambda *link: seen.append(link),
        lambda channel, message: channel == Channel.HANDOFF and is_recall(message),
        lambda host: seen.append(f"asks {host}"),
    )


def test_what_comes_waits_in_its_order_until_the_host_is_open() -> None:
    seen: list[Any] = []
    one = porch(seen)
    one.linked("east", True)
    one.arrived("east", Channel.HANDOFF, INQUIRY)
    one.arrived("east", Channel.HANDOFF, RECALL)
    one.arrived("east", Channel.MAIL, RECALL)
    assert seen == ["asks east", ("east", Channel.HANDOFF, RECALL)]
    del seen[:]
    one.open()
    assert seen == [("east", True), ("east", Channel.HANDOFF, INQUIRY), ("east", Channel.MAIL, RECALL)]
    one.linked("east", False)
    one.arrived("west", Channel.MAIL, b"m")
    assert seen[3:] == [("east", False), ("west", Channel.MAIL, b"m")]


def test_nothing_is_heard_of_a_link_after_its_end() -> None:
    """Its host may have begun another life since, which knows nothing of what it sent."""
    seen: list[Any] = []
    one = porch(seen)
    for host in ("east", "west"):
        one.linked(host, True)
        one.arrived(host, Channel.HANDOFF, INQUIRY)
    one.linked("east", False)
    one.linked("east", True)
    del seen[:]
    one.open()
    assert seen == [("west", True), ("west", Channel.HANDOFF, INQUIRY), ("east", True)]


def test_it_is_no_door_to_the_memory_and_a_fault_of_one_does_not_stop_the_start() -> None:
    seen: list[Any] = []
    one = porch(seen)
    for _ in range(3):
        one.arrived("east", Channel.MAIL, bytes(MAX_BYTES // 2))
    one.arrived("east", Channel.HANDOFF, b"\xff nothing that can be decoded")
    one.open()
    assert len(seen) == 2

    def refuse(host: str, *rest: Any) -> None:
        seen.append(host)
        raise PeerFault(host, "sent what must not be sent")

    faulty = Porch(refuse, lambda *link: None, lambda *message: False, lambda host: None)
    for host in ("east", "west"):
        faulty.arrived(host, Channel.MAIL, b"m")
    faulty.open()
    assert seen[2:] == ["east", "west"]
