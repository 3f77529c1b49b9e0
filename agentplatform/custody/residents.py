"""The agents that live on this host, their code, and the mail that travels with them."""

import asyncio
import time
from collections.abc import Callable, Iterable

import msgspec

from agentplatform.custody.copies.replication import Replication
from agentplatform.custody.journal import Journal
from agentplatform.custody.surroundings import Surroundings
from agentplatform.mail import Letter, Luggage
from agentplatform.mailroom.room import Mailroom
from agentplatform.parcel.manifest import Birth
from agentplatform.replay import Replay
from ledger.errors import Unavailable


class Resident(msgspec.Struct, frozen=True):
    birth: Birth
    certificate: bytes  # the birth certificate, encoded and signed
    since: float  # seconds since 1970


class Residents:
    def __init__(
        self,
        host: str,
        journal: Journal,
        mailroom: Mailroom,
        surroundings: Surroundings,
        replication: Replication,
        subject: Callable[[str], bytes],
    ) -> None:
        """`subject` says what an agent's residence stands under on the ledger; empty in local custody."""
        self.host = host
        self._replication, self._subject = replication, subject
        self.known: dict[str, Resident] = {}
        self._journal, self._mailroom, self._surroundings = journal, mailroom, surroundings
        self._gone: dict[str, asyncio.Future[None]] = {}  # somebody waits for these to leave
        self._code: dict[bytes, bytes] = {}  # bundles seen since the start, by digest

    def born(self, birth: Birth, certificate: bytes) -> None:
        """An agent begins its life here, and gets mail. Nobody is told so yet."""
        self._mailroom.admit(birth.agent, 0, Luggage())
        self._keep(birth, certificate, 0)

    def settle(
        self,
        birth: Birth,
        certificate: bytes,
        epoch: int,
        luggage: Luggage,
        waiting: Iterable[Letter] = (),
        replay: Replay | None = None,
    ) -> None:
        """An agent lives here from now on, and gets its mail."""
        self._mailroom.admit(birth.agent, epoch, luggage, waiting, replay)
        self.house(birth, certificate, epoch, luggage)

    def follow(self, agent: str, epoch: int, take: Callable[[Luggage], Iterable[Letter]]) -> None:
        """What was left behind at the agent's last host comes after it: letters, and the pass to here."""
        box = self._mailroom.boxes.get(agent)
        if box is None:
            return  # it sleeps, or is on its way again: who sent them sends again
        for letter in take(box.luggage):
            self._mailroom.brought(letter)
        self._surroundings.located(agent, epoch, self.host, box.luggage.trail)

    def house(self, birth: Birth, certificate: bytes, epoch: int, luggage: Luggage) -> None:
        """An agent lives here from now on."""
        self._keep(birth, certificate, epoch)
        self._surroundings.located(birth.agent, epoch, self.host, luggage.trail)

    def _keep(self, birth: Birth, certificate: bytes, epoch: int) -> None:
        self.known[birth.agent] = Resident(birth, certificate, time.time())
        if subject := self._subject(birth.agent):
            self._replication.begin(birth, epoch, subject)

    def forget(self, agent: str) -> None:
        self.known.pop(agent, None)
        self._replication.end(agent)
        self._mailroom.remove(agent)
        if (gone := self._gone.pop(agent, None)) is not None:
            gone.set_result(None)

    def gone(self, agent: str) -> "asyncio.Future[None] | None":
        """Done when the agent does not live here any more; None for one that does not now."""
        if agent not in self.known:
            return None
        return self._gone.setdefault(agent, asyncio.get_running_loop().create_future())

    def keep_code(self, digest: bytes, code: bytes) -> None:
        if digest not in self._code:
            self._code[digest] = code
            self._journal.put_code(digest, code)

    async def code_of(self, birth: Birth) -> bytes:
        """The code bundle of an agent. Raises Unavailable when it is not here."""
        code = self._code.get(birth.code) or await self._journal.get_code(birth.code)
        if code is None:
            raise Unavailable(f"{self.host} does not have the code of {birth.agent}; it must come along")
        self._code[birth.code] = code
        return code

    def code_at_hand(self, birth: Birth) -> bytes:
        """The code bundle of an agent that lives here."""
        return self._code[birth.code]
