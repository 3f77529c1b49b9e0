"""`agentplatform group`: agents that are decided about together, as a file says."""

import tomllib
from argparse import Namespace
from pathlib import Path
from typing import Any

from rich.console import Console

from agentplatform.console import files, render
from agentplatform.console.actions import who_knows
from agentplatform.frontdoor.client import connect
from ledger.errors import Misuse
from services.eds.rules import decode_group

MAX_BYTES = 1_000_000  # of the file: beyond what 256 agents and 256 rules take
Plain = dict[str, Any]


def form(args: Namespace) -> Plain:
    """A group is formed where its agents are: at the host of the first one, which says so when others are elsewhere."""
    wanted = _read(args.file)
    agent, asked = who_knows(Namespace(**vars(args) | {"agent": wanted["agents"][0]}))
    host = connect(asked[0].call("resolve", agent=agent)["host"], root=args.root)
    made = host.call(
        "group",
        name=wanted["name"],
        user=wanted.get("user") or "",
        agents=list(wanted["agents"]),
        rules=list(wanted.get("rules", ())),
    )
    return dict(made) | {"host": host.name}


def _read(file: Path) -> Plain:
    raw = files.read(file, MAX_BYTES)
    if len(raw) > MAX_BYTES:
        raise Misuse(f"{file} has more than {MAX_BYTES} bytes; a group takes less")
    try:
        wanted = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Misuse(f"{file} is no TOML: {error}; how a group is written stands in docs/decisions.md") from None
    try:
        decode_group(wanted)
    except Misuse as error:
        raise Misuse(f"{file}: {error}") from None
    return wanted


def show(console: Console, row: Plain) -> None:
    agents = ", ".join(row["agents"])
    render.say(console, f"{row['group']} is formed on {row['host']}: {agents} are decided about together from now on")
    render.say(console, f"what would be decided now: agentplatform decide {row['group']}")
