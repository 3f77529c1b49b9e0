"""However much a member sends, little of it is kept (clause 9). The one check that looks into the engine."""

from typing import Any

from ledger.consensus.agreement import Agreement
from ledger.consensus.held import VOTES
from ledger.consensus.normal_case import VIEW_WINDOW


def messages_kept(engine: Agreement[Any]) -> int:
    """Of others, in memory."""
    at, held = engine._at, engine._held
    votes = sum(len(each) for each in [*at.votes._first.values(), *at.late._first.values()])
    votes += sum(len(each) for each in held._votes.values())
    return votes + len(held._proposals) + len(at.changes.all()) + len(at.new_views)


def most_kept(engine: Agreement[Any], hosts: int) -> int:
    """For each host: PREPAREs and COMMITs, counted and late, of the views around ours and of those that passed at
    this height; held votes of later heights and views; one proposal, one VIEW-CHANGE, one NEW-VIEW."""
    views = 2 * VIEW_WINDOW + 1 + engine.view
    return hosts * (2 * 2 * views + VOTES + 3)
