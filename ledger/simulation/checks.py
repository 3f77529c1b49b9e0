"""What must hold in every run, judged from what left the hosts and what is on their disks, not by the engines."""

from collections.abc import Iterable

from ledger import codec
from ledger.block import Block
from ledger.certificate import COMMIT, PREPARE, Ballot, Certificate, Members
from ledger.consensus.messages import ChangeView, Content, Vote
from ledger.consensus.view_changes import ViewChange
from ledger.errors import PeerFault
from ledger.simulation.node import Node
from ledger.simulation.twins import fast_verify, members_after
from ledger.sync import is_about


class Checker:
    """Collects `faults`, each a sentence. It is told of honest hosts alone."""

    def __init__(self, members: Members, view_change: type[ViewChange]) -> None:
        """`view_change` is what the engines write into their VIEW-CHANGEs."""
        self._view_change = view_change
        self._members = [members]  # by the height that they decide, from 1 on
        self._decided: dict[int, Block] = {}
        self._acknowledged: dict[bytes, int] = {}
        self._votes: dict[tuple[str, str, int, int], bytes] = {}
        self._views: dict[str, int] = {}
        self.faults: list[str] = []
        self.forks = 0

    @property
    def height(self) -> int:
        return max(self._decided, default=0)

    @property
    def members(self) -> Members:
        """Those who decide the next height."""
        return self._members[-1]

    def decided(self, host: str, block: Block, certificate: Certificate) -> None:
        """One block for each height, and for each a certificate that holds."""
        height = block.header.height
        first = self._decided.setdefault(height, block)
        if height == len(self._members):
            self._members.append(members_after(self._members[-1], block.transactions))
        if first.digest() != block.digest():
            self.forks += 1
            self.faults.append(f"{host} decided another block {height} than somebody else")
        if not is_about(certificate, COMMIT, block):
            self.faults.append(f"{host} decided block {height} with a certificate of something else")
        try:
            certificate.check(self._members[height - 1], fast_verify)
        except PeerFault as fault:
            self.faults.append(f"{host} decided block {height} with a bad certificate: {fault}")

    def acknowledged(self, block: Block) -> None:
        """An honest host has told clients that what is in `block` is final."""
        for transaction in block.transactions:
            self._acknowledged.setdefault(transaction, block.header.height)

    def sent(self, host: str, content: Content) -> None:
        """No host signs twice, and none votes in a view that it has left, restarts or not."""
        match content:
            case Vote():
                self._voted(host, content.ballot)
            case ChangeView():
                view = codec.decode(content.signed.body, self._view_change).view
                self._views[host] = max(view, self._views.get(host, 0))

    def _voted(self, host: str, ballot: Ballot) -> None:
        place = (host, ballot.kind, ballot.height, ballot.view)
        first = self._votes.get(place)
        if first is None:
            self._votes[place] = ballot.digest
            if ballot.kind == PREPARE and ballot.view < self._views.get(host, 0):
                self.faults.append(f"{host} votes in view {ballot.view}, which it has left")
        elif first != ballot.digest:
            self.faults.append(f"{host} signs twice: {ballot.kind} at height {ballot.height}, view {ballot.view}")

    def disks(self, nodes: Iterable[Node]) -> None:
        """What honest hosts have is one chain: block by block, so state root by state root; and all acknowledged."""
        for node in nodes:
            blocks = [block for block, _ in node.disk.blocks]
            for height, block in enumerate(blocks, 1):
                if block != self._decided.get(height):
                    self.faults.append(f"{node.host} has another block {height} on its disk than was decided")
            for transaction, height in self._acknowledged.items():
                if height <= len(blocks) and transaction not in blocks[height - 1].transactions:
                    self.faults.append(f"{node.host} lacks {transaction!r}, which was acknowledged at {height}")
            if len(blocks) < max(self._acknowledged.values(), default=0):
                self.faults.append(f"{node.host} lacks what was acknowledged above {len(blocks)}")
