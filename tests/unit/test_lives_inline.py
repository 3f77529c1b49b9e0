"""An agent's whole life on the inline runner: each action with its hooks, and what refuses it."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from agentplatform import Message, Needs
from agentplatform.runners.inline import Inline
from agentplatform.runners.resident import Resident
from agentplatform.ticket import Ticket
from ledger.errors import Misuse, PeerFault, Unavailable
from tests.helpers.livers import Liver, Loose, Obliging


@pytest.fixture
def inline() -> Iterator[Inline]:
    with Inline(refuse={"mars": "no air there"}, offers={"lab": ("cv2",)}) as inline:
        yield inline


def test_a_clone_has_the_state_and_a_life_of_its_own(inline: Inline) -> None:
    one = inline.create(Liver)
    one.call("add", 5)
    one.call("remind", 60.0)
    other = one.clone()
    assert other.id != one.id and other.id.rpartition("-")[0] == one.id.rpartition("-")[0]
    assert (other.host, other.epoch) == ("here", 0)
    assert one.call("hooks") == ["creation", "cloning", f"cloned {other.id}"]
    assert other.call("hooks") == ["creation", "cloning", "clone"]
    one.call("add", 1)
    assert (one.call("look")[3], other.call("look")[3]) == (6, 5)
    inline.advance(61)  # timers are not copied
    assert (one.call("look")[3], other.call("look")[3]) == (106, 5)


def test_an_agent_clones_itself_when_its_handler_has_returned(inline: Inline) -> None:
    one = inline.create(Liver)
    one.call("clone")
    inline.settle()
    hook = one.call("hooks")[-1]
    assert hook.startswith("cloned liver-") and inline.guests.guest(hook.removeprefix("cloned ")).arrival.epoch == 0


@pytest.mark.parametrize("wish", ["clone and go", "clone and sleep"])
def test_who_clones_itself_and_leaves_at_once_hears_of_its_clone_before(inline: Inline, wish: str) -> None:
    one = inline.create(Liver)
    one.call(wish, "there")
    inline.settle()
    hooks = one.call("hooks")
    then = "dispatching there" if wish == "clone and go" else "deactivating"
    assert [hook.partition("-")[0] for hook in hooks[1:4]] == ["cloning", "cloned liver", then]


@pytest.mark.parametrize("wish", ["clone and go", "clone and sleep"])
def test_who_cannot_be_cloned_leaves_all_the_same(inline: Inline, wish: str) -> None:
    inline.guests._make_clone = lambda agent: inline.guests.guest(agent).resident.tell("on_cloned", "")  # type: ignore
    one = inline.create(Liver)
    one.call(wish, "there")
    inline.settle()
    assert (one.host, one.asleep) == (("there", False) if wish == "clone and go" else ("here", True))
    assert one.call("hooks")[1:3] == ["cloning", "dispatching there" if wish == "clone and go" else "deactivating"]


async def _told(resident: Resident) -> None:
    resident.tell("on_cloned", "")


def test_who_waits_for_its_clone_is_not_moved_meanwhile(inline: Inline) -> None:
    begun: list[str] = []
    inline.guests._make_clone = begun.append  # type: ignore[method-assign,assignment]
    one = inline.create(Liver)
    one.call("clone")
    resident = inline.guests.guest(one.id).resident
    assert begun == [one.id]
    resident._patience = 0.01
    with pytest.raises(Unavailable, match="has waited for its clone"):
        one.hop("there")
    resident._patience = 10.0
    inline.wait(_told(resident))
    one.hop("there")
    assert one.host == "there"


def test_a_clone_that_its_original_refuses_is_not_made(inline: Inline) -> None:
    one = inline.create(Liver)
    one.call("wayward", "cloning")
    with pytest.raises(Misuse, match="was not cloned: ValueError: not cloning"):
        one.clone()
    one.call("clone")
    assert one.call("add", 2) == 2 and len(inline.guests._guests) == 1


def test_a_deactivated_agent_wakes_when_it_is_told(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("add", 3)
    agent.deactivate()
    assert agent.asleep
    inline.advance(1e6)
    assert agent.asleep
    agent.activate()
    assert not agent.asleep and agent.call("hooks") == ["creation", "deactivating", "activation"]
    assert agent.call("look")[3] == 3


def test_a_deactivated_agent_wakes_in_time_and_by_mail(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("sleep", 30)
    assert agent.asleep
    inline.advance(29)
    assert agent.asleep
    inline.advance(2)
    assert not agent.asleep
    agent.call("sleep", None)
    assert agent.call("add", 4) == 4 and not agent.asleep


def test_a_deactivated_agent_wakes_for_its_own_timer(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("remind", 10.0)
    agent.deactivate(for_=3600)
    inline.advance(10)
    assert not agent.asleep


def test_a_deactivation_that_the_agent_refuses_leaves_it_running(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("wayward", "deactivating")
    with pytest.raises(Misuse, match="could not be deactivated: ValueError: not deactivating"):
        agent.deactivate()
    assert not agent.asleep and agent.call("add", 1) == 1


def test_a_retraction_calls_its_own_hook(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.hop("there")
    agent.retract()
    assert agent.host == "here"
    assert agent.call("hooks") == ["creation", "dispatching there", "arrival here", "reverting here", "arrival there"]
    assert [by for _, by, _ in agent.call("moves")] == ["owner", "retraction"]


def test_a_retraction_without_a_hook_of_its_own_is_a_dispatch(inline: Inline) -> None:
    agent = inline.create(Obliging)
    agent.hop("there")
    agent.retract()
    assert agent.call("left") == "here"


@pytest.mark.parametrize(
    ("wayward", "words"), [("veto", "I like it here"), ("may_move", "its may_move failed: KeyError")]
)
def test_an_agent_may_refuse_what_others_want_and_not_its_end(inline: Inline, wayward: str, words: str) -> None:
    agent = inline.create(Liver)
    agent.call("wayward", wayward)
    with pytest.raises(Misuse, match=f"does not go to there: {words}"):
        agent.hop("there", "decision")
    assert agent.call("hooks") == ["creation"]  # nobody tells it that its own word counted
    agent.call("go", "there")  # its own wish is not asked about
    assert agent.host == "there"
    agent.dispose()
    with pytest.raises(Misuse, match="has ended"):
        agent.call("look")


def test_moves_wait_for_the_end_of_a_critical_section(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("hold", True)
    agent.hop("there")  # there `run` begins anew, and holds
    with ThreadPoolExecutor(1) as others:
        hop = others.submit(agent.hop, "elsewhere")
        while not inline.guests.guest(agent.id).resident._orders:
            time.sleep(0.001)
        agent.send("hold", False)
        hop.result()
    assert agent.call("hooks")[3:] == ["let go", "dispatching elsewhere", "arrival there"]


def test_who_waits_too_long_for_a_critical_section_hears_why(inline: Inline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.runners.guests.PATIENCE", 0.05)
    agent = inline.create(Liver)
    agent.call("hold", True)
    agent.hop("there")
    for act in (lambda: agent.hop("elsewhere"), agent.deactivate):
        with pytest.raises(Unavailable, match=r"is in a critical section \(`immovable`\)"):
            act()
    assert agent.clone().host == "there"  # what does not stop it does not wait
    agent.dispose()  # nor does its owner's last word


def test_a_wish_to_go_waits_for_a_critical_section_of_its_own(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("hold", True)
    agent.hop("there")
    agent.send("go", "elsewhere")
    assert agent.host == "there"
    agent.send("hold", False)
    while agent.host != "elsewhere":
        time.sleep(0.001)
    assert agent.call("hooks")[3] == "let go"


def test_a_ticket_is_kept_or_told_why_not(inline: Inline) -> None:
    agent = inline.create(Liver)
    agent.call("travel", ["lab", None, 0, ["cv2"]])
    inline.settle()
    assert agent.host == "lab"
    agent.call("travel", ["here", None, 0, ["cv2", "gpu"]])
    inline.settle()
    assert agent.call("hooks")[-1] == "failed: here does not have cv2, gpu"
    agent.call("travel", ["mars", 5.0, 2, []])
    inline.settle()
    hooks = agent.call("hooks")
    assert hooks.count("dispatching mars") == 3 and [h for h in hooks if "no air" in h] == [hooks[-1]]


def test_a_snapshot_is_the_state_of_an_agent_without_checkpoints(inline: Inline) -> None:
    agent = inline.create(Loose)
    before = agent.snapshot()
    agent.call("add", 1)
    assert agent.snapshot() != before
    agent.call("snapshot")


@pytest.mark.parametrize(
    ("kind", "body", "words"),
    [
        ("go", 5, "neither"),
        ("go", "", "1 to 256"),
        ("go", "a" * 300, "1 to 256"),
        ("go", "a\nb", "printable"),
        ("travel", ["there", -1.0, 0, []], "deadline"),
        ("travel", ["there", None, 101, []], "0 to 100 retries"),
        ("travel", ["there", None, 0, ["a b"]], "is no need"),
        ("travel", ["there", "soon", 0, []], "deadline"),
        ("sleep", 0, "number of seconds"),
        ("sleep", "long", "number of seconds"),
    ],
)
def test_wishes_that_nobody_can_fulfil_are_refused_at_once(inline: Inline, kind: str, body: object, words: str) -> None:
    agent = inline.create(Liver)
    with pytest.raises(PeerFault, match=words):
        agent.call(kind, body)
    assert (agent.host, agent.asleep) == ("here", False)


class Choosy(Liver):
    needs = Needs(has=("gpu",))

    def handle_message(self, message: Message) -> Any:
        if message.kind != "require and go":
            return super().handle_message(message)
        self.require(Needs(has=(message.body[0],)))
        return self.dispatch(message.body[1])


def test_an_agent_goes_only_where_there_is_what_it_needs(inline: Inline) -> None:
    agent = inline.create(Choosy)
    with pytest.raises(Unavailable, match="it has not what is needed: no gpu"):
        agent.hop("lab")
    agent.call("require and go", ["cv3", "lab"])
    assert (agent.host, agent.call("hooks")[-1]) == ("here", "failed: it has not what is needed: no cv3")
    agent.call("require and go", ["cv2", "lab"])
    assert agent.host == "lab"
    agent.call("require", ["gpu"])
    agent.hop("a host of which nothing is known")
    with pytest.raises(Unavailable, match="no gpu"):
        agent.clone().hop("lab")  # as its class says


def test_a_ticket_says_whether_it_has_terms() -> None:
    assert not Ticket.to("there").terms and Ticket.to(Ticket("there", 5)) == Ticket("there", 5.0)
    assert Ticket("there", retries=1).terms and Ticket("there", needs=("x",)).terms and Ticket("there", 1.0).terms
