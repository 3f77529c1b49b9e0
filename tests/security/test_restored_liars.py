"""A host was restored, or not, and another one lies to it about its agents and its past."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform import passes
from agentplatform.custody.events import Event, Write
from agentplatform.custody.held import Held
from agentplatform.custody.messages import Life, Recall, Recalled, Sighting
from agentplatform.custody.recalls import DOMAIN, Recalls
from agentplatform.custody.records import Born, Record, Restored
from agentplatform.custody.state import replace
from ledger import codec
from ledger.errors import PeerFault
from tests.helpers.linked_hosts import CHAIN, identity

AGENT = "x-0000000000000001"
OTHERS = ("east", "south")


class Host:
    """North, with its surroundings written down."""

    def __init__(self, *records: Record) -> None:
        self.machine, _ = Held.recover("north", [Born(AGENT, 0), *records])
        self.sent: list[tuple[str, Any]] = []
        self.broken: list[str] = []
        around: Any = SimpleNamespace(
            broken=self.broken.append,
            printed=lambda *line: None,
            was_key_of=lambda host, key: identity(host).public == key,
            verdict=lambda host: SimpleNamespace(trusted=True),
        )
        ledger: Any = SimpleNamespace(find=lambda subject: None)
        done = self.done
        send = lambda *message: self.sent.append(message)  # noqa: E731
        rest = self.step, send, done, done, lambda: OTHERS, around
        self.recalls = Recalls("north", identity("north"), CHAIN, ledger, self.machine, *rest)
        self.recalls.authentic = passes.authentic(CHAIN, lambda host: identity(host).public)
        self.recalls.subject = self.subject

    async def done(self) -> None:
        pass

    async def subject(self, agent: str) -> bytes:
        return b"subject"

    def step(self, event: Event) -> None:
        self.written = [each.record for each in self.machine.step(event) if isinstance(each, Write)]

    async def hears(self, host: str, life: Life, *seen: Sighting) -> None:
        self.recalls.receive(host, Recalled(self.machine.life.nonce, life, seen))
        for _ in range(5):
            await asyncio.sleep(0)


async def begun(*records: Record) -> Host:
    host = Host(*records)
    await host.recalls.begin()
    for _ in range(5):
        await asyncio.sleep(0)
    return host


def lived(incarnation: int, by: str = "north") -> Life:
    life = Life(incarnation, b"another", identity(by).public)
    said = codec.encode((CHAIN, "north", incarnation, b"another"))
    return replace(life, signature=identity(by).sign(DOMAIN, said))


def left(by: str, host: str = "east", epoch: int = 1) -> Sighting:
    """North gave the agent to `host`, signed by somebody."""
    each = passes.sign(CHAIN, AGENT, epoch, "north", host, identity(by))
    return Sighting(AGENT, epoch, host, trail=(each,))


@pytest.mark.parametrize("life", [lived(9, by="east"), Life(9, b"n"), lived(2**29), replace(lived(9), incarnation=10)])
async def test_nobody_else_says_that_there_was_another_life(life: Life) -> None:
    for records in ((), (Restored(),)):
        host = await begun(*records)
        with pytest.raises(PeerFault, match="did not sign"):
            await host.hears("east", life)
        assert not host.broken and host.machine.life.incarnation == 1


async def test_a_life_of_another_host_is_not_taken_from_a_third_one() -> None:
    host = await begun()
    with pytest.raises(PeerFault, match="did not sign"):
        host.recalls.receive("east", Recall(lived(3), ()))
    assert host.machine.met == {}


async def test_of_honest_data_no_word_ends_anything_and_a_pass_ends_the_process() -> None:
    host = await begun()
    for liar in (left("east"), Sighting(AGENT, 7, "east"), replace(left("north"), settled=False)):
        await host.hears("east", Life(), liar)
    assert not host.broken and not host.machine.restored
    await host.hears("east", Life(), left("north"))
    assert host.machine.restored and "is an old copy" in host.broken[0]
    other = await begun()
    await other.hears("east", lived(1))
    assert other.machine.restored and "start 1 of north" in other.broken[0]


async def test_a_quarantined_agent_is_not_ended_by_a_word_without_a_pass() -> None:
    host = await begun(Restored())
    await host.hears("south", Life())
    await host.hears("east", Life(), left("east"))
    assert host.machine.here(AGENT) == 0 and host.machine.quarantined == {AGENT: False}
    (wait,) = host.recalls.waits()
    assert wait.agents == (AGENT,) and "shows no pass" in wait.why
    await host.hears("east", Life(), left("north"))
    assert host.machine.went(AGENT) == ("east", 1) and not host.machine.restored


async def test_it_waits_for_each_host_by_name_and_goes_on_above_all_lives_that_were_met() -> None:
    host = await begun(Restored())
    await host.hears("south", Life())
    (wait,) = host.recalls.waits()
    assert wait.waits_for == "east" and "restored from a backup" in wait.why
    await host.hears("east", lived(8))
    assert host.machine.life.incarnation == 9 and host.machine.quarantined  # south is asked again
    await host.hears("east", Life())
    assert host.machine.quarantined
    await host.hears("south", Life())
    assert host.machine.here(AGENT) == 1 and not host.machine.restored and not host.broken


async def test_a_disk_that_was_lost_is_no_reason_to_end() -> None:
    host = await begun()
    host.machine.agents.clear()
    await host.hears("east", lived(5))
    assert host.machine.restored and host.machine.life.incarnation == 6 and not host.broken
