"""What a replica keeps across a restart (clauses 2 and 4), under three keys.

Each record is whole in itself, so a crash between two writes leaves no half of a promise.
"""

import msgspec

from ledger.block import Block
from ledger.certificate import Certificate

VIEW_KEY = "ipbft/view"  # a ViewRecord
PROPOSAL_KEY = "ipbft/proposal"  # the Propose that this replica gave its PREPARE to
PREPARED_KEY = "ipbft/prepared"  # the Prepared that this replica gave its COMMIT to


class Prepared(msgspec.Struct, frozen=True, array_like=True):
    """A block, and the q PREPAREs for it."""

    block: Block
    certificate: Certificate


class ViewRecord(msgspec.Struct, frozen=True, array_like=True):
    """The view, and how far this replica is into it. It never goes back (clause 5)."""

    view: int = 0
    active: bool = True  # entered by a NEW-VIEW, or view 0
    forced_height: int = 0  # H*+1 of the NEW-VIEW
    forced_digest: bytes | None = None  # what alone may be proposed there; None: a fresh block
    view_change: bytes | None = None  # own last one, an encoded ChangeView message
    new_view: bytes | None = None  # that entered the view, an encoded EnterView message
