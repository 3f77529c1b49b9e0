"""To the host that answers the user best, whatever its load and whatever the move costs. Pure."""

import msgspec

from services.eds.offers import Offers, of_each_place
from services.eds.snapshot import Host, Resident, Snapshot
from services.eds.weights import Terms


class Nearest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Agents that follow nobody, or whose user was not heard, stay."""

    def offers(self, snapshot: Snapshot) -> Offers:
        def score(resident: Resident, host: Host, terms: Terms) -> float | str:
            if terms.network > 0.0 or host.host == resident.host:
                return terms.network
            return "the user was not heard there"

        return of_each_place(snapshot, score)
