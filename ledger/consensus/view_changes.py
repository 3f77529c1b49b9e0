"""The VIEW-CHANGEs that a replica holds, and what is the same in how every engine opens and counts them. Pure."""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

import msgspec

from ledger import codec
from ledger.certificate import Members, Verifier
from ledger.consensus.messages import NEW_VIEW_DOMAIN, ChangeView, NewView
from ledger.errors import PeerFault
from ledger.identity import Signed


class ViewChange(Protocol):
    """What the VIEW-CHANGE of every engine says; what its host can show for it is the engine's matter."""

    @property
    def chain(self) -> bytes: ...

    @property
    def members_version(self) -> int:
        """Of the members that decide the height after `height`."""

    @property
    def view(self) -> int:
        """The one that is asked for."""

    @property
    def host(self) -> str: ...

    @property
    def height(self) -> int:
        """Up to which all is decided, as its host can show."""


C = TypeVar("C", bound=ViewChange)


class Received(msgspec.Struct, Generic[C], frozen=True):
    """A VIEW-CHANGE as it is kept: what it says, and the message that proves it."""

    change: C
    message: ChangeView

    @property
    def height(self) -> int:
        return self.change.height


class Changes(Generic[C]):
    """Of each host its VIEW-CHANGE for the highest view: an honest one that moved on does not come back."""

    def __init__(self) -> None:
        self._latest: dict[str, Received[C]] = {}

    def of(self, host: str) -> Received[C] | None:
        return self._latest.get(host)

    def put(self, received: Received[C]) -> None:
        self._latest[received.change.host] = received

    def remove(self, host: str) -> None:
        del self._latest[host]

    def all(self) -> list[Received[C]]:
        return [received for _, received in sorted(self._latest.items())]

    def for_view(self, view: int) -> list[Received[C]]:
        return [received for received in self.all() if received.change.view == view]

    def count_from(self, view: int) -> int:
        """Hosts that ask for `view` or a higher one."""
        return sum(received.change.view >= view for received in self._latest.values())

    def view_to_join(self, above: int, f: int) -> int | None:
        """The highest view that f+1 hosts ask for or are beyond, when it is above `above`: one of them is honest."""
        views = sorted((received.change.view for received in self._latest.values()), reverse=True)
        return views[f] if len(views) > f and views[f] > above else None


def open_signed(signed: Signed, domain: str, kind: type[C], members: Members, verify: Verifier, sender: str) -> C:
    """Verifies, then parses a VIEW-CHANGE of one of `members`. What it says is not looked at."""
    return _open(signed, domain, kind, "VIEW-CHANGE", members, verify, sender)


def open_new_view(signed: Signed, members: Members, verify: Verifier, sender: str) -> NewView:
    return _open(signed, NEW_VIEW_DOMAIN, NewView, "NEW-VIEW", members, verify, sender)


def _open(signed: Signed, domain: str, kind: type[C], name: str, members: Members, verify: Verifier, sender: str) -> C:
    if not verify(signed.signer, domain, signed.body, signed.signature):
        raise PeerFault(sender, f"sent a {name} with a bad signature")
    content = codec.decode_canonical(signed.body, kind, sender)
    if members.key_of(content.host) != signed.signer:
        raise PeerFault(sender, f"sent a {name} of {content.host} that no member of that name signed")
    return content


def open_changes(new_view: NewView, open_change: Callable[[Signed], C], quorum: int, sender: str) -> list[C]:
    """The VIEW-CHANGEs that a NEW-VIEW rests on: for its view, of `quorum` hosts, each counted once."""
    changes = [open_change(signed) for signed in new_view.view_changes]
    hosts = {change.host for change in changes}
    if len(hosts) != len(changes) or len(hosts) < quorum:
        raise PeerFault(sender, f"sent a NEW-VIEW of {len(hosts)} members; {quorum} are needed, each once")
    if any((change.view, change.chain) != (new_view.view, new_view.chain) for change in changes):
        raise PeerFault(sender, "sent a NEW-VIEW with a VIEW-CHANGE for another view")
    return changes
