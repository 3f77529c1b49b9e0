"""All that one Byzantine member of four and a network can do to the engine at one height, in two views.

`a` leads view 0, `b` leads view 1. A state is what the three honest replicas have on disk and have said.
"""

import pytest

from tests.helpers import consensus_explorer
from tests.helpers.consensus_explorer import Explorer
from tests.helpers.consensus_walks import Walk
from tests.helpers.ipbft_mutants import mutant

# Who is Byzantine, and what is found. quorum-2f+1 needs five members, any-certificate-chosen three views.
CAUGHT_SOON = {
    "signer-counted-twice": ("a", "two blocks are decided"),
    "forgotten-votes": ("a", "signs twice"),
    "forgotten-view": ("a", "votes in a view that it has left"),
    "decided-on-a-word": ("a", "two blocks are decided"),
    "sync-without-certificates": ("a", "two blocks are decided"),
    "view-goes-back": ("d", "votes in a view that it has left"),
}
CAUGHT = {
    "forgotten-certificate": ("a", "two blocks have a commit certificate"),
    "cleared-by-clock": ("a", "two blocks have a commit certificate"),
    "certificates-not-carried": ("a", "two blocks have a commit certificate"),
    "no-sync": ("a", "two blocks have a commit certificate"),
    "certificates-not-verified": ("a", "two blocks have a commit certificate"),
    "choice-not-recomputed": ("b", "two blocks have a commit certificate"),
}


def explore(byzantine: str, states: int = 10**9) -> Explorer:
    explorer = Explorer(byzantine)
    result = explorer.run(states=states)
    print(f"{result.states} states, {result.depth} steps deep, {'complete' if result.complete else 'cut off'}")
    assert result.violation is None, "\n".join([result.violation.rule, *result.violation.trace])
    assert explorer.complaints == []  # honest hosts do not blame each other
    assert result.complete or result.states > states
    return explorer


def catch(name: str, byzantine: str, rule: str) -> None:
    with mutant(name) as broken:
        result = Explorer(byzantine, broken).run()
    assert result.violation is not None, f"{result.states} states, and nothing was found"
    print("\n".join([f"{name}: {result.violation.rule}, after {result.states} states:", *result.violation.trace]))
    assert result.violation.rule.endswith(rule)


@pytest.mark.parametrize("byzantine", "abd")
def test_the_nearest_states(byzantine: str) -> None:
    explore(byzantine, states=1_000)


@pytest.mark.parametrize("name", CAUGHT_SOON)
def test_the_search_soon_catches(name: str) -> None:
    catch(name, *CAUGHT_SOON[name])


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("byzantine", "at_least", "walks"), [("a", 40_000, 300), ("d", 100_000, 300)])
def test_all_states_and_engines_that_keep_running_come_to_no_other(byzantine: str, at_least: int, walks: int) -> None:
    explorer = explore(byzantine)
    assert len(explorer.came) > at_least
    decided = 0
    for seed in range(walks):
        walk = Walk(explorer, seed)
        assert walk.run(150) is None, f"seed {seed}"
        decided += walk.decided
    assert decided > walks


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CAUGHT)
def test_the_search_catches(name: str) -> None:
    catch(name, *CAUGHT[name])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["cleared-by-message-time", "view-goes-back-catching-up"])
def test_walks_catch_what_is_wrong_in_memory_alone(name: str) -> None:
    """An engine that is made anew for each step does not have it: the search finds nothing."""
    with mutant(name) as broken:
        explorer = Explorer("a", broken)
        assert explorer.run().violation is None
        assert any(Walk(explorer, seed).run(150) for seed in range(300))


def test_walks_find_out_a_search_that_leaves_something_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = consensus_explorer.stimuli
    monkeypatch.setattr(
        consensus_explorer, "stimuli", lambda *of: (each for each in whole(*of) if each != ("suspect",))
    )
    explorer = explore("a")
    assert any(Walk(explorer, seed).run(300) for seed in range(20))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hosts_that_change_places_come_to_the_same() -> None:
    """What the search takes for one: the states of c and d, when neither leads, with their names exchanged."""
    apart = Explorer("a", merge=False)
    assert apart.run().complete
    merged = explore("a")
    seen = {apart.keys_of(state) for state in apart.came}
    assert {(first, third, second) for first, second, third in seen} == seen
    assert {merged.number_of(parts) for parts in seen} == set(merged.came)
