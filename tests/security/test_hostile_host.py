"""What a registered host can do to an honest one over its link: be heard, refused, and in the end cut off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from agentplatform.bulletins import Residents
from agentplatform.exchange import MAX_FAULTS, MAX_MESSAGE
from agentplatform.following import groups_here
from agentplatform.kinds import User
from agentplatform.whereabouts import Located
from agents.counter import Counter
from ledger import codec, genesisfile, keyfile
from ledger.links.base import Channel
from ledger.links.tls import TlsLinks
from services.eds.rules import Group
from tests.helpers.local import PATIENCE, Local, consortium, until

VICTIM = "victim-0123456789abcdef"


@asynccontextmanager
async def mallory(local: Local) -> AsyncIterator[TlsLinks]:
    """A registered host that runs no daemon of ours: its key, and whatever it likes to send."""
    home = local.home("mallory")
    genesis = genesisfile.read(home.genesis)
    links = TlsLinks("mallory", keyfile.load(home.host_key), genesis.chain_id(), home.settings().listen)
    links.admit({each.host: each for organisation in genesis.organisations for each in organisation.hosts})
    await links.start()
    try:
        await asyncio.to_thread(until, "there is a link to anna", lambda: "anna" in links.up())
        yield links
    finally:
        await links.stop()


def bulletin(*located: Located) -> bytes:
    return codec.encode(Residents(located))


async def test_lies_about_whereabouts_do_not_move_what_lives_here(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", "anna", "mallory", start=("anna",), light=True) as local:
        anna = local.host("anna")
        counter = anna.create(Counter, init=1)
        async with mallory(local) as links:
            links.send("anna", Channel.ADVERT, bulletin(Located(counter.id, 99, "mallory")))
            links.send("anna", Channel.ADVERT, codec.encode(["residents", [["counter", 1, "mallory"]]]))
            links.send("anna", Channel.ADVERT, codec.encode(["heard", "nonsense"]))
            theirs = "theirs-0123456789abcdef"
            links.send("anna", Channel.ADVERT, bulletin(Located(theirs, 1, "mallory")))
            known = lambda: theirs in {row["agent"] for row in anna.call("agents")}  # noqa: E731
            await asyncio.to_thread(until, "anna heard of the last one", known)
            # The last one is known, so the others were heard before it.
            assert anna.call("resolve", agent="counter") == {"agent": counter.id, "host": "anna", "epoch": 0}
            assert counter.call("add", 1) == 2
        assert "is no agent's id" in local.log("anna")


async def test_a_host_that_goes_on_sending_nonsense_loses_its_link(tmp_path: Path) -> None:
    with consortium(tmp_path / "root", "anna", "mallory", start=("anna",), light=True) as local:
        async with mallory(local) as links:
            went_down = asyncio.Event()
            links.on_change(lambda host, up: None if up else went_down.set())
            huge = bytes(MAX_MESSAGE[Channel.ADVERT] + 1)
            for _ in range(MAX_FAULTS):
                links.send("anna", Channel.ADVERT, huge)
            async with asyncio.timeout(PATIENCE):
                await went_down.wait()
        refused = [line for line in local.log("anna").splitlines() if "was refused (fault" in line]
        assert len(refused) == 2, "one line for the first, one for the last: a flood must not fill the log"


def test_nobody_moves_the_agents_of_others_by_naming_them_in_a_group() -> None:
    def groups(*owners: bytes, in_both: bool = False) -> list[Group]:
        names = ("evil-0123456789abcdef", VICTIM)
        group = Group("together", names, user="u")
        births: Any = {name: SimpleNamespace(owner=owner, kind=None) for name, owner in zip(names, owners, strict=True)}
        births[VICTIM].kind = User("ada")
        return groups_here({names[0]: group, VICTIM: group if in_both else None}, births)

    assert [group.name for group in groups(b"a", b"a", in_both=True)] == ["together"]
    # Nor keeps another's user agent from following its user; and what one has in its luggage moves nobody else.
    alone = Group(VICTIM, (VICTIM,), user="ada")
    assert groups(b"a", b"b") == groups(b"a", b"b", in_both=True) == groups(b"a", b"a") == [alone]
