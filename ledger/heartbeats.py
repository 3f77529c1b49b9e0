"""Heartbeats: by which a host knows that it may run held agents, and members when they may vote that it may not. Pure.

A host asks the members with a fresh nonce; each answers with a signed heartbeat, which needs no block. Those of a
quorum are a lease: until LEASE seconds after the host ASKED (an answer may be late, a question is never early), by a
clock that counts suspended time. A member votes for giving the host's agents a new home only when its own last
heartbeat to the host is older than LEASE + DRIFT, and from then on gives none until that vote can count no more. Two
quorums share an honest member, so the lease is over before the last vote is in. What each rule is good for:

- A member that was just started may have forgotten heartbeats: it waits LEASE + DRIFT before it votes. What it must
  not forget are its votes (Promise), which are durable before they leave.
- A new set of members has other quorums than the one that gave the lease: after a change each waits as long. One that
  has given its COMMIT to a change, and does not know yet that it was decided, gives none (Chain.changes_members).
- A heartbeat counts only when the host's own chain has come as far as the member's: above it the agents may have a new
  home already, and then members give heartbeats again.

LEASE and DRIFT belong to the rules of the chain: a member that waits for less than a host counts on breaks the promise.
"""

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec

from ledger import codec
from ledger.certificate import Members
from ledger.contracts import accounts, residence, trust
from ledger.contracts.state import View
from ledger.errors import PeerFault
from ledger.identity import Identity, Signed

DOMAIN = "agentplatform/heartbeat"
LEASE = 10.0  # seconds
DRIFT = 1.0  # seconds by which two clocks may differ over a lease: holds while each is right to 1 part in 21
NONCE_BYTES = 16

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Nonce = Annotated[bytes, msgspec.Meta(min_length=NONCE_BYTES, max_length=NONCE_BYTES)]


class Ask(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="ask"):
    """To every member, over the link that says who asks."""

    incarnation: Count  # how often the asking host was started on its data
    nonce: Nonce  # drawn for this question


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What a member signs."""

    chain: bytes
    version: int  # of the members
    height: int  # of the member's best block
    incarnation: Count  # of the member
    host: str  # that asked
    nonce: Nonce


class Beat(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="beat"):
    """The answer."""

    signed: Signed  # a Heartbeat


Message = Ask | Beat
_MESSAGE: Any = Message


def encode(message: Message) -> bytes:
    return codec.encode(message)


def decode(raw: bytes, sender: str) -> Message:
    """Raises PeerFault. Nothing in it is verified yet."""
    message: Message = codec.decode(raw, _MESSAGE, sender)
    return message


def beat(heartbeat: Heartbeat, member: Identity) -> Beat:
    return Beat(member.signed(DOMAIN, codec.encode(heartbeat)))


class Lease:
    """The host's side."""

    def __init__(self, chain: bytes, host: str, members: Members, height: int) -> None:
        """`members` decide the height above `height`, the best one of the host's chain."""
        self._chain, self._host, self._members, self._height = chain, host, members, height
        self._asked: dict[bytes, float] = {}  # nonce -> when; those that an answer to would still be good for something
        self._early: dict[tuple[str, bytes], int] = {}  # member and nonce -> the height that we lack
        self._counted: dict[str, float] = {}  # member -> when we had asked what it answered
        self._incarnations: dict[str, int] = {}  # member -> the highest that it answered with
        self.until = float("-inf")  # by the clock of `ask`

    def holds(self, now: float) -> bool:
        return now < self.until

    def ask(self, now: float, incarnation: int, nonce: bytes) -> Ask:
        """For every member. `now` was read before this call, `nonce` drawn for it."""
        self._asked = {old: at for old, at in self._asked.items() if now < at + LEASE} | {nonce: now}
        self._early = {key: height for key, height in self._early.items() if key[1] in self._asked}
        return Ask(incarnation, nonce)

    def take(self, sender: str, answer: Beat) -> None:
        """Counts it, if it is worth something. Raises PeerFault for one that must not be sent."""
        if answer.signed.signer != self._members.key_of(sender):
            return  # no member, or not by our members: one of us has not heard of a change yet
        body = answer.signed.verify(DOMAIN, sender)
        said = codec.decode_canonical(body, Heartbeat, sender)
        if (said.chain, said.host) != (self._chain, self._host):
            raise PeerFault(sender, f"sent a heartbeat that is for {said.host[:63]!r}, or of another chain")
        if said.version != self._members.version or said.nonce not in self._asked:
            return
        if said.incarnation < self._incarnations.get(sender, 0):
            raise PeerFault(sender, "sent a heartbeat of an earlier start than before: is its data an old copy?")
        self._incarnations[sender] = said.incarnation
        self._early[sender, said.nonce] = said.height
        self._count()

    def follow(self, members: Members, height: int) -> None:
        """The host's chain is there now, and what is on it was acted on."""
        if members != self._members:
            self._early.clear()
            self._counted.clear()  # what was reached stays: the new members wait for its end
        self._members, self._height = members, height
        self._count()

    def _count(self) -> None:
        for (member, nonce), height in list(self._early.items()):
            if height <= self._height:
                del self._early[member, nonce]
                self._counted[member] = max(self._asked[nonce], self._counted.get(member, float("-inf")))
        if len(self._counted) >= self._members.quorum:
            latest = sorted(self._counted.values(), reverse=True)
            self.until = max(self.until, latest[self._members.quorum - 1] + LEASE)


