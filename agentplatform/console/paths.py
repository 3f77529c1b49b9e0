"""`agentplatform path`: the hops of an agent, what proves each, and where they do not fit together."""

from argparse import Namespace
from collections.abc import Iterable

import msgspec
from rich.console import Console
from rich.text import Text

from agentplatform.console.actions import Plain, who_knows
from agentplatform.console.render import Row, at, say, show, table, visible
from agentplatform.path import Claim, Standing, path


def trace(args: Namespace) -> Plain:
    """From all hosts of this machine that run (or --host): the book of a hop is kept by the host that was left."""
    agent, asked = who_knows(args)
    told = [host.call("path", agent=agent) for host in asked]
    newest = max(told, key=lambda each: (int(each["epoch"]), each["host"] is None))
    claims = [msgspec.convert(claim, Claim) for each in told for claim in each["claims"]]
    standings = msgspec.convert(newest["standings"], dict[str, Standing])
    here = None if newest["host"] is None else (str(newest["host"]), int(newest["epoch"]))
    hops = [msgspec.to_builtins(hop) for hop in path(claims, standings, here)]
    return {
        "agent": agent,
        "host": newest["host"],
        "epoch": newest["epoch"],
        "hops": hops,
        "whole": all(not hop["breaks"] for hop in hops),
        "sure": all(hop["sure"] for hop in hops),
    }


def shown(console: Console, data: Row) -> None:
    where = f"is on {data['host']}" if data["host"] is not None else "has ended"
    say(console, f"{data['agent']} {where}, at epoch {data['epoch']}")
    if not data["hops"]:
        say(console, "no hop of it is known to the hosts that were asked, nor to the ledger")
        return
    columns = ("epoch", "from", "to", "when", "proved by", "then", "now")
    show(console, table("", columns, map(_row, data["hops"])))
    for hop in data["hops"]:
        for words in hop["breaks"]:
            say(console, f"epoch {hop['epoch']}: {words}")
        for more in hop["proved"][1:]:
            say(console, f"epoch {hop['epoch']} also by {more}")
    if data["whole"]:
        what = "each hop is proved" if data["sure"] else "some hops rest on one host's word"
        say(console, f"the path is without a break; {what}")


def _row(hop: Row) -> Iterable[object]:
    when = "" if hop["at"] is None else at(hop["at"])
    proof = Text(visible(hop["proved"][0]), style="" if hop["sure"] else "yellow")
    return hop["epoch"], hop["source"], hop["destination"], when, proof, hop["then"], hop["now"]
