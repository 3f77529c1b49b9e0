"""What replicas say to each other, whichever engine of the PBFT family they run.

The link authenticates who sends. What must also convince a third replica is signed besides: a vote as a
`Ballot` (so that votes add up to a certificate), VIEW-CHANGE and NEW-VIEW as a `Signed`. Status, Fetch and
Blocks need no signature: they promise nothing, and a block proves itself by its certificate.
"""

from typing import Annotated

import msgspec

from ledger import codec
from ledger.block import Block
from ledger.certificate import Ballot, Certificate
from ledger.identity import Signature, Signed

NEW_VIEW_DOMAIN = "agentplatform/new-view"
MAX_BLOCKS_BYTES = 4 * 1024 * 1024
MAX_RELAYED = 8192  # transactions in one message; more than wait at one replica

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]  # of heights and views: one more can be encoded too


class Propose(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="propose"):
    """PRE-PREPARE. It is no vote: the primary gives its PREPARE like everybody, when that is durable.

    So the proposal need not wait for the primary's disk. One that forgets it in a crash may propose another block in
    the same view, and has still voted once; the link says who sent it, which is enough for who takes one at most.
    """

    view: int
    block: Block


class Vote(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="vote"):
    """PREPARE or COMMIT, as the ballot says."""

    ballot: Ballot
    signature: Signature

    def signed(self, key: bytes) -> Signed:
        """As evidence against the member that has `key`."""
        return Signed(key, self.ballot.encode(), self.signature)


class NewView(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """NEW-VIEW(view). What is in `view_changes` determines the rest; every follower recomputes it."""

    chain: bytes
    members_version: int  # of the members that decide the height after `height`
    view: int
    host: str
    height: int  # that the view starts from
    forced: tuple[tuple[int, bytes], ...]  # height, and digest of the block that alone may be proposed there
    view_changes: tuple[Signed, ...]


class ChangeView(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="view-change"):
    """A signed VIEW-CHANGE (each engine has its own), and beside it the undecided block that it says is prepared."""

    signed: Signed
    block: Block | None


class EnterView(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="new-view"):
    """A signed `NewView`. Any replica may pass it on to one that missed it."""

    signed: Signed


class Status(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="status"):
    height: Count
    view: Count
    active: bool  # False: waits for the NEW-VIEW of `view`


class Fetch(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="fetch"):
    """Please send the decided blocks from height `first` on."""

    first: Count


class Blocks(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="blocks"):
    blocks: tuple[tuple[Block, Certificate], ...]  # by rising height, without a gap


class Relay(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="relay"):
    """Transactions that can run, for the primary."""

    transactions: Annotated[tuple[bytes, ...], msgspec.Meta(max_length=MAX_RELAYED)]


class Recall(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="recall"):
    """Where do you stand? From a replica that may have forgotten what it signed."""

    nonce: int


class Recalled(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="recalled"):
    nonce: int
    height: Count
    view: Count


Content = Propose | Vote | ChangeView | EnterView | Status | Fetch | Blocks | Relay | Recall | Recalled


class Envelope(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    content: Content


def encode(content: Content) -> bytes:
    return codec.encode(Envelope(content))


def decode(raw: bytes, sender: str) -> Content:
    """Raises PeerFault for what is not one of the messages above in its one canonical encoding."""
    return codec.decode_canonical(raw, Envelope, sender).content


def is_proposal(own: bytes) -> bool:
    """Whether a message that we have encoded ourselves is a Propose, by its tag: without opening what may be large."""
    return own.startswith(_PROPOSE)


_PROPOSE = codec.encode((("propose", 0, 0),))[:-2]  # as an encoded Envelope with a Propose begins


def encode_blocks(blocks: list[tuple[Block, Certificate]]) -> bytes:
    """The message that answers a `Serve`: as many of `blocks`, from the first on, as fit; at least one.

    The peer asks again for what did not fit.
    """
    size, fitting = 0, 0
    for pair in blocks:
        size += len(codec.encode(pair))
        if fitting and size > MAX_BLOCKS_BYTES:
            break
        fitting += 1
    return encode(Blocks(tuple(blocks[:fitting])))
