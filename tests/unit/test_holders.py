"""What must be on the holders of a checkpoint before anything leaves, and what a holder takes."""

from collections.abc import Callable
from random import Random

import pytest

from agentplatform.custody.copies.holders import NOTHING, Answer, Candidate, Copies, Copy, Shelf, choose

ANN, BOB = "ann-0000000000000000", "bob-0000000000000000"


def named(*holders: str, wanted: int = 1) -> Copies:
    copies = Copies(wanted)
    copies.decided(holders)
    return copies


def test_nothing_leaves_before_a_holder_is_named() -> None:
    copies = Copies(1)
    at = copies.changed()
    copies.has("east", at)
    assert copies.safe == NOTHING and not copies.complete
    copies.decided(("east",))
    assert copies.safe == at


def test_an_agent_that_wants_no_copies_waits_for_nobody() -> None:
    copies = Copies(0)
    position = copies.changed()
    assert copies.safe == position and copies.complete


def test_a_release_needs_all_holders() -> None:
    copies = named("east", "west", wanted=2)
    first, second = copies.changed(), copies.changed()
    copies.has("east", second)
    assert copies.safe == NOTHING and copies.waits_for == ("west",)
    copies.has("west", first)
    assert copies.safe == first
    copies.has("west", second)
    assert copies.safe == second and copies.waits_for == ()


def test_while_holders_change_the_old_and_the_new_ones_are_needed() -> None:
    copies = named("east")
    at = copies.changed()
    copies.has("east", at)
    copies.has("west", at)
    copies.propose(("west",))
    at = copies.changed()
    copies.has("west", at)
    assert copies.safe == at - 1  # the ledger may name the old one, for ever
    copies.has("east", at)
    assert copies.safe == at
    copies.decided(("west",))
    at = copies.changed()
    copies.has("west", at)
    assert copies.safe == at


def test_after_another_state_all_need_a_full_copy() -> None:
    copies = named("east")
    before = copies.changed()
    copies.has("east", before)
    whole = copies.renewed()
    copies.has("east", before)  # late
    assert copies.safe == NOTHING and not copies.complete
    copies.has("east", whole)
    assert copies.complete


def test_a_holder_that_lost_its_disk_holds_releases_up_again() -> None:
    copies = named("east")
    at = copies.changed()
    copies.has("east", at)
    copies.has("east", NOTHING)
    assert copies.safe == NOTHING


def test_what_a_holder_cannot_have_does_not_count() -> None:
    copies = named("east")
    at = copies.changed()
    copies.has("east", at + 1)
    assert copies.safe == NOTHING


def test_a_holder_takes_the_next_change_only() -> None:
    shelf = Shelf({}, {})
    assert shelf.take(ANN, Copy("north", 3, 1, 5), whole=False) is Answer.HAVE
    assert shelf.position(ANN, 3, 1) == NOTHING
    assert shelf.take(ANN, Copy("north", 3, 1, 4), whole=True) is Answer.TAKE
    assert shelf.take(ANN, Copy("north", 3, 1, 6), whole=False) is Answer.HAVE
    assert shelf.take(ANN, Copy("north", 3, 1, 5), whole=False) is Answer.TAKE
    assert shelf.take(ANN, Copy("north", 3, 1, 5), whole=False) is Answer.HAVE
    assert shelf.position(ANN, 3, 1) == 5


def test_a_holder_takes_nothing_of_an_earlier_start_or_epoch() -> None:
    shelf = Shelf({ANN: Copy("north", 3, 2, 7)}, {BOB: 4})
    assert shelf.take(ANN, Copy("north", 3, 1, 8), whole=True) is Answer.REFUSE
    assert shelf.take(ANN, Copy("north", 2, 9, 8), whole=True) is Answer.REFUSE
    assert shelf.take(ANN, Copy("east", 4, 1, 1), whole=True) is Answer.TAKE
    assert shelf.take(BOB, Copy("north", 3, 1, 1), whole=True) is Answer.REFUSE  # it lived here in epoch 4 [H5]


def test_a_spoilt_copy_is_continued_by_a_full_one_alone() -> None:
    shelf = Shelf({ANN: Copy("north", 3, 2, 7)}, {})
    shelf.spoil(ANN)
    assert shelf.take(ANN, Copy("north", 3, 2, 8), whole=False) is Answer.HAVE
    assert shelf.position(ANN, 3, 2) == NOTHING
    assert shelf.take(ANN, Copy("north", 3, 1, 9), whole=True) is Answer.REFUSE
    assert shelf.take(ANN, Copy("north", 3, 2, 8), whole=True) is Answer.TAKE


# Who holds

HOSTS = [
    Candidate("north-2", "north"),
    Candidate("east-1", "east"),
    Candidate("east-2", "east"),
    Candidate("west", "w"),
]


def test_other_organisations_come_first_and_different_ones() -> None:
    chosen = choose(ANN, 2, (), HOSTS, "north", elsewhere=False)
    organisations = {each.organisation for each in HOSTS if each.host in chosen}
    assert len(chosen) == 2 and organisations == {"east", "w"}


def test_at_home_only_if_nobody_demands_otherwise() -> None:
    home = HOSTS[:1]
    assert choose(ANN, 1, (), home, "north", elsewhere=False) == ("north-2",)
    assert choose(ANN, 1, (), home, "north", elsewhere=True) == ()


