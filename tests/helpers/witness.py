"""Collects what replicas say to each other, restarts or not, and finds what one may not say beside another."""

from ledger import codec
from ledger.certificate import PREPARE
from ledger.consensus import messages
from ledger.consensus.ipbft.view_change import ViewChange
from ledger.consensus.messages import ChangeView, EnterView, NewView, Vote


class Witness:
    """Collects `faults`, each a sentence, from all that leaves the hosts."""

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._said: dict[tuple[object, ...], bytes] = {}
        self._views: dict[str, int] = {}

    def sent(self, host: str, message: bytes) -> None:
        match messages.decode(message, host):
            case Vote(ballot=ballot):
                place = (host, ballot.kind, ballot.height, ballot.view)
                if place not in self._said and ballot.kind == PREPARE and ballot.view < self._views.get(host, 0):
                    self.faults.append(f"{host} votes in view {ballot.view}, which it has left")
                self._once(place, ballot.digest)
            case ChangeView(signed=signed):
                change = codec.decode(signed.body, ViewChange)
                if change.host == host:
                    self._views[host] = max(change.view, self._views.get(host, 0))
                    self._once((host, "view-change", change.height, change.view), signed.body)
            case EnterView(signed=signed):
                new_view = codec.decode(signed.body, NewView)
                self._once((new_view.host, "new-view", new_view.height, new_view.view), signed.body)

    def _once(self, place: tuple[object, ...], what: bytes) -> None:
        if self._said.setdefault(place, what) != what:
            self.faults.append(f"{place[0]} signs twice: {place[1]} at height {place[2]}, view {place[3]}")
