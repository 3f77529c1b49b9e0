"""A host's key is rotated by the command line, with real hosts."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentplatform import consortium
from agentplatform.console import processes
from agentplatform.console.cli import main
from agentplatform.frontdoor.client import homes
from ledger import keyfile

HOSTS = ["north", "east", "south", "west"]
pytestmark = pytest.mark.slow


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "root"
    consortium.found(root, HOSTS)
    try:
        processes.start(root, HOSTS)
        yield root
    finally:
        processes.stop(root, HOSTS)


@pytest.mark.timeout(180)
def test_a_host_goes_on_with_its_new_key(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def done(*argv: str) -> Any:
        code = main(["--root", str(root), "--json", *argv])
        printed = capsys.readouterr()
        assert (code, printed.err) == (0, "")
        return json.loads(printed.out)

    def linked(host: str, *others: str) -> None:
        """Waits until it is."""
        deadline = time.monotonic() + 30
        while set(done("--host", host, "status")[0]["links"]["up"]) != set(others):
            assert time.monotonic() < deadline, f"{host} has no links to {others}"

    home = homes(root)["south"]
    old = keyfile.load(home.host_key)
    assert done("trust", "rotate-key", "south")["in_place"]
    fresh = keyfile.load(home.host_key)
    assert fresh.public != old.public and not home.next_host_key.exists()
    assert main(["--root", str(root), "trust", "rotate-key", "south"]) == 2
    assert "start it again" in capsys.readouterr().err
    done("stop", "south")
    # As if it had been killed when the block was durable, and the new key not in place yet.
    home.host_key.rename(home.next_host_key)
    (home.folder / f"host.key.{old.public.hex()[:16]}").rename(home.host_key)
    assert main(["--root", str(root), "start", "south"]) == 1
    assert "the new one is in place now; start it again" in capsys.readouterr().err
    assert keyfile.load(home.host_key).public == fresh.public
    done("start", "south")
    linked("south", "north", "east", "west")
    # With north stopped, nothing is decided without the new key's vote.
    done("stop", "north")
    cast = done("trust", "vote-suspend", "north-org", "--reason", "it is away", "--as", "all")
    assert cast["status"] == "suspended"
    # Announced ahead, it is in place when the chain is there, and a host that was killed finds it so.
    height = done("ledger", "--host", "east")["height"]
    assert not done("trust", "rotate-key", "west", "--at", str(height + 3))["in_place"]
    before = keyfile.load(homes(root)["west"].host_key)
    for voter in ("east", "south"):
        done("trust", "vote-reinstate", "north-org", "--reason", "it is back", "--as", voter)
    assert keyfile.load(homes(root)["west"].host_key).public != before.public
    done("stop", "west")
    done("start", "west")
    linked("west", "east", "south")
