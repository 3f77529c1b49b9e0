"""What an agent's birth certificate says of its kind, and what classes and owners may put there."""

from typing import Any

import msgspec
import pytest

from agentplatform import Agent, ServiceAgent, UserAgent
from agentplatform.kinds import Service, User, Version
from agentplatform.parcel.manifest import Birth, give_birth, open_birth
from agentplatform.runners.inline import Inline
from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.identity import Identity, Signed

OWNER = Identity(bytes(32))


class Echo(ServiceAgent):
    service, version = "echo", "1.4"


class Guide(UserAgent):
    def on_user_moved(self, nearest: str) -> None:
        self.session["near"] = nearest

    def handle_message(self, message: Any) -> Any:
        return [self.user, self.session]


def born(kind: Any) -> bytes:
    return give_birth("ada", OWNER, bytes(16), bytes(32), "module:Class", True, kind=kind)


@pytest.mark.parametrize("kind", [None, Service("echo", "1.4"), User("Ada L.")])
def test_the_certificate_says_it_and_the_owner_signed_it(kind: Any) -> None:
    raw = born(kind)
    assert open_birth(raw, "east").kind == kind
    signed = codec.decode(raw, Signed)
    other = codec.decode(signed.body, list[Any])
    other[-1] = ["service", "echo", "9.0"]
    forged = codec.encode(msgspec.structs.replace(signed, body=codec.encode(other)))
    with pytest.raises(PeerFault, match="east"):
        open_birth(forged, "east")


def test_a_certificate_from_before_there_were_kinds_says_of_none() -> None:
    fields = codec.decode(codec.decode(born(None), Signed).body, list[Any])
    assert codec.decode(codec.encode(fields[:-1]), Birth).kind is None


@pytest.mark.parametrize(
    "kind",
    [
        ["service", "Echo", "1.0"],
        ["service", "echo" * 9, "1.0"],
        ["service", "echo", "1"],
        ["service", "echo", "01.0"],
        ["service", "echo", "1.0.0"],
        ["service", "echo", "1.123456"],
        ["service", "echo", "1.0", "more"],
        ["user", ""],
        ["user", "a" * 65],
        ["user", "ada\n"],
        ["user", "\x1b[31mada"],
        ["king", "ada"],
    ],
)
def test_a_kind_that_cannot_be_is_refused_by_hosts_that_read_it(kind: list[str]) -> None:
    fields = codec.decode(codec.decode(born(None), Signed).body, list[Any])
    fields[-1] = kind
    with pytest.raises(PeerFault, match="east"):
        open_birth(codec.encode(OWNER.signed("agentplatform/birth", codec.encode(fields))), "east")


@pytest.mark.parametrize(
    ("offered", "wanted", "serves"),
    [
        ("1.4", "1.4", True),
        ("1.4", "1.3", True),
        ("1.10", "1.9", True),
        ("1.4", "1.5", False),
        ("2.0", "1.4", False),
        ("1.4", "2.0", False),
    ],
)
def test_versions_of_one_major_serve_those_who_ask_for_less(offered: str, wanted: str, serves: bool) -> None:
    assert Version.parse(offered).serves(Version.parse(wanted)) is serves


def test_classes_say_their_kind() -> None:
    assert Agent.kind_of({"user": "ada"}) is None
    assert Echo.kind_of(None) == Service("echo", "1.4")
    assert Guide.kind_of("ada") == Guide.kind_of({"user": "ada", "more": 1}) == User("ada")
    with pytest.raises(Misuse, match="no service and no version"):
        ServiceAgent.kind_of(None)
    with pytest.raises(Misuse, match="'one' is no version"):
        type("Bad", (ServiceAgent,), {"service": "echo", "version": "one"}).kind_of(None)
    for init in (None, 3, {"user": 3}, {}):
        with pytest.raises(Misuse, match="give `init` the name"):
            Guide.kind_of(init)
    with pytest.raises(Misuse, match="1 to 64 printable"):
        Guide.kind_of("")


def test_a_user_agent_holds_the_session_across_hosts() -> None:
    with Inline() as inline:
        guide = inline.create(Guide, "ada")
        guide.hop("east")
        assert guide.call("session") == ["ada", {}]
        with pytest.raises(Misuse, match="stands for a user"):
            inline.create(Guide)
