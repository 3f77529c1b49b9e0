"""How results look to people. Every function takes a console and the plain data of one verb's action."""

import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

Row = dict[str, Any]
_GIB = float(1 << 30)
_ANY_WIDTH = 10_000  # columns
_FOLDING = {"folder", "members", "links", "jail", "remark", "reason", "why", "what it does"}
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def table(title: str, columns: Sequence[str], rows: Iterable[Iterable[object]]) -> Table:
    """Only columns in _FOLDING are broken on a narrow screen. No cell is read as markup: some are a peer's words."""
    made = Table(
        title=title or None, title_justify="left", title_style="bold", header_style="dim", box=None, pad_edge=False
    )
    cells = [[cell if isinstance(cell, Text) else Text(visible(str(cell))) for cell in row] for row in rows]
    for index, column in enumerate(columns):
        folds = column in _FOLDING
        width = max(len(column), *(row[index].cell_len for row in cells), 0)
        made.add_column(column, overflow="fold", no_wrap=not folds, min_width=None if folds else width)
    for row in cells:
        made.add_row(*row)
    return made


def show(console: Console, made: Table) -> None:
    """In its whole width: on a screen that is narrower the terminal breaks the lines, and nothing is left out."""
    natural = console.measure(made, options=console.options.update(width=_ANY_WIDTH)).minimum
    made.width = natural if natural > console.width else None
    console.print(made, crop=False)


def founded(console: Console, rows: list[Row]) -> None:
    show(console, table("Founded", ("host", "folder"), ((row["host"], row["folder"]) for row in rows)))
    say(console, "Next: agentplatform start")


def started(console: Console, rows: list[Row]) -> None:
    for row in rows:
        say(console, f"{row['host']} {'runs' if row['started'] else 'ran already'} (process {row['pid']})")


def stopped(console: Console, rows: list[Row]) -> None:
    for row in rows:
        how = {None: "did not run", "word": "stopped"}.get(row["by"], f"stopped by {row['by']}")
        say(console, f"{row['host']} {how}")


def status(console: Console, rows: list[Row]) -> None:
    columns = ("host", "organisation", "process", "up for", "height", "links", "agents", "jail")
    show(console, table("Hosts of this machine", columns, map(_status_row, rows)))
    said: dict[str, list[str]] = {}
    for row in rows:
        if row["running"]:
            ledger = row["ledger"]
            members = f"{', '.join(ledger['members'])} (version {ledger['members_version']})"
            said.setdefault(members, []).append(row["host"])
    for members, hosts_of in said.items():
        say(console, f"members: {members}" + (f", as {', '.join(hosts_of)} has it" if len(said) > 1 else ""))
    for row in rows:
        if row.get("closed"):
            say(console, f"{row['host']} is {row['closed']}" + (": safe to stop" if row["closed"] == "drained" else ""))
        if row.get("endpoint"):
            say(console, f"{row['host']} takes requests on http://{row['endpoint']}")
        if row.get("disk_full"):
            say(console, f"{row['host']}: {row['disk_full']}")
        if row["running"] and row["ledger"].get("outdated"):
            say(console, f"{row['host']} moves nothing: {row['ledger']['outdated']}")
        for wait in row.get("blocked", ()):
            blocked(console, wait)


def tokens(console: Console, rows: list[Row]) -> None:
    cells = ((row["host"], row["endpoint"] or "none", row["token"]) for row in rows)
    show(console, table("", ("host", "endpoint", "token"), cells))


def _status_row(row: Row) -> Iterable[object]:
    if not row["running"]:
        how = "does not run" if row["pid"] is None else f"does not answer (process {row['pid']})"
        return (row["host"], Text(how, style="red"), *[""] * 6)
    ledger, links = row["ledger"], row["links"]
    up = f"{len(links['up'])} up" + (f", down: {', '.join(links['down'])}" if links["down"] else "")
    return (
        *(row["host"], row["organisation"], row["pid"], _duration(row["uptime_s"])),
        *(ledger["height"], up, _residents(row), row["jail"]),
    )


