"""The edge of custody.quarantine: tells each other host of this life, asks what it knows of the agents here, and lets
those in quarantine go on, or end, when all have answered.

Hosts are believed in what they know, but nobody ends another host's agents: that an agent left is shown by a pass that
this host signed, and that this host had another life by that life's signature.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator
from typing import Any

from agentplatform.custody.events import Begin, Complete, Confirm, Event, Left, Outdated
from agentplatform.custody.messages import HandoffMessage, Life, Recall, Recalled, Sighting
from agentplatform.custody.quarantine import (
    MAX_INCARNATION,
    Blocked,
    Claim,
    Gone,
    Here,
    Word,
    floor,
    is_other,
    judge,
    unacknowledged,
)
from agentplatform.custody.residences import Ledger
from agentplatform.custody.state import Custody, replace
from agentplatform.custody.surroundings import Surroundings
from agentplatform.custody.waits import LEDGER, OWNER, Wait
from agentplatform.passes import Pass, Trail
from ledger import codec
from ledger.contracts.residence import Yield
from ledger.errors import PeerFault, PlatformError
from ledger.identity import Identity, verify

log = logging.getLogger(__name__)
DOMAIN = "agentplatform/life"
NONCE_BYTES = 8
PATIENCE = 2.0  # seconds that a start waits for what others know: a site may be cut off for days


class Recalls:
    def __init__(
        self,
        host: str,
        key: Identity,
        chain_id: bytes,
        ledger: Ledger,
        machine: Custody,
        step: Callable[[Event], None],
        send: Callable[[str, HandoffMessage], None],
        written: Callable[[], Awaitable[None]],
        granted: Callable[[], Awaitable[None]],
        hosts: Callable[[], Collection[str]],
        surroundings: Surroundings,
    ) -> None:
        """`written` waits until all that was handed to the log is durable, `granted` for a lease: then this host's
        chain is as high as that of a quorum. `hosts` are all others that may ever have had an agent."""
        self._host, self._key, self._chain_id, self._ledger = host, key, chain_id, ledger
        self._machine, self._step, self._send, self._written = machine, step, send, written
        self._granted, self._hosts, self._surroundings = granted, hosts, surroundings
        self._tasks: set[asyncio.Task[None]] = set()
        self._said: dict[str, dict[str, Word]] = {}  # host -> agent -> what it knows of it; who answered in this life
        self._again: set[str] = set()  # hosts that could not say or show all yet, and are asked again
        self._answered = asyncio.Event()  # somebody has
        self._ending = False  # the data is an old copy that nobody had marked
        self._current = False  # the chain is
        self._subjects: dict[str, bytes] = {}  # of agents in quarantine that are in local custody, by the old data
        self._yielding: set[bytes] = set()  # subjects
        self._copies: dict[bytes, str] = {}  # held: subject -> a holder that has a full copy
        self.copies: Callable[[str], tuple[bytes, ...]] = lambda host: ()  # the vault's: held for that host
        self.trail: Callable[[str], Trail] = lambda agent: ()  # the whereabouts': how an agent came to where it is
        self.authentic: Callable[[Pass], bool] = lambda each: False
        self.subject: Callable[[str], Awaitable[bytes]]  # what an agent here would stand under on the ledger

    async def begin(self) -> None:
        """This start is a life of its own. Durable before anything else is done or told."""
        self._step(Begin(self._life(self._machine.life.incarnation + 1)))
        await self._written()
        if self._machine.restored:
            log.warning(
                "%s was restored from a backup: %d agents wait in quarantine for what all other hosts know",
                self._host,
                len(self._machine.quarantined),
            )
            self._start(self._catch_up())

    async def heard(self, patience: float = PATIENCE) -> None:
        """Before the agents of data that nobody marked are opened: returns when all trusted hosts have answered, or
        after `patience` seconds; never when one has shown that the data is an old copy."""
        here = any(known.here and not known.held for known in self._machine.agents.values())
        if here and not self._machine.restored:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered(), patience)
        if self._ending:
            await asyncio.Event().wait()  # the process is about to end

    async def _all_answered(self) -> None:
        while any(self._open(host) for host in self._hosts() if self._surroundings.verdict(host).trusted):
            self._answered.clear()
            await self._answered.wait()

    def linked(self, host: str) -> None:
        self._ask(host)

    def remind(self) -> None:
        for host in self._hosts() if self._machine.restored else tuple(self._again):
            if self._open(host):
                self._ask(host)
        self._judge()

    def _open(self, host: str) -> bool:
        return host not in self._said or host in self._again

    def _ask(self, host: str) -> None:
        if not self._machine.life.incarnation:
            return  # it has not begun
        here = tuple(known.agent for known in self._machine.agents.values() if known.here and not known.held)
        self._send(host, Recall(self._machine.life, here))

    async def _catch_up(self) -> None:
        await self._granted()
        for agent in [each for each in self._machine.quarantined if not self._machine.agents[each].held]:
            try:
                self._subjects[agent] = await self.subject(agent)
            except PlatformError as error:
                log.error("%s is in quarantine here, and cannot be read: %s", agent, error)
        self._current = True
        self._judge()

    # Lives

    def _life(self, incarnation: int) -> Life:
        life = Life(incarnation, os.urandom(NONCE_BYTES), self._key.public)
        return replace(life, signature=self._key.sign(DOMAIN, self._body(self._host, life)))

    def _check(self, host: str, life: Life, teller: str) -> None:
        known = 0 < life.incarnation < MAX_INCARNATION and self._surroundings.was_key_of(host, life.signer)
        if not known or not verify(life.signer, DOMAIN, self._body(host, life), life.signature):
            raise PeerFault(teller, f"told of a life of {host[:63]} that this host did not sign")

    def _body(self, host: str, life: Life) -> bytes:
        return codec.encode((self._chain_id, host, life.incarnation, life.nonce))

    # A host that is asked

    def receive(self, host: str, message: HandoffMessage) -> bool:
        """True when that was all; else the machine is to hear it. Raises PeerFault for what must not be sent."""
        match message:
            case Recall(life):
                self._check(host, life, host)
            case Recalled(nonce):
                if nonce == self._machine.life.nonce:  # else it is of another start
                    self._heard(host, message)
                return True
        return False

    def with_proof(self, host: str, message: Recalled) -> Recalled:
        """What this host shows beside what its journal says."""
        sightings = tuple(replace(seen, trail=self.trail(seen.agent)) for seen in message.sightings)
        return replace(message, sightings=sightings, copies=self.copies(host))

    # The host that asked

    def _heard(self, host: str, answer: Recalled) -> None:
        if answer.life.incarnation:
            self._check(self._host, answer.life, host)
        if is_other(self._machine.life, answer.life):
            if self._machine.restored:
                self._begin_above(answer.life)
            elif self._machine.life.incarnation == 1 and not self._machine.agents:
                self._step(Outdated())  # the disk was lost: nothing runs here that would have to end
                self._begin_above(answer.life)
                self._start(self._catch_up())
            else:
                self._outdated(f"{host} knows start {answer.life.incarnation} of {self._host}, and its data does not")
            return
        said = self._said[host] = {seen.agent: self._word(seen) for seen in answer.sightings}
        unsure = any(not word.settled or self._is_unproven(agent, word) for agent, word in said.items())
        (self._again.add if unsure else self._again.discard)(host)
        self._answered.set()
        if not self._machine.restored:
            for agent, word in said.items():
                self._compare(host, agent, word)
            return
        self._copies |= dict.fromkeys(answer.copies, host)
        self._judge()

    def _begin_above(self, other: Life) -> None:
        """What this life does, and the numbers that it uses, must be of no life before."""
        self._said.clear()
        self._step(Begin(self._life(other.incarnation + 1)))

        async def ask_again() -> None:
            await self._written()
            self.remind()

        self._start(ask_again())

    def _compare(self, host: str, agent: str, word: Word) -> None:
        here = self._machine.here(agent)
        if here is not None and word.epoch > here and word.settled and word.proven:
            self._outdated(f"{host} shows that {agent} left {self._host} for epoch {word.epoch}")

    def _word(self, seen: Sighting) -> Word:
        known = self._machine.agents.get(seen.agent)
        epoch = -1 if known is None else known.epoch
        shown = any(
            each.agent == seen.agent and each.source == self._host and each.epoch > epoch and self.authentic(each)
            for each in seen.trail
        )
        return Word(seen.epoch, seen.host, seen.settled, shown, seen.transfer)

    def _is_unproven(self, agent: str, word: Word) -> bool:
        """A host that has just started does not know all passes yet."""
        here = self._machine.here(agent)
        return here is not None and word.epoch > here and word.host != self._host and not word.proven

    def _outdated(self, reason: str) -> None:
        """What ran so far may run elsewhere too: at once nothing does. The next start finds the mark."""
        self._ending = True
        self._step(Outdated())

        async def end() -> None:
            await self._written()
            self._surroundings.broken(
                f"the data of {self._host} is an old copy: {reason}. It is marked as restored now: start the host "
                "again, and its agents wait until all others have said what they know"
            )

        self._start(end())

    # What becomes of them

    def _judge(self) -> None:
        machine = self._machine
        if not machine.restored or not self._current:
            return
        for agent in list(machine.quarantined):
            known = machine.agents[agent]
            if known.held:
                continue  # the ledger's word counts: custody.residences
            match self._verdict(agent):
                case Here(epoch):
                    text = "was restored from a backup: what it did since then is lost; it goes on in epoch"
                    self._surroundings.printed(agent, "note", f"{self._host} {text} {epoch}")
                    came = unacknowledged(self._host, (words.get(agent) for words in self._said.values()))
                    self._step(Confirm(agent, epoch, floor(machine.life), came))
                case Gone(epoch, host):
                    self._step(Left(agent, epoch, host))
        lost = [subject for subject in self._copies if self._is_lost(subject)]
        for subject in lost:
            self._yield(subject, self._copies[subject])
        if not lost and all(host in self._said for host in self._hosts()):
            self._step(Complete())

    def _verdict(self, agent: str) -> Here | Gone | Blocked:
        said = {host: words.get(agent) for host, words in self._said.items()}
        if self._current:
            if (subject := self._subjects.get(agent)) is None:
                return Blocked("", "their birth certificates cannot be read")
            now = self._ledger.find(subject)  # they may have changed their custody since
            if now is not None and now.host == self._host:
                return Blocked(LEDGER, "they are in held custody by now, and a newer copy is elsewhere")
            if now is not None and now.host:
                return Gone(now.epoch, now.host)
            if now is not None:
                said[LEDGER] = Word(now.epoch, self._host)
        claim = Claim(self._machine.agents[agent].epoch, self._machine.quarantined[agent])
        return judge(self._host, claim, said, self._hosts())

    def _is_lost(self, subject: bytes) -> bool:
        """Held: the ledger has it here, and nothing of it runs here."""
        now = self._ledger.find(subject)
        if now is None or now.host != self._host:
            return False
        here = [known for known in self._machine.agents.values() if known.here and known.subject == subject]
        return all(known.agent in self._machine.quarantined for known in here)

    def _yield(self, subject: bytes, holder: str) -> None:
        """What the holder has is newer than what is here: the agent goes on there."""
        now = self._ledger.find(subject)
        if now is None or subject in self._yielding:
            return
        self._yielding.add(subject)

        async def submit() -> None:
            try:
                await self._ledger.submit(Yield(subject, now.epoch + 1, holder))
            except PlatformError as error:
                log.warning("agent %s does not go on at %s yet: %s", subject.hex()[:16], holder, error)
            finally:
                self._yielding.discard(subject)

        self._start(submit())

    def waits(self) -> Iterator[Wait]:
        """What is in quarantine, and on whom it waits."""
        found: dict[tuple[str, str], list[str]] = {}
        for agent in self._machine.quarantined:
            found.setdefault(self._waits_for(agent), []).append(agent)
        for (on, why), agents in found.items():
            text = f"{self._host} was restored from a backup, and they do not run: {why}"
            yield Wait(tuple(sorted(agents)), on, text)

    def _waits_for(self, agent: str) -> tuple[str, str]:
        known = self._machine.agents[agent]
        verdict = None if known.held else self._verdict(agent)
        if isinstance(verdict, Blocked) and verdict.on:
            return verdict.on, verdict.why
        if not self._current:
            return LEDGER, "this host's copy of the ledger may be old too, and no quorum has shown a newer one"
        if known.held:
            if known.subject in self._copies:
                return LEDGER, "it has to give them to a host with a newer copy"
            missing = next((host for host in self._hosts() if host not in self._said), None)
            if missing is not None:
                return missing, "it has not said yet whether it has a newer copy"
            return OWNER, "the ledger has them here, and no host has a newer copy; dispose of them"
        if isinstance(verdict, Blocked):
            return OWNER, f"{verdict.why}; they may be disposed of"
        return LEDGER, "they are about to be decided"

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
