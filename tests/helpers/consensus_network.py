"""All that may happen to an honest replica, given what the honest have said: the network and the Byzantine member.

The network never forgets: what was said may come at any time, twice, late or never. The Byzantine member signs whatever
it can sign or compose: every vote in both views; as a primary every proposal; a VIEW-CHANGE with every certificate that
there are votes for, with forged ones and with none; as the primary of view 1 a NEW-VIEW from every quorum of
VIEW-CHANGEs with every choice; and blocks with every certificate, true or forged.
"""

from collections.abc import Iterator, Mapping
from itertools import combinations, product

from ledger.certificate import COMMIT, PREPARE
from tests.helpers.consensus_model import HOSTS, NONE, WALLS, Change, Enter, Model, Said, Say, Stimulus

UNSEEN = "b0"  # a block that nobody can have prepared in view 0: what is forged is about it

Everything = Mapping[str, frozenset[Said]]  # by honest host, what it has said


def stimuli(model: Model, host: str, said: Everything) -> Iterator[Stimulus]:
    """`said` has the host too. What a message is about is in words here; see `spelled`."""
    yield from _own(model, host, said)
    for sender in HOSTS[:2]:
        if sender != host:
            yield from (("hear", (sender, each)) for each in _proposals(model, sender, said))
    yield from _votes(model, host, said)
    yield from _changes(model, host, said)
    if host != HOSTS[1]:
        yield from (("hear", (HOSTS[1], each)) for each in _entrances(model, said))
    yield from _decisions(model, said)


def spelled(model: Model, stimulus: Stimulus) -> Stimulus:
    """With the messages themselves."""
    match stimulus:
        case ("hear", *heard):
            return ("hear", *((sender, model.message(sender, each)) for sender, each in heard))
        case ("decision", *about):
            return ("hear", (model.byzantine, model.decision(*about)))
    return stimulus


def _own(model: Model, host: str, said: Everything) -> Iterator[Stimulus]:
    yield ("start",)  # what is undecided goes out again, as it does from time to time too
    if not any(isinstance(each, Change) for each in said[host]):
        yield ("suspect",)  # of view 0; that of view 1 is out of scope
    if host in HOSTS[:2]:
        view = HOSTS.index(host)
        for wall, _ in enumerate(WALLS):
            if f"{host}{wall}" in model.blocks and (wall == 0 or Say("propose", view, f"{host}0") in said[host]):
                yield ("build", wall)


def _proposals(model: Model, leader: str, said: Everything) -> Iterator[Said]:
    """A Byzantine primary's second block comes after an honest vote for its first: they differ by name only."""
    view = HOSTS.index(leader)
    for block in model.blocks:
        if leader != model.byzantine:
            if Say("propose", view, block) in said[leader]:
                yield Say("propose", view, block)
        elif block != f"{leader}1" or _voters(said, Say(PREPARE, view, f"{leader}0")):
            yield Say("propose", view, block)


def _votes(model: Model, host: str, said: Everything) -> Iterator[Stimulus]:
    """Of one sender, as often as would make a quorum; or of several."""
    for kind, view, block in product((PREPARE, COMMIT), (0, 1), model.blocks):
        vote = Say(kind, view, block)
        voters = [each for each in (*_voters(said, vote), model.byzantine) if each != host]
        yield from (("hear", *[(each, vote)] * model.quorum) for each in voters)
        for size in range(2, len(voters) + 1):
            yield from (("hear", *((each, vote) for each in some)) for some in combinations(voters, size))


def _changes(model: Model, host: str, said: Everything) -> Iterator[Stimulus]:
    """With its own a quorum has q; f + 1 move a replica."""
    each = [(sender, change) for sender in HOSTS if sender != host for change in _changes_of(model, sender, said)]
    yield from (("hear", one) for one in each)
    for size in range(2, model.quorum):
        yield from (("hear", *some) for some in combinations(each, size) if len({s for s, _ in some}) == size)


def _changes_of(model: Model, sender: str, said: Everything) -> list[Change]:
    if sender != model.byzantine:
        return sorted(each for each in said[sender] if isinstance(each, Change))
    blocks = model.blocks
    true = [Change(NONE, block) for block in blocks if _certified(model, said, Say(PREPARE, 0, block))]
    true += [Change(block, NONE) for block in blocks if _committed(model, said, block)]
    forged = [Change(NONE, UNSEEN, forged=True), Change(UNSEEN, NONE, forged=True)]
    return [Change(NONE, NONE), *true, *forged]


def _entrances(model: Model, said: Everything) -> Iterator[Enter]:
    if model.byzantine != HOSTS[1]:
        yield from sorted(each for each in said[HOSTS[1]] if isinstance(each, Enter))
        return
    of = {sender: _changes_of(model, sender, said) for sender in HOSTS}
    for senders in combinations(HOSTS, model.quorum):
        for changes in product(*(of[sender] for sender in senders)):
            choices = {NONE, UNSEEN, *(change.prepared for change in changes)}
            for height, forced in product((0, 1), sorted(choices)):
                yield Enter(height, NONE, forced, tuple(zip(senders, changes, strict=True)))


def _decisions(model: Model, said: Everything) -> Iterator[Stimulus]:
    for block, view in product(model.blocks, (0, 1)):
        signers = sorted([*_voters(said, Say(COMMIT, view, block)), model.byzantine])
        for some in combinations(signers, model.quorum):
            yield ("decision", block, view, some, False)
    for block in model.blocks:
        yield ("decision", block, 0, HOSTS[: model.quorum], True)


def _voters(said: Everything, vote: Say) -> list[str]:
    return [host for host, sayings in said.items() if vote in sayings]


def _certified(model: Model, said: Everything, vote: Say) -> bool:
    return len(_voters(said, vote)) + 1 >= model.quorum


def _committed(model: Model, said: Everything, block: str) -> bool:
    return any(_certified(model, said, Say(COMMIT, view, block)) for view in (0, 1))
