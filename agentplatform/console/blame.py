"""`agentplatform blame`: what hosts have against others, and who was seen to sign twice."""

from argparse import Namespace
from typing import Any

from rich.console import Console

from agentplatform.console.actions import Plain, which_hosts
from agentplatform.console.render import Row, at, say, show, table

SHOWN = 5  # faults of one host that are shown when no host is named


def blame(args: Namespace) -> list[Plain]:
    """Of all running hosts of this machine, or of --host: each speaks for itself alone."""
    return [row | {"asked": args.about} for host in which_hosts(args) for row in host.call("blame", host=args.about)]


def shown(console: Console, rows: list[Row]) -> None:
    if not rows:
        say(console, "nobody was blamed by the hosts that were asked")
        return
    columns = ("host", "blamed by", "standing", "faults", "by kind", "suspected")
    show(console, table("Faults that the hosts' links brought", columns, map(_row, rows)))
    for row in rows:
        newest = row["newest"] if row["asked"] else row["newest"][:SHOWN]
        for fault in newest:
            times = f", {fault['times']} times since {at(fault['first'])}" if fault["times"] > 1 else ""
            say(
                console,
                f"{at(fault['last'])}  {row['host']} to {row['by']}, {fault['kind']}: {fault['reason']}{times}",
            )
        for proof in row["double_signing"]:
            how = f"on the chain since height {proof['height']}" if proof["height"] is not None else _NOT_YET
            say(
                console,
                f"{row['host']} was seen by {row['by']} to sign twice: evidence {proof['evidence'][:16]}, {how}",
            )


_NOT_YET = "not on the chain yet (agentplatform ledger evidence --record)"


def _row(row: Row) -> tuple[Any, ...]:
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(row["kinds"].items()))
    suspected = "" if row["suspected"] is None else at(row["suspected"])
    return row["host"], row["by"], row["standing"], row["total"], kinds, suspected
