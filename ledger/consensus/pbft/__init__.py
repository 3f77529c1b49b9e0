"""PBFT without the improvements, for comparison: Castro and Liskov, OSDI '99. Pure.

Requests go to the primary alone; prepared certificates are kept until a checkpoint is stable, which takes an
exchange of its own; a new primary starts at once from what the VIEW-CHANGEs show above the stable checkpoint.
"""

from ledger.consensus.pbft.engine import Pbft

__all__ = ["Pbft"]
