"""What `why` and `decide` do: they ask hosts, or read what was saved, and write files."""

from argparse import Namespace
from pathlib import Path

import msgspec

from agentplatform.console import files
from agentplatform.console.actions import Plain, which_hosts, who_knows
from agentplatform.frontdoor.client import Host
from ledger.errors import Misuse
from services.eds import alterations, whatif
from services.eds.explain import Explanation
from services.eds.picture import picture
from services.eds.policies import POLICIES
from services.eds.weights import Weights
from services.eds.whatif import Saved


def why(args: Namespace) -> list[Plain]:
    """What it waits for now; then what was decided about it. The decision stands on the host that took it, so all are
    asked. Newest first."""
    agent, asked = who_knows(args)
    found = {each["decision"]: each for host in asked for each in host.call("why", agent=agent)}
    blocked = [row for host in asked for row in host.call("blocked", agent=agent)] or _out_of_reach(agent, asked)
    decided = sorted(found.values(), key=lambda each: float(each["at"]), reverse=True)
    if (args.picture or args.save) and not decided:
        nothing = f"nothing was decided about {agent} on the hosts that were asked"
        raise Misuse(f"{nothing}; try: agentplatform decide {agent}")
    written = _written(args, msgspec.convert(decided[0], Explanation)) if args.picture or args.save else []
    return blocked + [each | {"asked": agent} for each in decided[: args.last]] + written


def _out_of_reach(agent: str, asked: list[Host]) -> list[Plain]:
    """What it waits for if its host is offline, and can say nothing itself. Who knows its custody knows best."""
    rows = [row for host in asked if (row := host.call("fence", agent=agent)) is not None]
    return sorted(rows, key=lambda row: row["custody"] is None)[:1] if len(rows) == len(asked) else []


def decide(args: Namespace) -> Plain:
    """A decision that moves nothing: as a host would take it now, or again from a saved one; with changes, also what is
    not as it was."""
    if (args.snapshot is None) == (args.about is None):
        raise Misuse("name a group or an agent, or a saved decision with --snapshot FILE")
    before, remarks = _asked(args) if args.snapshot is None else _again(args.snapshot)
    after = _otherwise(args, before)
    return {
        "decision": msgspec.to_builtins(after) | {"columns": after.columns, "rows": after.rows()},
        "differs": whatif.differences(before, after),
        "changed": after is not before,
        "remarks": remarks,
        "files": _written(args, after),
    }


def _asked(args: Namespace) -> tuple[Explanation, list[str]]:
    """Of the first host that decides for it."""
    refusals: list[Misuse] = []
    for host in which_hosts(args):
        try:
            return msgspec.convert(host.call("dry_run", about=args.about), Explanation), []
        except Misuse as error:
            refusals.append(error)
    raise refusals[0]


def _again(file: Path) -> tuple[Explanation, list[str]]:
    """The saved decision, taken by this version; it says so when that is not what was decided."""
    saved: Saved = whatif.read(files.read(file, whatif.MAX_BYTES), str(file))
    policy = whatif.policy_of(str(saved.policy.get("name")), saved.policy.get("settings", {}), POLICIES)
    again = whatif.decide(saved.snapshot, policy, saved.why, saved.decision)
    other = {agent: host for agent, host in saved.chosen.items() if again.chosen.get(agent, host) != host}
    where = ", ".join(f"{agent} on {host}" for agent, host in other.items())
    return again, [f"this version decides otherwise than it was decided then: {where}"] if other else []


def _otherwise(args: Namespace, before: Explanation) -> Explanation:
    """With what the arguments change; `before` itself when they change nothing."""
    snapshot = before.snapshot()
    changed = alterations.altered(snapshot, args.set, args.without, args.add)
    name, settings = before.policy["name"], before.policy["settings"]
    if args.policy is not None and type(whatif.policy_of(args.policy, {}, POLICIES)).__name__ != name:
        name, settings = args.policy, {}
    if args.weights is not None:
        settings = settings | {"weights": _weights(args.weights, settings.get("weights", {}))}
    solve = whatif.planner_of(args.planner)
    asked = (changed, name, settings, args.planner)
    if asked == (snapshot, before.policy["name"], before.policy["settings"], "exact"):
        return before
    return whatif.decide(changed, whatif.policy_of(name, settings, POLICIES), before.why, solve=solve)


def _weights(text: str, before: Plain) -> Plain:
    """`before` with those that are named; what is no term of equation 1 is one of the further terms."""
    weights, more = dict(before), dict(before.get("more", {}))
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            (weights if name in Weights.__struct_fields__ else more)[name] = float(number)
        except ValueError:
            raise Misuse(
                f"{part!r} is no weight; write them as network=0.7,cpu=0.1,memory=0.1,experience=0.1"
            ) from None
    return weights | {"more": more}


def _written(args: Namespace, explained: Explanation) -> list[Plain]:
    """The files that were asked for."""
    parts = [
        (args.save, "saved decision", lambda: whatif.save(explained)),
        (args.picture, "picture", lambda: picture(explained).encode()),
    ]
    wanted = [(file, what, make()) for file, what, make in parts if file is not None]
    for file, _, raw in wanted:
        files.write(file, raw)
    return [{"what": what, "file": str(file), "bytes": len(raw)} for file, what, raw in wanted]
