"""Hosts that are suspected (services.eds.suspects), and what operators state of theirs: into the picture and out."""

import math

import msgspec
import pytest

from agentplatform.settings import Decisions
from services.eds.events import HostSuspected
from services.eds.snapshot import assemble
from services.eds.suspects import LASTS_S, MAX_SUSPECTS, Suspects
from services.rms.adverts import MAX_FACTS, Advert
from services.tms.verdicts import Verdict
from tests.helpers.city import City, decided, near
from tests.helpers.edge_scenes import NOON, resources


def test_a_suspicion_lasts_its_time_and_is_renewed() -> None:
    suspects = Suspects()
    suspects.add(HostSuspected("b", "it lied"), NOON)
    assert suspects.why("b", NOON) == suspects.why("b", NOON + LASTS_S - 1) == "it is suspected: it lied"
    assert suspects.why("b", NOON + LASTS_S) == suspects.why("a", NOON) == ""
    suspects.add(HostSuspected("b", "again"), NOON + LASTS_S)
    assert suspects.why("b", NOON + LASTS_S + 1) == "it is suspected: again"
    assert suspects.why("b", NOON) == ""  # a clock that was set back


def test_suspects_are_bounded() -> None:
    suspects = Suspects()
    for number in range(MAX_SUSPECTS + 1):
        suspects.add(HostSuspected(f"h{number}", "x"), NOON)
    assert suspects.why("h0", NOON) == "" and suspects.why("h1", NOON) != ""


async def test_a_group_leaves_a_suspected_host_and_none_goes_there_until_the_suspicion_is_over() -> None:
    city = City()
    start = city.where["face"]
    async with city.eds() as eds:
        explained = await decided(eds, HostSuspected(start, "it sent what it may not"))
        assert city.where["face"] != start
        stay = next(place for place in explained.candidates if place.host == start)
        assert stay.score == 0.0 and "last choice: it is suspected: it sent what it may not" in stay.note
        explained = await decided(eds, near(start))
        assert city.where["face"] != start
        assert "it is suspected: it sent what it may not" in {each.reason for each in explained.rejected}
        city.minutes += LASTS_S / 60
        await decided(eds, near(start))
        assert city.where["face"] == start


def test_what_an_operator_states_comes_into_the_picture() -> None:
    advert = Advert(resources(), facts={"solar": 0.5})
    picture = assemble((), NOON, {"a": Verdict("a", True, "trusted", 1)}, {"a": advert}, {}, {})
    assert picture.hosts[0].facts == {"solar": 0.5}


@pytest.mark.parametrize(
    "facts",
    [
        {"solar": 1.1},
        {"solar": -0.1},
        {"solar": math.nan},
        {"": 0.5},
        {"x" * 41: 0.5},
        {f"fact{number}": 0.5 for number in range(MAX_FACTS + 1)},
    ],
)
def test_what_no_operator_can_state_is_refused_in_its_settings_and_from_others(facts: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="fact"):
        Advert(resources(), facts=facts)
    with pytest.raises(msgspec.ValidationError, match="fact"):
        msgspec.convert({"facts": facts}, Decisions)
