"""To the host of the greatest merit (equation 1), whatever the move costs and however little is gained. Pure."""

import msgspec

from services.eds.offers import Offers, of_each_place
from services.eds.snapshot import Snapshot
from services.eds.weights import Weights, merit


class AlwaysBest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    weights: Weights = Weights()

    def offers(self, snapshot: Snapshot) -> Offers:
        return of_each_place(snapshot, lambda _resident, _host, terms: merit(terms, self.weights))
