"""What a policy gives the planner: where each agent could run, and what each place is worth. Pure."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from services.eds.snapshot import Host, Resident, Snapshot
from services.eds.terms import access_quality, network, terms_of
from services.eds.weights import Terms


# Thousands of these are made for one decision. They have no cycles, so the garbage collector need not look at them:
# among 1,000 hosts it took a fifth of the time.
class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One place for one agent. Staying is a candidate too, with a path of one host."""

    agent: str
    host: str
    score: float  # what the planner maximises the sum of
    terms: Terms
    distance: float  # of equation 2, from the present host, summed along the path; 0 where a policy asks for none
    path: tuple[str, ...]  # hosts from the present one to this one, both included
    note: str = ""  # for people: what is particular about the numbers


class Rejection(msgspec.Struct, frozen=True, gc=False):
    """A place that is out of the question, and why."""

    agent: str
    host: str
    reason: str


class Offers(msgspec.Struct, frozen=True):
    candidates: dict[str, tuple[Candidate, ...]]  # by agent; an empty tuple: there is no place for it
    rejected: tuple[Rejection, ...] = ()
    again_at: dict[str, float] = {}  # agent -> seconds since 1970: a place refused only for now may be open then


class Policy(Protocol):
    """A way to score places. One file in services/eds/policies and one row in its table."""

    def offers(self, snapshot: Snapshot) -> Offers: ...


def of_each_place(snapshot: Snapshot, score: Callable[[Resident, Host, Terms], float | str]) -> Offers:
    """The offers of a policy that looks at one place at a time: `score` is above zero, or says why not there.

    Staying on a host that is closed counts 0, whatever `score` says. Whom an agent follows is in the network term: the
    quality of the user's link to the host; 0 for an agent that follows nobody.
    """
    candidates: dict[str, tuple[Candidate, ...]] = {}
    rejected: list[Rejection] = []
    for resident in snapshot.residents:
        access = {each.host: each for each in snapshot.access_of(resident.agent)}
        open_places: list[Candidate] = []
        for host in snapshot.hosts:
            stays = host.host == resident.host
            terms = Terms(0.0, 0.0, 0.0, host.experience)
            if host.resources is not None:
                prefers = resident.needs.prefers
                link = network(access_quality(access.get(host.host)), host.resources.bandwidth, prefers)
                terms = terms_of(host, host.resources, link, prefers)
            judged = snapshot.unfit(resident, host) or score(resident, host, terms)
            if isinstance(judged, str):
                rejected.append(Rejection(resident.agent, host.host, judged))
                continue
            path, note = ((host.host,), "it stays") if stays else ((resident.host, host.host), "")
            worth = 0.0 if stays and host.closed else judged
            open_places.append(Candidate(resident.agent, host.host, worth, terms, 0.0, path, note))
        candidates[resident.agent] = tuple(sorted(open_places, key=lambda place: (-place.score, place.host)))
    return Offers(candidates, tuple(rejected))