def test_holders_stay_and_agents_are_spread() -> None:
    assert choose(ANN, 1, ("north-2",), HOSTS, "north", elsewhere=False) == ("north-2",)
    agents = [f"ann-{number:016x}" for number in range(60)]
    counts = [choose(agent, 1, (), HOSTS[1:], "north", elsewhere=False) for agent in agents]
    assert all(counts.count((each.host,)) > 5 for each in HOSTS[1:])


# The world that these rules are for


class ReleasesEarly(Copies):
    @property
    def safe(self) -> int:
        return self.position


class ForgetsTheOld(Copies):
    @property
    def required(self) -> tuple[str, ...]:
        return self.proposed or self.named


class ForgetsTheNew(Copies):
    @property
    def required(self) -> tuple[str, ...]:
        return self.named


class NamesWhoLagsBehind(Copies):
    def ready(self, holders: tuple[str, ...]) -> bool:
        return self.proposed is None and all(self.at(host) != NOTHING for host in holders)


class TakesLower(Shelf):
    def serve(self, agent: str, epoch: int) -> None:
        pass

    def take(self, agent: str, change: Copy, whole: bool) -> Answer:
        there = self.copies.get(agent)
        if there is not None and change.epoch < there.epoch:
            del self.copies[agent]
        return super().take(agent, change, whole)


class Lost(AssertionError):
    pass


class World:
    """An agent on a host that may be cut off and goes on for a while; a ledger that it hears late; messages that come
    late or twice. What left must be in the copy that the agent goes on from, and nothing more may leave after that."""

    def __init__(self, random: Random, copies: Copies, shelf: type[Shelf]) -> None:
        self.random, self.copies = random, copies
        self.shelves = {host: shelf({}, {}) for host in ("a", "b", "c")}
        self.sent: list[tuple[str, Copy]] = []
        self.acks: list[tuple[str, int]] = []
        self.submitted: tuple[str, ...] | None = None
        self.named: list[tuple[str, ...]] = [()]  # by the ledger, one after the other
        self.heard = 0  # so many of them the host knows
        self.released = 0
        self.taken: int | None = None  # the position from which it goes on elsewhere
        copies.renewed()

    def change(self) -> None:
        self.copies.changed()

    def send(self) -> None:
        self.sent.append((self.random.choice("abc"), Copy("home", 0, 1, self.copies.position)))

    def deliver(self) -> None:
        for host, copy in self.random.sample(self.sent, min(2, len(self.sent))):
            if self.shelves[host].take(ANN, copy, whole=True) is not Answer.REFUSE:
                self.acks.append((host, self.shelves[host].position(ANN, 0, 1)))

    def acknowledge(self) -> None:
        for host, position in self.random.sample(self.acks, min(2, len(self.acks))):
            self.copies.has(host, position)

    def propose(self) -> None:
        holders = (self.random.choice("abc"),)
        if self.copies.ready(holders):
            self.copies.propose(holders)
            self.submitted = holders

    def decide(self) -> None:
        if self.submitted is not None and self.taken is None:
            self.named.append(self.submitted)
            self.submitted = None

    def hear(self) -> None:
        if self.heard < len(self.named) - 1:
            self.heard += 1
            self.copies.decided(self.named[self.heard])

    def release(self) -> None:
        self.released = max(self.released, self.copies.safe)

    def rehome(self) -> None:
        if self.taken is None and self.named[-1] and self.random.random() < 0.3:
            shelf = self.shelves[self.named[-1][0]]
            shelf.serve(ANN, 1)
            self.taken = shelf.position(ANN, 0, 1)

    def run(self) -> None:
        acts = (self.change, self.send, self.deliver, self.acknowledge, self.propose, self.decide, self.hear)
        for _ in range(80):
            self.random.choice((*acts, self.release, self.rehome))()
            if self.taken is not None and self.released > self.taken:
                raise Lost(f"{self.released} left, and the agent goes on from {self.taken}")


def lives(copies_kind: Callable[[int], Copies], shelf_kind: type[Shelf], seeds: range) -> None:
    for seed in seeds:
        try:
            World(Random(seed), copies_kind(1), shelf_kind).run()  # noqa: S311  a simulation must be repeatable
        except Lost as lost:
            raise Lost(f"seed {seed}: {lost}") from None


def test_what_left_is_in_the_copy_that_the_agent_goes_on_from() -> None:
    lives(Copies, Shelf, range(3000))


@pytest.mark.parametrize(
    ("copies_kind", "shelf_kind"),
    [
        (ReleasesEarly, Shelf),
        (ForgetsTheOld, Shelf),
        (ForgetsTheNew, Shelf),
        (NamesWhoLagsBehind, Shelf),
        (Copies, TakesLower),
    ],
    ids=[
        "releases before the holders have it",
        "forgets the old ones",
        "forgets the new ones",
        "names who lags behind",
        "takes a lower epoch",
    ],
)
def test_mutants_are_caught(copies_kind: type[Copies], shelf_kind: type[Shelf]) -> None:
    with pytest.raises(Lost):
        lives(copies_kind, shelf_kind, range(3000))
