"""A cluster whose messages wait until the test says which of them arrive: schedules that read like a story."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from ledger.certificate import VOTE_DOMAIN, Ballot, Certificate
from ledger.consensus import messages
from ledger.consensus.engine import Accuse, Admit, Decide, Effect, Persist, Send, Serve, WakeAt
from ledger.consensus.ipbft import Ipbft
from ledger.consensus.messages import Content, Vote, encode_blocks
from ledger.consensus.settings import Settings
from ledger.errors import PeerFault
from ledger.simulation import Mutant
from ledger.simulation.checks import Checker
from ledger.simulation.node import Node
from ledger.simulation.twins import FastKey, TwinChain, fast_verify, make_members
from tests.helpers.transcript import shown, told

WALL = 2_000_000


@dataclass(frozen=True)
class Letter:
    sender: str
    to: str
    content: Content


class Script:
    """Hosts a, b, c, .. are members 0, 1, 2, ..: `a` leads view 0, `b` view 1."""

    def __init__(self, n: int = 4, mutant: Mutant | None = None, settings: Settings | None = None) -> None:
        mutant = mutant or Mutant()
        self.members = make_members(n, mutant.members, names="abcdefg"[:n])
        self.view_change = mutant.engine.standing.view_change
        self.checker = Checker(self.members, self.view_change)
        self.post: list[Letter] = []
        self.transcript: list[str] = []  # what happened, for people
        self.blamed: list[str] = []  # what was refused, with the reason
        self.accused: list[str] = []
        self.now = 0.0

        def make(host: str, chain: TwinChain, kept: Mapping[str, bytes], certificate: Certificate | None) -> Ipbft:
            key = FastKey(chain.key_name(host))
            return mutant.engine(host, key, chain, kept, settings or Settings(), certificate, fast_verify)

        self.nodes = {member.host: Node(member.host, self.members, make) for member in self.members.members}
        for host in self.nodes:
            self.boot(host)
        self.drop()

    # What the test does

    def boot(self, host: str) -> None:
        node = self.nodes[host]
        self.transcript.append(f"{host} starts")
        node.boot()
        self.perform(host, node.engine.start(self.now, self.wall))

    def crash(self, *hosts: str) -> None:
        for host in hosts:
            self.transcript.append(f"{host} crashes")
            self.nodes[host].up = False
            self.nodes[host].disk.crash(Random(0))  # noqa: S311

    def tell(self, transaction: bytes, *hosts: str) -> None:
        for host in hosts:
            self.transcript.append(f"a client tells {host}: {transaction.decode()}")
            if self.nodes[host].chain.take(transaction):
                self.perform(host, self.nodes[host].engine.command([transaction], self.now, self.wall))

    def wait(self, seconds: float, *hosts: str) -> None:
        """Time passes; only `hosts` notice."""
        self.now += seconds
        self.transcript.append(f"{seconds} seconds pass for {', '.join(hosts)}")
        for host in hosts:
            for _ in range(3):  # a relay first, then what it starts
                self.perform(host, self.nodes[host].engine.tick(self.now, self.wall))

    def deliver(
        self, kind: type | tuple[type, ...] = object, to: str = "", sender: str = "", vote: str | None = None
    ) -> int:
        """Delivers what waits of that kind, to these hosts, from these, with their answers left waiting."""
        chosen = [letter for letter in self.post if _fits(letter, kind, to, sender, vote)]
        for letter in chosen:
            self.post.remove(letter)
            if self.nodes[letter.to].up:
                self.hand(letter.sender, letter.to, letter.content)
        return len(chosen)

    def settle(self, hosts: str) -> None:
        """Delivers everything among `hosts`, with all that follows; what goes elsewhere is lost."""
        self.mingle(hosts)
        self.drop()

    def mingle(self, hosts: str) -> None:
        """Delivers everything among `hosts`, with all that follows; what goes elsewhere goes on waiting."""
        while self.deliver(to=hosts, sender=hosts):
            pass

    def drop(self) -> None:
        self.post.clear()

    def hand(self, sender: str, to: str, content: Content | bytes) -> None:
        """Puts one message into one host, as if `sender` had sent it."""
        raw = content if isinstance(content, bytes) else messages.encode(content)
        line = "bytes" if isinstance(content, bytes) else told(content, self.view_change)
        self.transcript.append(f"{sender} -> {to}: {line}")
        try:
            effects = self.nodes[to].engine.message(sender, raw, self.now, self.wall)
        except PeerFault as fault:
            self.blamed.append(f"{to} blames {fault}")
            self.transcript.append(self.blamed[-1])
            return
        self.perform(to, effects)

    # What the test asks

    @property
    def wall(self) -> int:
        return WALL + int(self.now * 1000)

    def height(self, host: str) -> int:
        return len(self.nodes[host].disk.blocks)

    def decided(self, host: str) -> list[tuple[bytes, ...]]:
        return [block.transactions for block, _ in self.nodes[host].disk.blocks]

    def waiting(self, kind: type) -> list[Letter]:
        return [letter for letter in self.post if isinstance(letter.content, kind)]

    def signed_vote(self, host: str, ballot: Ballot) -> Vote:
        return Vote(ballot, FastKey(host).sign(VOTE_DOMAIN, ballot.encode()))

    # Effects

    def perform(self, host: str, effects: list[Effect]) -> None:
        node = self.nodes[host]
        for effect in effects:
            match effect:
                case Persist():
                    node.disk.write(effect)
                case Decide():
                    node.disk.write(effect)
                    node.disk.sync()
                    self.transcript.append(f"{host} decides {shown(effect.block)}")
                    self.checker.decided(host, effect.block, effect.certificate)
                case Send():
                    node.disk.sync()
                    content = messages.decode(effect.message, host)
                    self.checker.sent(host, content)
                    for to in self.nodes if effect.to is None else [effect.to]:
                        if to != host:
                            self.post.append(Letter(host, to, content))
                case Serve():
                    raw = encode_blocks(node.disk.blocks[effect.first - 1 : effect.last])
                    self.post.append(Letter(host, effect.to, messages.decode(raw, host)))
                case Admit():
                    with suppress(PeerFault):
                        self.tell(effect.transaction, host)
                case Accuse():
                    self.accused.append(effect.host)
                case WakeAt():
                    node.wake = effect.time


def _fits(letter: Letter, kind: type | tuple[type, ...], to: str, sender: str, vote: str | None) -> bool:
    content = letter.content
    return (
        isinstance(content, kind)
        and (not to or letter.to in to)
        and (not sender or letter.sender in sender)
        and (vote is None or (isinstance(content, Vote) and content.ballot.kind == vote))
    )
