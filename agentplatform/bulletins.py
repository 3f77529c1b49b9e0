"""What hosts tell each other unasked (Channel.ADVERT)."""

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from agentplatform.addresses import check_address
from agentplatform.convoy import Convoy
from agentplatform.subscriptions import Subscribed
from agentplatform.whereabouts import Located
from services.eds.events import UserMoved

T = TypeVar("T")


class Residents(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="residents"):
    """Where agents are now: all of the sender's when a link comes up, afterwards the news. And the answer to post for
    an agent that is not here: send it there."""

    located: tuple[Located, ...]


class Seek(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="seek"):
    """Who knows where these agents (ids, or names) are, after the epochs beside them? Residents is the answer."""

    agents: tuple[tuple[str, int], ...]


class Silent(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="silent"):
    """A holder to the members: the host of these agents (by what they stand under on the ledger) is silent."""

    subjects: tuple[bytes, ...]


class Rehomed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="rehomed"):
    """An agent went on with the sender from a checkpoint: no pass leads there, but the ledger says so."""

    certificate: bytes  # of birth
    epoch: int


class Topics(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="topics"):
    """What agents that live with the sender have subscribed to: all when a link comes up, afterwards the news."""

    subscribed: tuple[Subscribed, ...]


class Services(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="services"):
    """Service agents that live with the sender: all when a link comes up, afterwards the news."""

    certificates: tuple[bytes, ...]  # of birth


class Endpoint(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="endpoint"):
    """Where the sender takes requests over HTTP (docs/requests.md): when a link comes up."""

    address: str

    def __post_init__(self) -> None:
        check_address(self.address)


class Rms(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="rms"):
    """A message of the resource management server (services.rms.service)."""

    message: bytes


class Heard(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="heard"):
    """An event that concerns a group wherever it is."""

    event: UserMoved


class CallBack(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="call-back"):
    """The sender is not drained any more: agents that it sent there may come back, together (calling_back)."""

    agents: tuple[tuple[str, int], ...]  # and their epochs with the receiver


class StaysAway(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="stays-away"):
    """Agents that were called back and do not come, and why."""

    agents: tuple[tuple[str, str], ...]


class SetOut(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="set-out"):
    """The sender decides for a group (setting_out): those of its agents that live with the receiver are to go there as
    one. Stayed is the answer."""

    number: int
    group: str
    agents: tuple[str, ...]
    destination: str
    why: str
    convoy: Convoy | None = None  # that they are a part of


class Stayed(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="stayed"):
    """What became of a SetOut: agents that did not go, and why. The others are where they should be."""

    number: int
    agents: tuple[tuple[str, str], ...]
    excused: bool = False  # that is no fault of the destination


_Together = CallBack | StaysAway | SetOut | Stayed
Bulletin = Residents | Seek | Silent | Rehomed | Topics | Services | Endpoint | Rms | Heard | _Together


def shortened(why: str, most: int) -> str:
    """By its bytes: an agent's own words may have four in each letter, and 64 reasons go in one bulletin."""
    return why.encode(errors="replace")[:most].decode(errors="ignore")


def in_parts(all_of: Sequence[T], most: int) -> Iterator[tuple[T, ...]]:
    """What takes more than one bulletin: at most `most` in each."""
    for first in range(0, len(all_of), most):
        yield tuple(all_of[first : first + most])
