"""Where agents are believed to be: who is believed, and that a host which lies does not keep mail for ever."""

import pytest

from agentplatform import passes
from agentplatform.passes import Pass
from agentplatform.whereabouts import MAX_FROM_ONE_HOST, Located, Whereabouts
from ledger.errors import Misuse
from ledger.identity import Identity
from tests.helpers.mail_desk import AGENT, OTHER


def test_names_resolve_to_one_agent_or_say_why_not():
    known = Whereabouts()
    known.learn(Located(AGENT, 1, "north"))
    known.learn(Located("counter-0000000000000003", 1, "east"))
    known.learn(Located(OTHER, 1, "east"))
    assert known.resolve("other") == OTHER
    assert known.resolve("counter-0000000000000001") == AGENT
    with pytest.raises(Misuse, match="may be any of"):
        known.resolve("counter")
    with pytest.raises(Misuse, match="no agent 'nobody'"):
        known.resolve("nobody")
    with pytest.raises(Misuse, match="name an agent"):
        known.resolve("")


@pytest.mark.parametrize("agent", ["counter", "Counter-0000000000000001", "counter-1", "", "x" * 200])
def test_nobody_takes_a_name_for_an_id(agent: str):
    """Else a host could announce an agent called "counter", and get the mail of everybody's counter."""
    with pytest.raises(ValueError, match="no agent's id"):
        Located(agent, 1, "north")


def test_whereabouts_believe_the_later_epoch_and_an_end_over_a_place():
    known = Whereabouts()
    assert known.learn(Located(AGENT, 2, "north"))
    assert not known.learn(Located(AGENT, 1, "east"))
    assert known.learn(Located(AGENT, 2, "north", 1))
    assert not known.learn(Located(AGENT, 2, "north"))
    assert known.host_of(AGENT) == "" and known.alive() == []