def _residents(row: Row) -> str:
    asleep = row.get("deactivated")
    return f"{row['agents']} ({asleep} deactivated)" if asleep else str(row["agents"])


def services(console: Console, rows: list[Row]) -> None:
    columns = ("service", "version", "agent", "host", "owner")
    shown = ([row[name] for name in columns[:-1]] + [f"{row['owner'][:16]}.."] for row in rows)
    if not rows:
        say(console, "no such service is known to the host that was asked")
        return
    show(console, table("Services", columns, shown))


def hosts(console: Console, rows: list[Row]) -> None:
    columns = ("host", "organisation", "trust", "state", "cpu free", "memory free", "rtt", "loss", "agents", "remark")
    show(console, table("Hosts of the consortium", columns, map(_host_row, rows)))


def _host_row(row: Row) -> Iterable[object]:
    trust = Text("trusted", style="green") if row["trusted"] else Text("not trusted", style="red")
    return (
        *(row["host"], row["organisation"], trust, _since(row["state"], row["offline_since"])),
        *(_or_not(row["cpu_free"], "{:.0%}"), _or_not(_gib(row["memory_free"]), "{:.1f} GiB")),
        *(_or_not(row["rtt_ms"], "{:.1f} ms"), _or_not(row["loss"], "{:.1%}")),
        *(_or_not(row["agents"], "{}"), row.get("lacking", "") if row["trusted"] else row["reason"]),
    )


def agents(console: Console, rows: list[Row]) -> None:
    lines = (
        (row["agent"], row["name"], row["host"], row["epoch"], row.get("custody") or "", _state(row)) for row in rows
    )
    show(console, table("Agents", ("agent", "name", "host", "epoch", "custody", "state"), lines))


def _state(row: Row) -> str:
    """An agent's, which its own host alone can say."""
    if row["state"] is not None:
        return str(row["state"])
    return "its host does not say" if row.get("offline_since") is None else _since("host offline", row["offline_since"])


def _since(state: str, at: float | None) -> str:
    return state if at is None else f"{state} since {time.strftime('%H:%M:%S', time.localtime(at))}"


def created(console: Console, row: Row) -> None:
    say(console, f"{row['agent']} lives on {row['host']}")


def answer(console: Console, row: Row) -> None:
    say(console, msgspec.json.encode(row["answer"]).decode())


def disposed(console: Console, row: Row) -> None:
    say(console, f"{row['agent']} has ended")


def done(console: Console, row: Row) -> None:
    say(console, f"{row['agent']} {row['done']}")


def declared(console: Console, row: Row) -> None:
    say(console, f"{row['agent']} goes on at {row['host']}, at epoch {row['epoch']}; {row['lost']} was declared lost")


def hop(console: Console, row: Row) -> None:
    if not row:
        say(console, "it is there already")
        return
    show(console, hops("Hop", [row]))


def hops(title: str, rows: list[Row]) -> Table:
    columns = ("agents", "from", "to", "why", "bytes", "downtime", "record at")
    return table(title, columns, map(_hop_row, rows))


def _hop_row(row: Row) -> Iterable[object]:
    downtime = _or_not(row["downtime_ms"], "{:.1f} ms")
    height = "soon" if row["height"] is None else str(row["height"])
    return (names(row["agents"]), row["source"], row["destination"], row["why"], f"{row['bytes']:,}", downtime, height)


def names(agents: Iterable[str]) -> str:
    """Ids without their 16 hex digits."""
    return ", ".join(agent.rpartition("-")[0] or agent for agent in agents)


def blocked(console: Console, row: Row) -> None:
    say(console, f"{', '.join(row['agents'])} on {row['host']} waits for {row['waits_for']}: {row['why']}")


def logs(console: Console, row: Row) -> None:
    if not row["lines"]:
        say(console, f"{row['agent']} has printed nothing on the hosts of this machine that run")
    for each in row["lines"]:
        say(console, f"{each['host']:8} {each['line']}")


def trust(console: Console, data: Row) -> None:
    columns = ("organisation", "status", "since", "reason", "hosts")
    show(console, table(f"Trust at height {data['height']}", columns, map(_trust_row, data["organisations"])))
    for proposal in data["proposals"]:
        say(console, f"open: {msgspec.json.encode(proposal).decode()}")


