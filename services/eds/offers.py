"""What a policy gives the planner: where each agent could run, and what each place is worth. Pure."""

from typing import Protocol

import msgspec

from services.eds.snapshot import Snapshot
from services.eds.weights import Terms


class Candidate(msgspec.Struct, frozen=True):
    """One place for one agent. Staying is a candidate too, with a path of one host."""

    agent: str
    host: str
    score: float  # what the planner maximises the sum of
    terms: Terms
    distance: float  # of equation 2, from the present host, summed along the path
    path: tuple[str, ...]  # hosts from the present one to this one, both included
    note: str = ""  # for people: what is particular about the numbers


class Rejection(msgspec.Struct, frozen=True):
    """A place that is out of the question, and why."""

    agent: str
    host: str
    reason: str


class Offers(msgspec.Struct, frozen=True):
    candidates: dict[str, tuple[Candidate, ...]]  # by agent; an empty tuple: there is no place for it
    rejected: tuple[Rejection, ...] = ()
    again_at: float | None = None  # seconds since 1970: a place refused only for now may be open from then on


class Policy(Protocol):
    """A way to score places. One file in services/eds/policies and one row in its table."""

    def offers(self, snapshot: Snapshot) -> Offers: ...
