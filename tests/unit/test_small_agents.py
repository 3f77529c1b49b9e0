"""The ready-made agents that need no libraries: counter, traveller, user."""

from typing import Any

import pytest

from agentplatform.runners.inline import Inline, InlineAgent
from agents.counter import Counter
from agents.traveller import Traveller
from agents.user import FaceUser
from ledger.errors import Misuse, PeerFault


def diary_at_the_end(traveller: InlineAgent) -> list[str]:
    """The diary, when all hosts on the way were visited or given up: `run` goes on beside the messages."""
    while (answer := traveller.call("diary"))["route"]:
        pass
    diary: list[str] = answer["diary"]
    return diary


def test_the_counter_takes_its_sum_along() -> None:
    with Inline() as inline:
        counter = inline.create(Counter, 5)
        assert counter.call("add", 2) == 7
        counter.hop("elsewhere")
        assert counter.call("read") == 7
        with pytest.raises(PeerFault, match="'add' and 'read', not 'bogus'"):
            counter.call("bogus", 1)
        assert counter.call("read") == 7


def test_the_traveller_goes_its_way_by_itself_and_around_closed_doors() -> None:
    with Inline(host="north", refuse={"south": "closed"}) as inline:
        traveller = inline.create(Traveller, ["east", "south", "west"])
        assert diary_at_the_end(traveller) == [
            "set out from north", "reached east", "did not reach south: closed", "reached west",
        ]
        traveller.call("go", ["north"])
        assert diary_at_the_end(traveller)[4:] == ["reached north"]
        with pytest.raises(PeerFault, match="a list of host names"):
            traveller.call("go", "north")
        assert traveller.host == "north"


def test_a_traveller_that_is_sent_elsewhere_still_goes_its_own_way() -> None:
    with Inline(host="north", refuse={"east": "full"}) as inline:
        traveller = inline.create(Traveller)
        traveller.hop("south")
        traveller.call("go", ["east", "west"])
        assert diary_at_the_end(traveller)[1:] == ["reached south", "did not reach east: full", "reached west"]


def test_a_user_keeps_the_session_across_hosts() -> None:
    with Inline(host="north") as inline:
        user = inline.create(FaceUser, "u1")
        with pytest.raises(PeerFault, match="no session is open"):
            user.call("saw", {"label": "ada", "frame": 1})
        user.call("session", {"user": "u1", "label": "ada"})
        user.call("saw", {"label": "ada", "frame": 1})
        user.hop("east")
        assert user.call("saw", {"label": "bo", "frame": 2}) == {
            "user": "u1",
            "label": "ada",
            "expected": 1,
            "others": 1,
            "last": {"label": "bo", "frame": 2},
            "hosts": ["north", "east"],
        }


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("dance", None),
        ("session", {"user": "u1"}),
        ("session", {"user": 1, "label": "ada"}),
        ("session", {"user": "u2", "label": "ada"}),
        ("session", {"user": "u1", "label": "ada", "more": 1}),
        ("saw", None),
        ("saw", {"label": "ada", "frame": "1"}),
    ],
)
def test_what_a_user_agent_does_not_understand_it_refuses(kind: str, body: Any) -> None:
    with Inline() as inline:
        user = inline.create(FaceUser, {"user": "u1", "label": "ada"})
        with pytest.raises(PeerFault, match=r"send|takes"):
            user.call(kind, body)
        assert user.call("session")["expected"] == 0
    with Inline() as inline, pytest.raises(Misuse, match="could not be created"):
        inline.create(FaceUser, {"label": "ada"})
