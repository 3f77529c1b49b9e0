"""Nobody moves: what a consortium without the EDS does. Pure."""

import msgspec

from services.eds.offers import Offers, of_each_place
from services.eds.snapshot import Snapshot


class NeverMove(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    def offers(self, snapshot: Snapshot) -> Offers:
        return of_each_place(
            snapshot, lambda resident, host, _terms: 1.0 if host.host == resident.host else "nobody moves"
        )
