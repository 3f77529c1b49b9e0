"""`agentplatform drain`: empties a host and shows how far it is, or calls that off."""

import contextlib
import time
from argparse import Namespace
from collections import Counter
from typing import Any

from rich.console import Console
from rich.status import Status

from agentplatform.console import processes, render
from agentplatform.draining import ASKED_TO_GO, ASKED_TO_STOP
from agentplatform.frontdoor.client import Host, connect, homes
from ledger.errors import Misuse, Unavailable

LOOK_EVERY = 0.2  # seconds
GRACE = 45.0  # seconds after the deadline for agents in the middle of something (`immovable`), and for what is in doubt
Plain = dict[str, Any]


def run(args: Namespace) -> Plain:
    """Returns when the host is drained, or open again. Raises Unavailable when it is not, in time: then it goes on."""
    host = _reached(args)
    if args.status:
        return dict(host.call("drained"))
    console = Console(quiet=args.json, highlight=False)
    verb, done = ("open", "open") if args.cancel else ("drain", "drained")
    row = dict(host.call(verb, seconds=args.deadline))
    try:
        with console.status(_summary(row)) as status:
            row = _followed(console, status, host, row, done)
    except KeyboardInterrupt:
        name = "the drain of" if verb == "drain" else "calling agents back to"
        render.say(console, f"\n{name} {args.name} goes on; look: agentplatform drain {args.name} --status")
        if verb == "drain":
            render.say(console, f"to call it off: agentplatform drain {args.name} --cancel")
        raise
    if row["state"] != done:
        raise Unavailable(
            f"{args.name} is {row['state']} still, and goes on with that: {_left(row)}; look: agentplatform drain"
            f" {args.name} --status"
        )
    return row


def _followed(console: Console, status: Status, host: Host, row: Plain, done: str) -> Plain:
    """Tells what happens until it is done, or has taken far too long."""
    told: dict[str, str] = {}
    began, limit = time.monotonic(), row["deadline"] - row["at"] + GRACE
    while True:
        for agent, what in _happened(row).items():
            if told.get(agent) != what:
                told[agent] = what
                render.say(console, f"{agent} {what}")
        if row["state"] == done or time.monotonic() - began > limit:
            return row
        status.update(_summary(row))
        time.sleep(LOOK_EVERY)
        row = dict(host.call("drained"))


def _happened(row: Plain) -> dict[str, str]:
    """What there is to tell of each agent."""
    if row["state"] in ("open", "being opened again"):
        return {}
    told = {agent: f"went to {to}" for agent, to in row["moved"].items()}
    told |= dict.fromkeys(row["deactivated"], f"is deactivated, on the disk of {row['host']}")
    return told | {each["agent"]: f"is here still: {each['why']}" for each in row["left"] if _failed(each)}


def _failed(left: Plain) -> bool:
    return left["why"] not in ("", ASKED_TO_GO, ASKED_TO_STOP)


def show(console: Console, row: Plain) -> None:
    if row["state"] == "open":
        _show_opened(console, row)
        return
    render.say(console, f"{_summary(row)}{'; safe to stop' if row['state'] == 'drained' else ''}")
    for to, count in sorted(Counter(row["moved"].values()).items()):
        render.say(console, f"{count} went to {to}")
    if row["left"]:
        cells = ((each["agent"], each["state"], each["why"]) for each in row["left"])
        render.show(console, render.table("", ("agent", "state", "why"), cells))
    for wait in row["blocked"]:
        render.blocked(console, wait)


def _show_opened(console: Console, row: Plain) -> None:
    outcome = row["outcome"]
    if outcome is None:
        render.say(console, f"{row['host']} is open")
        return
    back, activated = len(outcome["back"]), len(outcome["activated"])
    render.say(console, f"{row['host']} is open again: {back} came back, {activated} activated")
    for agent, why in outcome["away"].items():
        render.say(console, f"{agent} did not come back: {why}")


def _summary(row: Plain) -> str:
    if row["state"] == "open":
        return f"{row['host']} is open"
    asleep = f", {len(row['asleep'])} asleep before" if row["asleep"] else ""
    counts = f"{len(row['moved'])} moved, {len(row['deactivated'])} deactivated{asleep}, {len(row['left'])} left"
    seconds = row["deadline"] - row["at"]
    time_left = f", {seconds:.0f} s to the deadline" if seconds > 0 and row["state"] != "drained" else ""
    waits = f", waits for {', '.join(sorted({each['waits_for'] for each in row['blocked']}))}" if row["blocked"] else ""
    return f"{row['host']} is {row['state']}: {counts}{time_left}{waits}"


def _left(row: Plain) -> str:
    left = [f"{each['agent']} ({each['state']}) {each['why']}".strip() for each in row["left"]]
    waits = [f"{', '.join(each['agents'])} waits for {each['waits_for']}" for each in row["blocked"]]
    return "; ".join([*left, *waits]) or f"{row['handoffs']} handoffs are not over"


# A host that cannot be asked


def _reached(args: Namespace) -> Host:
    """The host. Raises Misuse for one that is not of this machine, Unavailable with what is known of one that does not
    answer."""
    if args.name not in homes(args.root):
        known = {row["host"] for row in connect(args.host, root=args.root).call("hosts")}
        if args.name in known:
            raise Misuse(f"{args.name} is not a host of this machine: whoever operates it drains it there")
        raise Misuse(f"there is no host {args.name!r}; there are: {', '.join(sorted(known))}")
    try:
        return processes.reached(args.name, args.root)
    except Unavailable as error:
        raise Unavailable(f"{error}. {_absent(args)}") from None


def _absent(args: Namespace) -> str:
    """What the others of this machine know of it."""
    rows = []
    for name in homes(args.root).keys() - {args.name}:
        with contextlib.suppress(Unavailable):
            rows.append(connect(name, root=args.root).call("absent", host=args.name))
    if not rows:
        return "No other host of this machine runs that could say which agents it has"
    custody: dict[str, str] = {}
    for row in rows:
        for agent, kind in row["agents"].items():
            custody[agent] = kind or custody.get(agent, "custody unknown")
    agents = (
        "; ".join(f"{agent} ({kind})" for agent, kind in sorted(custody.items())) or "no agents, as far as is known"
    )
    return (
        "It cannot be drained while it is offline, which is not dead: nothing of it is started elsewhere until the"
        f" fence allows (agentplatform why AGENT). It has {agents}"
    )
