"""What hosts tell each other of themselves, and how it is signed. Pure.

The link says who sent an advert, so a host believes it as it comes; the signature is for others: who is shown it can
see that the host said so (`proven`). That is seldom, so signatures are checked when a host is first heard, by turns
afterwards, and before an advert is shown to anybody.
"""

from collections.abc import Mapping
from typing import Annotated

import msgspec

from ledger import codec
from ledger.errors import PeerFault
from ledger.identity import Identity, Signature, verify
from services.rms.link_probe import LinkMeasure
from services.rms.resources import Resources

DOMAIN = "agentplatform/advert"
LIFETIME_ROUNDS = 5  # in adverts: one that is late does not make its host vanish
MAX_LIFETIME_S = 60.0  # that a host may give its advert
LONGEST_ROUND_S = MAX_LIFETIME_S / LIFETIME_ROUNDS
MAX_OFFERS = 250
MAX_OFFER = 40  # characters
MAX_REASON = 80  # characters
MAX_FACTS = 16
MAX_LINKS = 512  # so that an advert of hosts with long names fits into its message
MAX_HOST = 256  # characters
MAX_TASK_WEIGHT = 1e12


class Advert(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One host about itself."""

    resources: Resources
    task_weight: float = 0.0  # sum of the task weights of the agents that it runs
    links: dict[str, LinkMeasure] = {}  # its own links, by the host at the other end
    offers: frozenset[str] = frozenset()  # Python modules and devices that agents find there, by name
    closed: str = ""  # why it takes no agents, if it takes none: "being drained"
    facts: dict[str, float] = {}  # what its operator states of it, by name, for policies that weigh it; 0 to 1

    def __post_init__(self) -> None:
        if not 0.0 <= self.task_weight <= MAX_TASK_WEIGHT:
            raise ValueError(f"the task weight is {self.task_weight}; it must be 0 or more")
        check_offers(self.offers)
        if len(self.closed) > MAX_REASON:
            raise ValueError(f"an advert says in at most {MAX_REASON} characters why its host is closed")
        check_facts(self.facts)
        if len(self.links) > MAX_LINKS:
            raise ValueError(f"the advert lists {len(self.links)} links; at most {MAX_LINKS} are taken")


class Statement(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is signed. It has no offers in it: they change seldom, so their digest stands for them."""

    host: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_HOST)]
    # Milliseconds since 1970, by the host's own clock, and above that of its last advert whatever the clock does.
    number: Annotated[int, msgspec.Meta(ge=0, le=2**62)]
    # Seconds, counted by each who hears it from then on: no two clocks need agree.
    lifetime: Annotated[float, msgspec.Meta(gt=0.0, le=MAX_LIFETIME_S)]
    offers: Annotated[bytes, msgspec.Meta(max_length=codec.DIGEST_BYTES)]  # digest of the sorted names; empty for none
    advert: Advert

    def __post_init__(self) -> None:
        if self.advert.offers:
            raise ValueError("a statement has the digest of what is offered, and not the names")


class Told(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="advert"):
    """A statement as it is sent, kept, and shown to others."""

    body: bytes  # a Statement
    signature: Signature


class Offers(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="offers"):
    """All that a host offers, sorted: the answer to who asks for what the digest of its adverts stands for."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        check_offers(self.names)

    def digest(self) -> bytes:
        return codec.digest("agentplatform/offers", codec.encode(self.names)) if self.names else b""


def check_facts(facts: Mapping[str, float]) -> None:
    """Raises ValueError for what an operator cannot state of a host."""
    if len(facts) > MAX_FACTS or any(not 0 < len(name) <= MAX_OFFER for name in facts):
        raise ValueError(f"at most {MAX_FACTS} facts of a host are stated, with names of 1 to {MAX_OFFER} characters")
    if not all(0.0 <= fact <= 1.0 for fact in facts.values()):  # also true for NaN
        raise ValueError("each fact that is stated of a host is between 0 and 1")


def check_offers(names: frozenset[str] | tuple[str, ...]) -> None:
    """Raises ValueError for more than an advert can name."""
    if names and (len(names) > MAX_OFFERS or any(not 1 <= len(name) <= MAX_OFFER for name in names)):
        raise ValueError(f"an advert offers at most {MAX_OFFERS} things, with names of 1 to {MAX_OFFER} characters")


def tell(identity: Identity, statement: Statement) -> Told:
    body = codec.encode(statement)
    return Told(body, identity.sign(DOMAIN, body))


def read(told: Told, sender: str) -> Statement:
    """What the link says that `sender` sent. Raises PeerFault, naming it, for what is no statement, or another's."""
    statement = codec.decode(told.body, Statement, sender)
    if statement.host != sender:
        raise PeerFault(sender, f"sent an advert in the name of {statement.host!r:.80}")
    return statement


def proven(told: Told, host: str, key: bytes | None) -> Statement:
    """The statement, when `host`, whose key is `key`, signed it; else PeerFault naming the host."""
    if key is None or not verify(key, DOMAIN, told.body, told.signature):
        raise PeerFault(host, "sent an advert that is not signed with its registered key")
    return read(told, host)
