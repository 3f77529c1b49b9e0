"""What a registered host that lies can do to the mail of others: docs/mail.md names what is left to it. Each of these
lies is caught, and would not be without the rule that the broken twin leaves out."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from agentplatform import passes
from agentplatform.bulletins import Residents
from agentplatform.custody.journal import Journal
from agentplatform.mail import MAX_NUMBER, Change, Letter, Reply, Seen, Sent, Settled
from agentplatform.mailbox import Mailbox
from agentplatform.mailroom.sender import Sender
from agentplatform.messages import Outgoing
from agentplatform.parcel.manifest import MAX_EPOCH
from agentplatform.whereabouts import Located, Whereabouts
from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.links.base import Channel
from ledger.memory_disk import MemoryDisk
from tests.helpers.edge_world import World
from tests.helpers.linked_hosts import CHAIN, identity
from tests.helpers.sealing import seals

pytest_plugins = "tests.helpers.edge_fixtures"
pytestmark = pytest.mark.usefixtures("no_errors")
LIE = "a lie"
ROUNDS = 4  # of reminding, in which honest mail comes through


class Scene:
    """x on `home`, y on r, and m, which sends what it likes."""

    def __init__(self, world: World, x: str, y: str) -> None:
        self.world, self.x, self.y = world, x, y

    async def says(self, to: str, *posts: Any, channel: Channel = Channel.MAIL) -> None:
        """What m sends is its own affair: no room of it is asked."""
        for post in posts:
            self.world["m"].links.send(to, channel, codec.encode(post))
        await self.world.crank()

    async def passes_on(self, body: object) -> None:
        """x writes to y, in truth."""
        (home,) = (host for host in self.world.hosts.values() if self.x in host.carrier.residents.known)
        told = home.ask(self.x, "pass on", [self.y, body])
        for _ in range(ROUNDS):
            await self.world.crank()
            for host in self.world.hosts.values():
                host.remind()
        assert told.done()

    def read(self) -> list[object]:
        """What y has handled."""
        found: list[object] = self.world["r"].state(self.y).get("handled", [])
        return found


async def scene(home: str = "a") -> Scene:
    world = World("a", "m", "r")
    await world.boot()
    return Scene(world, await world.create(home, "x"), await world.create("r", "y"))


def forged(scene: Scene, sequence: int = 1, epoch: int = MAX_EPOCH, sender: str | None = None, **more: Any) -> Letter:
    letter = Letter(sender or scene.x, epoch, sequence, sequence - 1, scene.y, "m", "note", codec.encode(LIE))
    return replace(letter, **more)


# In the name of an agent that it does not have


async def a_letter() -> list[object]:
    on = await scene()
    await on.passes_on(1)
    await on.says("r", forged(on, 2), forged(on, 9, settled=8))
    await on.passes_on(2)
    on.world.close()
    return on.read()


async def test_a_letter_in_the_name_of_an_agent_elsewhere_is_not_taken_and_keeps_no_true_one_out() -> None:
    assert await a_letter() == [1, 2]


async def test_who_takes_letters_from_any_host_hears_the_agent_itself_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.mailroom.room.proved", lambda *_: MAX_NUMBER)
    assert await a_letter() == [1, LIE, LIE]


async def an_epoch(word: bool) -> list[object]:
    """While it has the agent, m says that its epoch is as high as can be; then it hands it over, as it must."""
    on = await scene("m")
    if word:
        await on.says("r", Residents((Located(on.x, MAX_EPOCH, "m"),)), channel=Channel.ADVERT)
    await on.says("r", forged(on))
    sender = on.world["m"].mailroom._senders[on.x]
    sender.letter(on.y, Outgoing(on.y, "note", b"", None), None)  # so that its numbers go on from the forged one
    sender._settle(sender._sent[on.y].letters[0])
    await on.world.until(on.world["m"].depart([on.x], "a"))
    await on.passes_on(1)
    on.world.close()
    return on.read()


@pytest.mark.parametrize("word", [False, True])
async def test_an_epoch_that_a_host_invents_for_its_own_agent_does_not_outlive_its_custody(word: bool) -> None:
    assert await an_epoch(word) == [LIE, 1]


async def test_a_mailbox_that_believes_any_epoch_hears_the_agent_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Mailbox.take
    monkeypatch.setattr(Mailbox, "take", lambda box, letter, *rest: take(box, letter))
    assert await an_epoch(False) == [LIE]


async def test_nor_does_one_in_the_queue_that_comes_with_the_receiver() -> None:
    on = await scene()
    box = on.world["r"].mailroom
    luggage = box.close(on.y)
    box.admit(on.y, 0, luggage, [forged(on)])
    assert luggage.senders[on.x].epoch == 0
    on.world.close()


# Answers


async def an_answer() -> object:
    """x is asked from a, and lives on r; before it can answer, m does."""
    on = await scene("r")
    asking = on.world["a"].ask(on.x, "note", 1)
    await on.world.settle()
    client = on.world["a"].mailroom.clients.name("client-a")
    await on.says("a", Reply(on.x, client, 1, "a", True, codec.encode(LIE)))
    await on.world.crank()
    on.world.close()
    return codec.decode(asking.result().body, object)


async def test_an_answer_counts_from_the_host_that_was_asked() -> None:
    assert await an_answer() == 1


async def test_who_takes_answers_from_any_host_hears_a_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.mailroom.room.may_answer", lambda *_: True)
    assert await an_answer() == LIE


# Clients


async def a_client(lie: Callable[[Scene, str], Any]) -> list[object]:
    """A client of a writes to y, m says something in its name, and it writes again."""
    on = await scene()
    for number in (1, 2):
        asking = on.world["a"].ask(on.y, "note", number)
        await on.world.crank()
        assert asking.done() or number == 2
        await on.says("r", lie(on, on.world["a"].mailroom.clients.name("client-a")))
    on.world.close()
    return on.read()


CLIENT_LIES: list[Callable[[Scene, str], Any]] = [
    lambda on, client: forged(on, 2, 0, client),
    lambda on, client: forged(on, 2, 0, client, origin="a"),
    lambda on, client: Settled(client, 9, on.y),
]


@pytest.mark.parametrize("lie", CLIENT_LIES)
async def test_nobody_speaks_for_another_hosts_client(lie: Callable[[Scene, str], Any]) -> None:
    on = await scene()
    with pytest.raises(PeerFault, match=r"^m: sent post in the name of client-a@a, a client of another host"):
        on.world["r"].mailroom.receive("m", codec.encode(lie(on, on.world["a"].mailroom.clients.name("client-a"))))
    on.world.close()
    assert await a_client(lie) == [1, 2]


async def test_a_clients_own_host_cannot_name_another_for_its_answers() -> None:
    on = await scene()
    with pytest.raises(PeerFault, match="a client of another host"):
        on.world["r"].mailroom.receive("m", codec.encode(forged(on, 1, 0, "client-m@m", origin="a")))
    on.world.close()


async def test_who_takes_a_clients_letters_from_any_host_loses_the_true_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentplatform.mailroom.room.proved", lambda *_: MAX_NUMBER)
    assert await a_client(CLIENT_LIES[0]) == [1, LIE]


# Whose place nobody knows for sure


async def a_race() -> list[object]:
    """r was just started, and m is the first to speak; x came to a from c."""
    world = World("a", "c", "m", "r")
    await world.boot()
    on = Scene(world, await world.create("c", "x"), await world.create("r", "y"))
    await world.until(world["c"].depart([on.x], "a"))
    world.crash("r")
    world.hub.cut("a", "r")
    world.hub.cut("c", "r")
    await world.boot("r")
    await on.says("r", Residents((Located(on.x, MAX_EPOCH, "m"),)), channel=Channel.ADVERT)
    world.hub.heal("a", "r")
    world.hub.heal("c", "r")
    await world.crank()
    await on.passes_on(1)
    world.close()
    return on.read()


async def test_who_speaks_first_of_an_agent_that_has_moved_is_not_believed_for_ever() -> None:
    assert await a_race() == [1]


async def test_who_believes_the_first_word_hears_the_agent_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Whereabouts, "_surer", lambda *_: False)
    assert await a_race() == []


async def two_passes() -> bool:
    """r handed x to m, and m to a; but r hears of a pass from m to c. Whether a client of r reaches x."""
    world = World("a", "c", "m", "r")
    await world.boot()
    on = Scene(world, await world.create("r", "x"), await world.create("r", "y"))
    await world.until(world["r"].depart([on.x], "m"))
    drops = world.hub.drops
    world.hub.drops = lambda source, target, channel, message: channel is Channel.ADVERT and target == "r"
    await world.until(world["m"].depart([on.x], "a"))
    world.hub.drops = drops
    false = passes.sign(CHAIN, on.x, 2, "m", "c", identity("m"))
    await on.says("r", Residents((Located(on.x, 2, "c", None, (false,)),)), channel=Channel.ADVERT)
    assert world["r"].whereabouts.host_of(on.x) == "c"
    asking = world["r"].ask(on.x, "note", 1)
    for _ in range(ROUNDS):
        await world.crank()
        world["r"].remind()
    world.close()
    return asking.done() and not asking.cancelled() and asking.result().ok


async def test_two_passes_for_one_epoch_do_not_lead_mail_astray_for_good() -> None:
    assert await two_passes()


async def test_who_does_not_hear_that_an_agent_is_not_there_asks_there_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hear = Whereabouts.hear

    def later_only(book: Whereabouts, teller: str, located: Located) -> bool:
        place = book.believed(located.agent)
        return (place is None or located.after(place)) and hear(book, teller, located)

    monkeypatch.setattr(Whereabouts, "hear", later_only)
    assert not await two_passes()


# Numbers that no disk takes


@pytest.mark.parametrize("changed", [{"sequence": 2**63, "settled": 2**63 - 1}, {"epoch": 2**63}])
async def test_a_number_that_the_journal_cannot_write_is_refused_and_does_not_end_the_host(
    changed: dict[str, int],
) -> None:
    on = await scene("m")
    with pytest.raises(PeerFault, match=r"^m: sent bytes that are no"):
        on.world["r"].mailroom.receive("m", codec.encode(forged(on, **changed)))
    await on.says("r", forged(on, MAX_NUMBER, settled=MAX_NUMBER - 1))
    assert on.read() == [LIE] and not on.world.broken
    on.world.close()
    journal = await Journal.open(MemoryDisk(), seals())
    with pytest.raises(Misuse, match="too large"):  # this is what would end it
        await journal.checkpoint(on.y, Change(None, [Seen(on.x, 2**63, 0, None)]))


async def test_an_agent_whose_numbers_a_host_has_used_up_does_not_bring_its_next_host_into_disrepute() -> None:
    on = await scene("m")
    sent: Sender = on.world["m"].mailroom._senders[on.x]
    sent._sent[on.y] = Sent(MAX_NUMBER)
    await on.world.until(on.world["m"].depart([on.x], "a"))
    await on.passes_on(1)
    assert "has no numbers left" in on.world["a"].printed_lines[0] and not on.world["r"].faults
    on.world.close()
