"""Falcon's score without what holds it back: whatever is best now, wherever the agents just came from. Pure."""

from services.eds.policies.falcon import Falcon


class Greedy(Falcon, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gain: float = 1.0
    minimum_stay: float = 0.0
