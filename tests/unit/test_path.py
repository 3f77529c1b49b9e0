"""The path of an agent: what proves each hop, and what does not fit."""

import itertools

import msgspec
import pytest

from agentplatform.path import MAX_HOPS, Claim, Hop, Standing, path

TRUSTED = {host: Standing("trusted", 0, True) for host in ("north", "east", "south", "west")}
WAY = ("north", "east", "south", "north", "west")


def ledger(epoch: int, source: str, destination: str, by: str = "") -> Claim:
    return Claim(epoch, source, destination, "ledger", by or source, 10 * epoch)


def signed(epoch: int, source: str, destination: str) -> Claim:
    return Claim(epoch, source, destination, "pass", source)


def word(epoch: int, source: str, destination: str, by: str = "") -> Claim:
    return Claim(epoch, source, destination, "word", by or source, None, 1000.0 + epoch)


def way(*hosts: str) -> list[Claim]:
    return [ledger(number + 1, *ends) for number, ends in enumerate(itertools.pairwise(hosts))]


def breaks(hops: list[Hop]) -> list[tuple[int, str]]:
    return [(hop.epoch, each) for hop in hops for each in hop.breaks]


def test_a_whole_path_is_proved_hop_by_hop() -> None:
    hops = path(way(*WAY), TRUSTED, ("west", 4))
    assert [(hop.source, hop.destination) for hop in hops] == list(itertools.pairwise(WAY))
    assert breaks(hops) == [] and all(hop.sure for hop in hops)
    assert hops[0].proved == ("ledger: recorded by north at height 10",) and hops[0].then == "trusted"


def test_the_strongest_proof_comes_first_and_each_is_said_once() -> None:
    told = [
        word(1, "north", "east"),
        signed(1, "north", "east"),
        ledger(1, "north", "east"),
        signed(1, "north", "east"),
    ]
    (hop,) = path(told, TRUSTED, ("east", 1))
    assert hop.proved == ("ledger: recorded by north at height 10", "pass: signed by north", "word of north")
    assert hop.at == 1001.0 and hop.sure
    (hop,) = path(told[:1], TRUSTED, ("east", 1))
    assert not hop.sure and hop.then == "" and hop.now == "trusted"


def test_a_source_that_said_two_things_is_shown() -> None:
    hops = path([ledger(1, "north", "east"), signed(1, "north", "west")], TRUSTED, ("east", 1))
    assert breaks(hops) == [(1, "contradiction: pass: signed by north says that it went from north to west")]


def test_hops_that_do_not_follow_each_other_are_a_break_or_a_gap() -> None:
    hops = path([ledger(1, "north", "east"), ledger(2, "south", "west")], TRUSTED, ("west", 2))
    assert breaks(hops) == [(2, "break: it had come to east at epoch 1, and left from south; one of the two is false")]
    hops = path([ledger(1, "north", "east"), ledger(4, "south", "west")], TRUSTED, ("west", 4))
    assert breaks(hops) == [
        (4, "gap: it had come to east at epoch 1, and left from south; nothing is known of the 2 epochs between")
    ]
    # An epoch that was no hop, such as a change of custody, leaves it where it is.
    assert breaks(path([ledger(1, "north", "east"), ledger(3, "east", "west")], TRUSTED, ("west", 3))) == []


@pytest.mark.parametrize(
    ("here", "expected"),
    [
        (("east", 1), []),
        (None, []),
        (("east", 3), []),
        (("west", 1), ["break: it is believed to be on west at epoch 1, and this hop led to east"]),
        (("west", 3), ["gap: it is believed to be on west at epoch 3, and this hop led to east"]),
        (("north", 0), []),  # whoever says so has not heard of the hop
    ],
)
def test_where_it_is_believed_to_be_has_to_fit(here: tuple[str, int] | None, expected: list[str]) -> None:
    (hop,) = path([ledger(1, "north", "east")], TRUSTED, here)
    assert list(hop.breaks) == expected


def test_what_is_not_known_of_the_beginning_is_said() -> None:
    (hop,) = path([ledger(5, "north", "east")], TRUSTED, ("east", 5))
    assert hop.breaks == ("the way to north is not known here: nothing is said of the epochs before",)


def test_the_standing_then_and_now() -> None:
    standings = TRUSTED | {"east": Standing("revoked", 25, False), "south": Standing("trusted", 15, True)}
    hops = path(way("north", "east", "south", "west"), standings, ("west", 3))
    assert [hop.then for hop in hops] == ["trusted", "trusted", "trusted"]
    assert [hop.now for hop in hops] == ["north trusted, east revoked", "east revoked, south trusted", "trusted"]
    assert breaks(hops) == []  # it was revoked later
    late = path([ledger(1, "north", "south")], standings, ("south", 1))
    assert late[0].then == "north trusted, south not known"  # what it was before height 15 is not kept
    after = path([ledger(3, "north", "east")], standings, ("east", 3))
    assert (3, "east was revoked since height 25, when this was recorded") in breaks(after)
    assert path([word(1, "mars", "east")], standings, None)[0].now == "mars not on the ledger, east revoked"


def test_a_liar_can_break_no_path_that_the_ledger_has() -> None:
    """A host that makes up words, of hops of others too, changes nothing of what is proved; its words are shown."""
    true = path(way(*WAY), TRUSTED, ("west", 4))
    lies = [word(2, "east", "west", by="west"), word(3, "west", "east", by="west")]
    told = path([*way(*WAY), *lies], TRUSTED, ("west", 4))
    assert [msgspec.structs.replace(hop, breaks=()) for hop in told] == true
    assert [epoch for epoch, _ in breaks(told)] == [2, 3]


def test_a_ranking_by_the_order_of_arrival_would_be_seen() -> None:
    """The twin of the test above: who takes the first word is misled by a lie that comes first."""
    told = [word(1, "north", "west", by="west"), ledger(1, "north", "east")]
    assert (told[0].destination, path(told, TRUSTED, None)[0].destination) == ("west", "east")


def test_long_lives_are_looked_at_from_their_newest_end() -> None:
    hosts = [("north", "east")[number % 2] for number in range(MAX_HOPS + 11)]
    hops = path(way(*hosts), TRUSTED, (hosts[-1], MAX_HOPS + 10))
    assert len(hops) == MAX_HOPS and hops[0].epoch == 11
    assert path([], TRUSTED, ("north", 0)) == []
