"""Real daemons whose agents have secrets: nothing of them is found in any file, and what they keep outlives a host."""

from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import pytest

from agentplatform import Agent, Message
from agentplatform.frontdoor.client import AgentProxy
from ledger.errors import PlatformError
from tests.helpers.local import Local, consortium, until

SECRET = token_hex(8)  # in its values, its attributes, its messages and their answers; not in its code
SHOUTED = "shouted-5d20aa"  # printed: it is found, and shows that this search finds


class Discreet(Agent):
    def on_creation(self, init: str) -> None:
        print(SHOUTED)
        self.attribute = init
        self.data.write({"small": init, "large": (init * 200_000).encode()})  # it travels as a file
        self.data.snapshot(init)

    def handle_message(self, message: Message) -> str:
        if message.kind == "tell":
            self.send(message.body, "told", self.attribute)
        self.data.put(message.kind, message.body)
        return self.attribute


def files_with(text: str, local: Local) -> list[Path]:
    files = [path for path in (local.root / "hosts").rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 20
    return [path for path in files if text.encode() in path.read_bytes()]


def moved_on(held: AgentProxy) -> set[str]:
    with suppress(PlatformError):
        return set(held.data.list())
    return set()


@pytest.mark.slow
def test_no_file_of_its_host_its_holders_or_where_it_was_has_a_secret_of_an_agent(tmp_path: Path) -> None:
    with consortium(tmp_path / "root") as local:
        east = local.host("east")
        held = east.create(Discreet, name="held", init=SECRET, custody="held")
        free = east.create(Discreet, name="free", init=SECRET)
        assert held.call("tell", free.id) == free.call("keep", SECRET) == SECRET
        assert not files_with(SECRET, local)
        free.dispatch("south")
        held.dispatch("west")
        assert free.call("keep", SECRET * 2) == held.call("keep", SECRET * 2) == SECRET
        assert list((local.root / "hosts" / "south" / "data" / "spool").iterdir())
        assert not files_with(SECRET, local)
        local.kill("south")
        local.start("south")
        assert until("it goes on", lambda: free.call("keep", SECRET * 3)) == SECRET
        assert held.data.snapshot("the last here") == 2
        local.wipe("west")
        assert until("a holder has it", lambda: moved_on(held)) == {"small", "large", "tell", "keep"}
        assert [each.note for each in held.data.snapshots()] == [SECRET, "the last here"]
        assert held.data.get("keep") == SECRET * 2 and held.host != "west"
        assert {path.name for path in files_with(SHOUTED, local)} >= {f"{held.id}.log", f"{free.id}.log"}
        assert not files_with(SECRET, local)
