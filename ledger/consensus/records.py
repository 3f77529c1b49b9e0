"""What a replica keeps across a restart. Each record is whole in itself: a crash leaves no half of a promise."""

import msgspec

from ledger.block import Block
from ledger.certificate import Certificate


class PreparedRecord(msgspec.Struct, frozen=True, array_like=True):
    """A block, and the q PREPAREs for it."""

    block: Block | None  # None: that of the proposal
    certificate: Certificate


class ViewRecord(msgspec.Struct, frozen=True, array_like=True):
    """The view, and how far this replica is into it. It never goes back."""

    view: int = 0
    active: bool = True  # entered by a NEW-VIEW, or view 0
    height: int = 0  # that its NEW-VIEW starts from
    forced: tuple[tuple[int, bytes], ...] = ()  # height, and digest of the block that alone may be proposed there
    view_change: bytes | None = None  # own last one, an encoded ChangeView message
    new_view: bytes | None = None  # that entered the view, an encoded EnterView message
