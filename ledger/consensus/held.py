"""Messages that came before their time, kept until then (clause 9). Pure."""

from ledger.consensus.messages import Propose, Vote

HEIGHTS = 4  # beyond the one that is being decided; a replica that is further behind catches up by blocks
VOTES = 64  # of one sender


class Held:
    """Of each sender one proposal and some votes, so that nobody can make us keep much."""

    def __init__(self) -> None:
        self._proposals: dict[str, Propose] = {}
        self._votes: dict[str, dict[tuple[int, int, str], Vote]] = {}

    def put(self, sender: str, content: Propose | Vote, ahead: int) -> None:
        """`ahead`: by how many heights. What does not fit is dropped; its sender sends it again."""
        if ahead > HEIGHTS:
            return
        if isinstance(content, Propose):
            self._proposals[sender] = content
            return
        votes = self._votes.setdefault(sender, {})
        if len(votes) < VOTES:
            ballot = content.ballot
            votes.setdefault((ballot.height, ballot.view, ballot.kind), content)

    def take(self, height: int, view: int) -> list[tuple[str, Propose | Vote]]:
        """Removes and returns what is for `height` and a view up to `view`; drops what is for lower heights."""
        taken: list[tuple[str, Propose | Vote]] = []
        for sender, proposal in list(self._proposals.items()):
            at = (proposal.block.header.height, proposal.view)
            if at[0] < height or (at[0] == height and at[1] <= view):
                del self._proposals[sender]
                taken += [(sender, proposal)] if at[0] == height else []
        for sender, votes in self._votes.items():
            for key in [key for key in votes if key[0] < height or (key[0] == height and key[1] <= view)]:
                vote = votes.pop(key)
                taken += [(sender, vote)] if key[0] == height else []
        return taken
