"""The edge of declarations of loss: asks every host, signs what this host swears, submits, and follows the chain.

What may be sworn, and what a declaration changes here, is decided by the machine (agentplatform.custody.declaring).
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from agentplatform.custody.declaring import fresh
from agentplatform.custody.events import Event, Lost
from agentplatform.custody.messages import Canvass, Cargo, Forswear, HandoffMessage, Object
from agentplatform.custody.residences import subject_of
from agentplatform.custody.state import Custody, Phase, replace
from agentplatform.parcel.manifest import MANIFEST_DOMAIN, Birth, Manifest, Parcel, agent_digest, open_certificate
from ledger import codec, identity
from ledger.contracts.losses import DOMAIN, MAX_COPIES, Copy, Declaration, Declare, Statement
from ledger.contracts.residence import Residence
from ledger.errors import Misuse, PeerFault, Unavailable
from ledger.identity import Identity, Signed

log = logging.getLogger(__name__)
ASK_EVERY = 0.5  # seconds


class Chain(Protocol):
    """As this host has it now."""

    def find(self, subject: bytes) -> Residence | None:
        """Of an agent in held custody."""

    def declaration(self, agent: bytes) -> Declaration | None:
        """The last one about an agent (digest of its id)."""

    def declarations(self) -> int:
        """How many there ever were."""

    def signers(self) -> Mapping[str, bytes | None]:
        """The other hosts and their keys; None: suspended."""

    async def declare(self, action: Declare) -> Any:
        """Signed with this host's key; done when it is final. Raises Misuse when the contract refuses, Unavailable when
        it is not known what came of it."""


class Declarations:
    def __init__(
        self,
        host: str,
        key: Identity,
        chain_id: bytes,
        chain: Chain,
        machine: Custody,
        step: Callable[[Event], None],
        send: Callable[[str, HandoffMessage], None],
        parcels: Callable[[bytes], tuple[Parcel, ...]],
        was_key_of: Callable[[str, bytes], bool],
    ) -> None:
        """`parcels(transfer)`: of inert copies here, with the manifests that the source signed."""
        self._host, self._key, self._chain_id, self._chain = host, key, chain_id, chain
        self._machine, self._step, self._send = machine, step, send
        self._parcels, self._was_key_of = parcels, was_key_of
        self._asked: dict[tuple[str, bytes], Statement] = {}  # by asker and transfer: what this host may sign
        self._answers: dict[bytes, dict[str, bytes | str]] = {}  # transfer -> host -> signature, or objection
        self._heard = asyncio.Event()
        self._count = 0  # of declarations that the machine knows
        self._unopened = set(machine.arriving)  # transfers that a restart has still to open again

    # The host that has the copies

    async def declare(self, agent: str, waiting: float) -> None:
        """Has the inert copies of the handoff by which `agent` came here declared to be the agents. Returns when they
        are in custody here. Raises Misuse with a host's objection, Unavailable with the names of those that did not
        answer within `waiting` seconds."""
        transfer = self._machine.arriving_by.get(agent)
        held = None if transfer is None else self._machine.arriving[transfer]
        if transfer is None or held is None or held.phase is not Phase.RECEIVED:
            raise Misuse(f"no inert copy of {agent} is on {self._host}: declare it where `status` says that one waits")
        if held.by_ledger:
            raise Misuse(f"{agent} is in held custody: the ledger says whose it is, and nobody has to declare it")
        if transfer in self._answers:
            raise Misuse(f"{agent} is being declared already; wait for what comes of it")
        self._answers[transfer] = {}
        try:
            signatures = await self._canvass(transfer, held.peer, held.cargo, waiting)
            copies = self._statement(transfer, held.peer, self._host, held.cargo).copies
            await self._chain.declare(Declare(transfer, held.peer, self._host, copies, signatures))
        finally:
            del self._answers[transfer]
        self.follow()

    async def _canvass(
        self, transfer: bytes, source: str, cargo: tuple[Cargo, ...], waiting: float
    ) -> tuple[tuple[str, bytes], ...]:
        """Every other host's signature. A host that joins meanwhile is asked too."""
        manifests = tuple(parcel.manifest for parcel in self._parcels(transfer))
        question = Canvass(transfer, source, cargo, manifests)
        ends = asyncio.get_running_loop().time() + waiting
        while True:
            if transfer not in self._machine.arriving:
                raise Misuse(f"{source} has spoken: what became of the handoff is known, and nothing is lost")
            needed = self._chain.signers()
            said = codec.encode(self._statement(transfer, source, self._host, cargo))
            signed, missing = self._sort(transfer, needed, said)
            if not missing:
                return signed
            if asyncio.get_running_loop().time() >= ends:
                raise Unavailable(
                    f"not signed by {', '.join(missing)}: every host of the consortium has to say that it has nothing "
                    "of the agent. Start them, or have the consortium revoke those that are gone for good",
                    retry_after=waiting,
                )
            for host in missing:
                self._send(host, question)
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), ASK_EVERY)

    def _sort(
        self, transfer: bytes, needed: Mapping[str, bytes | None], said: bytes
    ) -> tuple[tuple[tuple[str, bytes], ...], list[str]]:
        """Signatures that hold, and the hosts whose are missing. Raises Misuse for an objection."""
        signed, missing, answers = [], [], self._answers[transfer]
        for host, key in needed.items():
            answer = answers.get(host)
            if key is None:
                raise Misuse(f"{host} is suspended, and may come back: reinstate or revoke it first")
            if isinstance(answer, str):
                raise Misuse(f"{host} objects: {answer}")
            if answer is not None and identity.verify(key, DOMAIN, said, answer):
                signed.append((host, answer))
            else:  # none yet, or its chain was behind
                missing.append(host)
        return tuple(signed), missing

    def receive(self, host: str, message: HandoffMessage) -> bool:
        """True when that was all; else the machine is to hear it. Raises PeerFault for what must not be sent."""
        match message:
            case Forswear() | Object():
                self._answered(host, message)
                return True
            case Canvass() if reason := self._unfit(host, message):
                self._send(host, Object(message.transfer, reason))
                return True
        return False

    def _answered(self, host: str, message: Forswear | Object) -> None:
        answers = self._answers.get(message.transfer)
        if answers is not None:
            answers[host] = message.signature if isinstance(message, Forswear) else message.reason
            self._heard.set()

    # A host that is asked

    def _unfit(self, host: str, asked: Canvass) -> str | None:
        """Why this host does not swear, whatever it has. Raises PeerFault for a question that must not be asked: only
        who shows that the source offered it these agents may bind others by an oath."""
        cargo = asked.cargo
        if not 0 < len(cargo) == len(asked.manifests) <= MAX_COPIES or len({load.agent for load in cargo}) != len(
            cargo
        ):
            raise PeerFault(host, "asked about a loss without naming each agent, once")
        for load, raw in zip(cargo, asked.manifests, strict=True):
            birth = self._shown(host, asked, load, raw)
            now = self._chain.find(subject_of(birth.owner, birth.agent))
            if load.held or (now is not None and now.host):
                return f"{load.agent} is in held custody: the ledger says whose it is"
        self._asked[host, asked.transfer] = self._statement(asked.transfer, asked.source, host, cargo)
        return None

    def _shown(self, host: str, asked: Canvass, load: Cargo, raw: bytes) -> Birth:
        signed = codec.decode(raw, Signed, host)
        if not self._was_key_of(asked.source, signed.signer):
            raise PeerFault(host, f"asked about {load.agent}, with a manifest that {asked.source[:63]} never signed")
        manifest = codec.decode(signed.verify(MANIFEST_DOMAIN, host), Manifest, host)
        shown = manifest.chain, manifest.transfer, manifest.source, manifest.destination, manifest.agent, manifest.epoch
        if shown != (self._chain_id, asked.transfer, asked.source, host, load.agent, load.epoch):
            raise PeerFault(host, f"asked about {load.agent}, with a manifest of something else")
        birth = open_certificate(manifest.birth, host, self._chain_id, self._was_key_of)
        if birth.agent != load.agent:
            raise PeerFault(host, f"asked about {load.agent}, with another agent's birth certificate")
        return birth

    def signed(self, to: str, message: Forswear) -> Forswear:
        """With this host's signature: FORSWORN is durable."""
        said = self._asked.pop((to, message.transfer), None)
        return message if said is None else replace(message, signature=said.sign(self._key))

    def _statement(self, transfer: bytes, source: str, destination: str, cargo: Iterable[Cargo]) -> Statement:
        copies = tuple(
            Copy(agent_digest(load.agent), load.epoch, self._since(load.agent)) for load in fresh(tuple(cargo))
        )
        return Statement(self._chain_id, transfer, source, destination, copies)

    def _since(self, agent: str) -> int:
        found = self.of(agent)
        return 0 if found is None else found.epoch

    # The chain

    def of(self, agent: str) -> Declaration | None:
        """The last one, as this host's chain has it."""
        return self._chain.declaration(agent_digest(agent))

    def follow(self) -> bool:
        """Tells the machine what is new, and says whether anything is. Call it for every block, and at a start before
        any agent runs."""
        count, self._count = self._count, self._chain.declarations()
        if count == self._count:
            return False
        self._tell([*self._machine.agents, *self._machine.arriving_by])
        return True

    def opened(self, transfer: bytes) -> None:
        """After a restart: its copies are there again, and a declaration of them counts."""
        self._unopened.discard(transfer)
        self._tell([agent for agent, other in self._machine.arriving_by.items() if other == transfer])

    def remind(self) -> None:
        """What was on its way here when its declaration came may be done with by now."""
        if self._count:
            self._tell([*self._machine.leaving_by, *self._machine.arriving_by])

    def _tell(self, agents: Iterable[str]) -> None:
        for agent in dict.fromkeys(agents):
            if self._machine.arriving_by.get(agent) in self._unopened:
                continue  # there is nothing yet that could be activated
            if (now := self.of(agent)) is not None:
                self._step(Lost(agent, now.epoch, now.destination, now.transfer))
