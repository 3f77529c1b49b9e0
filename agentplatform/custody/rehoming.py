"""The edge of re-homing: reports silent hosts, votes as a member, and lets an agent go on from its copy here."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import Protocol

from agentplatform.bulletins import in_parts
from agentplatform.custody import votes
from agentplatform.custody.carry import Carrier
from agentplatform.custody.copies.messages import CopyMessage
from agentplatform.custody.copies.vault import Vault
from agentplatform.custody.records import BIRTH
from agentplatform.custody.residences import subject_of
from agentplatform.custody.votes import Case, Cast, Withdraw
from agentplatform.parcel.manifest import Birth
from ledger.contracts.residence import Residence, Vote, WithdrawVote
from ledger.errors import PlatformError
from ledger.heartbeats import DRIFT, LEASE
from ledger.leases import RENEW_EVERY

log = logging.getLogger(__name__)
LOOK_EVERY = 0.2  # seconds
REPORT_EVERY = 1.0  # seconds
QUIET = 3 * RENEW_EVERY  # seconds without a question for a lease, after which a linked host is reported too
REPORT_AT_ONCE = 512  # agents
MAX_CASES = 100_000  # that are looked after at once
VOTES_AT_ONCE = 16


class Chain(Protocol):
    """What re-homing asks of the ledger."""

    def find(self, subject: bytes) -> Residence | None: ...

    def votes(self, subject: bytes) -> tuple[Vote, ...]: ...

    def members(self) -> Collection[str]:
        """Hosts."""

    def wait(self, host: str) -> float:
        """ledger.leases."""

    def vote(self, subject: bytes, destination: str) -> Awaitable[object]:
        """ledger.client."""

    def submit(self, action: WithdrawVote) -> Awaitable[object]: ...


class Rehoming:
    def __init__(
        self,
        host: str,
        chain: Chain,
        vault: Vault,
        carrier: Carrier,
        up: Callable[[], Collection[str]],
        report: Callable[[str, tuple[bytes, ...]], object],
        note: Callable[[str, str], None],
        clock: Callable[[], float],
        closed: Callable[[], Collection[str]],
    ) -> None:
        """`report(member, subjects)` tells another host; `note(agent, text)` writes to an agent's log; `clock` counts
        the time in which the machine was suspended, in seconds; `closed` names the hosts that take no agents."""
        self._host, self._chain, self._vault, self._carrier = host, chain, vault, carrier
        self._up, self._report, self._note, self._clock = up, report, note, clock
        self._closed = closed
        self._cases: dict[bytes, Case] = {}
        self._voting = asyncio.Semaphore(VOTES_AT_ONCE)
        self._tasks: dict[bytes, asyncio.Task[None]] = {}  # subject -> what is under way about it
        self._reported = float("-inf")

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            try:
                self.look()
            except Exception:
                log.exception("a look at silent hosts failed; the next one comes")

    # Holders report

    def _silent(self, host: str) -> bool:
        if host not in self._up():
            return True
        return self._host in self._chain.members() and self._chain.wait(host) < LEASE + DRIFT - QUIET

    def _tell(self) -> None:
        for source, subjects in self._vault.sources().items():
            if source == self._host or not self._silent(source):
                continue
            for some in in_parts(subjects, REPORT_AT_ONCE):
                for member in self._chain.members():
                    if member == self._host:
                        self.heard(some)
                    elif member != source:
                        self._report(member, some)

    def heard(self, subjects: Iterable[bytes]) -> None:
        """A holder says that the host of these agents is silent. It is a hint: our own heartbeats decide."""
        now = self._clock()
        if self._host not in self._chain.members():
            return
        for subject in subjects:
            if subject in self._cases:
                self._cases[subject].reported = now
            elif len(self._cases) < MAX_CASES and self._chain.find(subject) is not None:
                self._cases[subject] = Case(now)

    # Members vote

    def look(self) -> None:
        now = self._clock()
        if now >= self._reported + REPORT_EVERY:
            self._reported = now
            self._tell()
        up, closed = self._up(), self._closed()
        for subject, case in list(self._cases.items()):
            there, standing = self._chain.find(subject), self._chain.votes(subject)
            if there is None or votes.over(case, now, self._host, there, standing):
                del self._cases[subject]
            elif subject not in self._tasks:
                act = votes.look(case, now, self._host, there, self._chain.wait(there.host), standing, up, closed)
                if act is not None:
                    self._start(subject, self._perform(subject, there, act))

    async def _perform(self, subject: bytes, there: Residence, act: Cast | Withdraw) -> None:
        name = subject.hex()[:16]
        try:
            async with self._voting:
                if isinstance(act, Cast):
                    log.warning("%s is silent: a vote that agent %s goes on at %s", there.host, name, act.destination)
                    await self._chain.vote(subject, act.destination)
                else:
                    log.warning("%s is back: our vote on agent %s is taken back", there.host, name)
                    await self._chain.submit(WithdrawVote(subject, act.epoch))
        except PlatformError as error:
            log.info("no vote on agent %s: %s", name, error)

    # Copies

    def receive(self, host: str, message: CopyMessage) -> None:
        """Raises PeerFault for what must not be sent."""
        self._vault.receive(host, message)

    def lives(self, birth: Birth, epoch: int, host: str) -> bool:
        """Whether the ledger has the agent there."""
        now = self._chain.find(subject_of(birth.owner, birth.agent))
        return now is not None and (now.host, now.epoch) == (host, epoch)

    # The new home

    def here(self, since: float = 0.0) -> list[tuple[bytes, int]]:
        """Certificates and epochs of agents that went on here from copies, `since` then: no pass leads to them."""
        machine, known = self._carrier.machine, self._carrier.residents.known
        found = []
        for agent, resident in known.items():
            custody = machine.agents[agent]
            if custody.held and custody.kept == BIRTH and custody.epoch > 0 and resident.since >= since:
                found.append((resident.certificate, custody.epoch))
        return found

    def follow(self) -> None:
        """The chain has grown, or this host has just started."""
        for agent, subject, epoch in self._vault.due():
            if subject in self._tasks:
                continue
            if self._carrier.machine.here(agent) == epoch:
                self._vault.drop(agent)  # it was taken in before a crash
            elif self._carrier.lifetimes.free_for(agent):
                self._start(subject, self._take_in(agent, subject, epoch))

    async def _take_in(self, agent: str, subject: bytes, epoch: int) -> None:
        checkpoint = await self._vault.check_out(agent, epoch)
        now = self._chain.find(subject)
        if now is None or (now.host, now.epoch) != (self._host, epoch):
            return  # this host was thought to be gone, too
        log.warning("%s goes on here, in epoch %d: the ledger gave it to %s", agent, epoch, self._host)
        await self._carrier.lifetimes.rehome(agent, epoch, subject, checkpoint)
        self._vault.drop(agent)
        self._note(agent, f"its host was gone; it goes on here on {self._host}, in epoch {epoch}")

    def _start(self, subject: bytes, work: Awaitable[None]) -> None:
        task = self._tasks[subject] = asyncio.ensure_future(work)
        task.add_done_callback(lambda done: self._finished(subject, done))

    def _finished(self, subject: bytes, task: "asyncio.Task[None]") -> None:
        self._tasks.pop(subject, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a step of a re-homing failed", exc_info=error)

    def stop(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
