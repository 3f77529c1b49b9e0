"""Who leads. Pure."""

from ledger.certificate import Members


def primary(members: Members, view: int) -> str:
    """The host that proposes in `view`, among the members of the height in question: they take turns."""
    return members.members[view % members.n].host
