"""`agentplatform data`: what an agent keeps, for its owner to look at and to restore."""

from argparse import Namespace
from typing import Any

import msgspec
from rich.console import Console

from agentplatform.console import processes, render
from ledger.errors import Misuse

SHOWN_BYTES = 64  # of bytes that are no text


def data(args: Namespace) -> dict[str, Any]:
    agent = processes.reached(args.host, args.root).agent(args.agent)
    match args.act:
        case "list":
            keys = agent.data.list(args.word)
            return {"agent": agent.id, "keys": [{"key": key, "bytes": size} for key, size in keys.items()]}
        case "get":
            return {"agent": agent.id, "key": args.word, "value": shown(agent.data.get(args.word))}
        case "snapshots":
            return {"agent": agent.id, "snapshots": [msgspec.structs.asdict(each) for each in agent.data.snapshots()]}
        case "snapshot":
            return {"agent": agent.id, "done": f"has snapshot {agent.data.snapshot(args.word)}"}
    if not args.word.isascii() or not args.word.isdigit():
        raise Misuse(f"{args.act} what? Give a snapshot's number: agentplatform data {args.agent} snapshots")
    getattr(agent.data, args.act)(int(args.word))
    word = "is as it was at" if args.act == "restore" else "has no more"
    return {"agent": agent.id, "done": f"{word} snapshot {args.word}"}


def shown(value: Any) -> Any:
    """Plain data as people can read it: bytes as text, if they are one, else in hexadecimal, cut off."""
    match value:
        case bytes():
            text = value.decode(errors="replace")
            if "\ufffd" not in text and text.isprintable():
                return text
            return f"{len(value)} bytes: {value[:SHOWN_BYTES].hex()}{'..' if len(value) > SHOWN_BYTES else ''}"
        case list():
            return [shown(each) for each in value]
        case dict():
            return {str(key): shown(each) for key, each in value.items()}
    return value


def show(console: Console, row: dict[str, Any]) -> None:
    if "keys" in row:
        lines = [(each["key"], each["bytes"]) for each in row["keys"]]
        _list(console, row["agent"], ("key", "bytes"), lines, "value")
    elif "snapshots" in row:
        columns = ("number", "made", "entries", "bytes", "note")
        rows = row["snapshots"]
        made = [(each["number"], render.at(each["at"]), each["entries"], each["size"], each["note"]) for each in rows]
        _list(console, row["agent"], columns, made, "snapshot")
    elif "value" in row:
        render.say(console, msgspec.json.encode(row["value"]).decode())
    else:
        render.done(console, row)


def _list(console: Console, agent: str, columns: tuple[str, ...], rows: list[tuple[Any, ...]], what: str) -> None:
    """The agent's name stands above: it may be wider than the table."""
    render.say(console, f"{agent} keeps {len(rows) or 'no'} {what}{'' if len(rows) == 1 else 's'}")
    if rows:
        render.show(console, render.table("", columns, rows))