class Promise(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """No heartbeat to `host`, because a vote of ours to give its agent a new home may be on its way, or stand."""

    host: str
    subject: bytes  # the agent (ledger.contracts.residence)
    epoch: int  # that the vote is for
    version: int  # of the members, likewise
    nonce: int  # no transaction of ours with the vote has a higher one


class Giver:
    """The member's side."""

    def __init__(self, now: float, version: int, promises: Iterable[Promise] = ()) -> None:
        """A member that starts `now`, by a clock that counts suspended time, with the promises that it kept."""
        self.promises: dict[bytes, Promise] = {each.subject: each for each in promises}
        self._since, self._version = now, version
        self._given: dict[str, float] = {}  # host -> when it got its last one
        self._incarnations: dict[str, int] = {}  # host -> the highest that it asked with

    def follow(self, version: int, now: float) -> None:
        """The members are of this version. Call it before what is asked of this class, too."""
        if version != self._version:
            self._version, self._since = version, now

    def give(self, host: str, ask: Ask, now: float) -> bool:
        """Whether `host` gets a heartbeat; it is taken as given. Raises PeerFault for who asks from an old copy."""
        if ask.incarnation < self._incarnations.get(host, 0):
            raise PeerFault(host, "asks for a heartbeat as of an earlier start than before: is its data an old copy?")
        self._incarnations[host] = ask.incarnation
        if any(promise.host == host for promise in self.promises.values()):
            return False
        self._given[host] = now
        return True

    def wait(self, host: str, now: float) -> float:
        """Seconds until a vote against `host` may be given, if it gets no further heartbeat; 0: now."""
        last = max(self._since, self._given.get(host, self._since))
        return max(0.0, last + LEASE + DRIFT - now)

    def promise(self, promise: Promise) -> None:
        """From now on; it has to be durable before the vote leaves. Ask `wait` in the same breath."""
        self.promises[promise.subject] = promise

    def settle(self, state: View, member: str, account: bytes) -> None:
        """Forgets the promises whose votes can count no more, as `member` sees it by its own `account`'s nonce."""
        self.promises = {
            subject: each for subject, each in self.promises.items() if not _settled(state, member, account, each)
        }


def _settled(state: View, member: str, account: bytes, promise: Promise) -> bool:
    now = residence.find(state, promise.subject)
    if now is None or now.epoch >= promise.epoch or trust.members(state).version != promise.version:
        return True
    stands = any(vote.member == member for vote in residence.votes(state, promise.subject))
    return not stands and accounts.nonce(state, account) > promise.nonce