def _trust_row(row: Row) -> Iterable[object]:
    status = Text(row["status"], style="green" if row["status"] == "trusted" else "red")
    return (row["name"], status, f"height {row['since']}", row["reason"], ", ".join(row["hosts"]))


def ledger(console: Console, data: Row) -> None:
    say(console, f"chain {data['name']} ({data['chain']})")
    say(console, f"height {data['height']}, members {', '.join(data['members'])} (version {data['members_version']})")
    say(console, f"state root {data['state_root']}")


def at(seconds: float) -> str:
    """A time since 1970 as people here read it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def proven(console: Console, data: Row) -> None:
    if "file" in data:
        say(console, f"{data['file']} ({data['bytes']:,} bytes) proves:")
    for proof in data["proofs"]:
        made = at(proof["timestamp"] / 1000)
        value = msgspec.json.encode(proof["value"]).decode() if proof["present"] else "nothing"
        say(console, f"at height {proof['height']} ({made}), {proof['about']}: {value}")
    for each in data["evidence"]:
        say(console, _accusation(each))
    say(console, f"It holds on chain {data['name']} ({data['chain']}). Changes of members: {data['member_changes']}.")


def evidence(console: Console, data: Row) -> None:
    for each in data["evidence"]:
        say(console, f"{_accusation(each)} (seen by {', '.join(each['seen_by'])})")
    if not data["evidence"]:
        say(console, "no member was seen to sign twice")
    for each in data["recorded"]:
        say(console, f"{each['host']}: on the chain since height {each['height']}, as evidence {each['evidence']}")
    if data["file"]:
        say(console, f"written to {data['file']}; anyone can check it: agentplatform ledger verify {data['file']}")


def backed_up(console: Console, row: Row) -> None:
    say(console, f"{row['host']}, as of {row['made']}, is in {row['file']} ({row['bytes']} bytes), without its keys")


def put_back(console: Console, row: Row) -> None:
    say(console, f"{row['host']} has the data of {row['made']}; when it runs, its agents wait for what the others know")
    for name in row["missing"]:
        say(console, f"before it starts, put its {name} into {row['folder']}: a backup has no keys")


def restored(console: Console, row: Row) -> None:
    say(console, f"{row['host']} is at height {row['height']}, and signs nothing until that is safe")


def _accusation(row: Row) -> str:
    return f"{row['host']} signed two different {row['kind']}s at height {row['height']}, view {row['view']}"


def votes(console: Console, data: Row) -> None:
    for vote in data["votes"]:
        say(console, f"{vote['host']} voted at height {vote['height']}")
    for vote in data["refused"]:
        say(console, f"{vote['host']} did not vote: {vote['why']}")
    say(console, f"{data['organisation']} is {data['status']}")


def left(console: Console, data: Row) -> None:
    say(console, f"{data['organisation']} is {data['status']} at height {data['height']}")


def rotated(console: Console, row: Row) -> None:
    host, name = row["host"], f"the new key of {row['host']}"
    if row["in_place"]:
        say(console, f"{name} counts since height {row['from']}, and is in place. The others do not hear the old one:")
        say(console, f"agentplatform stop {host}; agentplatform start {host}")
    else:
        say(console, f"{name} counts from height {row['from']} on; this is {row['height']}.")
        say(console, f"{host} puts it in place then, and is to be stopped and started: see its log, or `status`.")


def adopted(console: Console, row: Row) -> None:
    say(console, f"{row['host']} starts with its next key; the old one is {row['old']}")


def visible(text: str) -> str:
    """Control characters as people read them: what an agent printed, or a peer said, must not steer a terminal."""
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def say(console: Console, text: str) -> None:
    """Plain words, as they are: no markup, no colours of numbers, no lines broken in two."""
    console.print(visible(text), markup=False, highlight=False, soft_wrap=True)


def _or_not(value: Any, form: str) -> str:
    return "-" if value is None else form.format(value)


def _gib(count: int | None) -> float | None:
    return None if count is None else count / _GIB


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
