"""What each verb of the command line does. Arguments in, plain data out; nothing is printed here."""

import asyncio
import re
from argparse import Namespace
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from agentplatform import backup, consortium, rotation
from agentplatform.console import catalogue, processes
from agentplatform.endpoint import door
from agentplatform.frontdoor.client import Host, connect, homes
from agentplatform.logbook import STAMP
from agentplatform.settings import Home, private_folder
from agentplatform.ticket import Ticket
from ledger.disk import FileDisk
from ledger.errors import Misuse, Unavailable

Plain = dict[str, Any]
HOST_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,62}")


def found(args: Namespace) -> list[Plain]:
    made = consortium.found(args.root, args.hosts or consortium.COMPASS, name=args.name, first_port=args.first_port)
    return [{"host": home.folder.name, "folder": str(home.folder)} for home in made]


def start(args: Namespace) -> list[Plain]:
    return processes.start(args.root, _named(args), args.history)


def stop(args: Namespace) -> list[Plain]:
    return processes.stop(args.root, _named(args))


def status(args: Namespace) -> list[Plain]:
    """Of every host of this machine, those that do not run too."""
    rows = []
    for name in [args.host] if args.host else _known(args):
        try:
            rows.append({"running": True} | _host(args, name).call("status"))
        except Unavailable:
            daemon = processes.running(homes(args.root)[name])  # that of one that hangs is there
            rows.append({"running": False, "host": name, "pid": None if daemon is None else daemon.pid})
    return rows


def token(args: Namespace) -> list[Plain]:
    """Of the endpoints for requests, whether their hosts run or not."""
    known = homes(args.root)
    rows = []
    for name in _named(args) or _known(args):
        listen = known[name].settings().http.listen
        rows.append({"host": name, "endpoint": listen or None, "token": door.load_or_create(known[name].http_token)})
    return rows


def create(args: Namespace) -> Plain:
    agent_class = catalogue.find(args.what)
    host = _host(args)
    agent = host.create(agent_class, args.name, _json(args.init, "--init"), custody=args.custody)
    return {"agent": agent.id, "host": host.name}


def message(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    body = _json(args.body, "the body")
    if args.no_wait:
        agent.send(args.kind, body)
        return {"agent": agent.id, "answer": None}
    return {"agent": agent.id, "answer": agent.call(args.kind, body, patience=args.patience)}


def dispatch(args: Namespace) -> Plain:
    try:
        ticket = Ticket(args.to, args.deadline, args.retries, tuple(args.need))
    except ValueError as error:
        raise Misuse(str(error)) from None
    return _host(args).agent(args.agent).dispatch(ticket, patience=args.patience)


def retract(args: Namespace) -> Plain:
    return _host(args).agent(args.agent).retract(patience=args.patience)


def clone(args: Namespace) -> Plain:
    host = _host(args)
    made = host.agent(args.agent).clone(custody=args.custody, patience=args.patience)
    return {"agent": made.id, "host": made.host}


def deactivate(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    agent.deactivate(for_=args.seconds, patience=args.patience)
    return {"agent": agent.id, "done": "is deactivated"}


def activate(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    agent.activate(patience=args.patience)
    return {"agent": agent.id, "done": "runs"}


def snapshot(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    agent.snapshot(patience=args.patience)
    return {"agent": agent.id, "done": "has a checkpoint of how it is now"}


def custody(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    agent.change_custody(args.custody, patience=args.patience)
    return {"agent": agent.id, "done": f"is in {args.custody} custody"}


def declare_lost(args: Namespace) -> Plain:
    patience = args.patience + 30.0  # when all have signed, the ledger has to agree
    return dict(_host(args).call("declare_lost", patience=patience, agent=args.agent, waiting=args.patience))


def dispose(args: Namespace) -> Plain:
    agent = _host(args).agent(args.agent)
    agent.dispose()
    return {"agent": agent.id, "disposed": True}


def agents(args: Namespace) -> list[Plain]:
    """Of all hosts that are asked, each agent once: as its own host says it, else as who heard of it last."""
    best: dict[str, Plain] = {}
    for row in (row for host in which_hosts(args) for row in host.call("agents")):
        other = best.setdefault(row["agent"], row)
        if (row["state"] is not None, row["epoch"]) > (other["state"] is not None, other["epoch"]):
            best[row["agent"]] = row
    return sorted(best.values(), key=lambda row: str(row["agent"]))


def services(args: Namespace) -> list[Plain]:
    return list(_host(args).call("services", service=args.service, version=args.version, owner=args.owner))


def hosts(args: Namespace) -> list[Plain]:
    return list(_host(args).call("hosts"))


def logs(args: Namespace) -> Plain:
    """An agent's output stands where it was printed; the lines begin with their time, so they can be merged."""
    agent, asked = who_knows(args)
    lines = [
        {"host": host.name, "line": line}
        for host in asked
        for line in host.call("logs", agent=agent, lines=args.lines)["lines"]
    ]
    lines.sort(key=lambda each: str(each["line"])[:STAMP])  # stable: a host's order is kept
    return {"agent": agent, "lines": lines[-args.lines :]}


def trust(args: Namespace) -> Plain:
    return dict(_host(args).call("trust"))


def vote_revoke(args: Namespace) -> Plain:
    return votes_to_revoke(_voters(args, args.organisation), args.organisation, args.reason)


def vote_join(args: Namespace) -> Plain:
    """The file says who wants to join: name, key (hexadecimal), and hosts with host, key and address."""
    try:
        raw = args.file.read_bytes()
    except OSError as error:
        raise Misuse(f"{args.file} cannot be read: {error.strerror}") from None
    organisation = _json(raw, str(args.file))
    if not isinstance(organisation, dict):
        raise Misuse(f"{args.file} holds no JSON object with name, key and hosts")
    about = {"organisation": organisation, "reason": args.reason}
    name = str(organisation.get("name"))
    return cast_votes(_voters(args, name), "vote_join", name, about, "trusted")


def vote_suspend(args: Namespace) -> Plain:
    return _vote_on(args, "vote_suspend", "suspended")


def vote_reinstate(args: Namespace) -> Plain:
    return _vote_on(args, "vote_reinstate", "trusted")


def vote_rules(args: Namespace) -> Plain:
    about = {"version": args.version, "height": args.height, "reason": args.reason}
    return cast_votes(_voters(args, ""), "vote_rules", f"version {args.version} of the rules", about, "decided")


def _vote_on(args: Namespace, verb: str, enough: str) -> Plain:
    about = {"organisation": args.organisation, "reason": args.reason}
    return cast_votes(_voters(args, args.organisation), verb, args.organisation, about, enough)


def leave(args: Namespace) -> Plain:
    host = _host(args, args.leaver)
    outcome = host.call("leave", reason=args.reason)
    name = host.call("hello")["organisation"]
    return {"organisation": name, "status": outcome["status"], "height": outcome["height"]}


def rotate_key(args: Namespace) -> Plain:
    return dict(_host(args, args.name).call("rotate_key", height=args.at))


def back_up(args: Namespace) -> Plain:
    """Of a host that runs, or does not."""
    home = homes(args.root).get(args.name)
    if home is None:
        raise Misuse(f"there is no host {args.name!r} under {args.root}")
    made = backup.make(home, args.file)
    return {"host": args.name, "file": str(args.file), "made": made.made, "bytes": args.file.stat().st_size}


def restore(args: Namespace) -> Plain:
    """Of a host that does not run; one that is not on this machine yet is founded by it, but for its keys."""
    home = homes(args.root).get(args.name)
    if home is None:
        if not HOST_NAME.fullmatch(args.name):
            raise Misuse(f"{args.name!r} is no name of a host")
        home = Home(args.root / "hosts" / args.name)
    private_folder(home.folder)
    try:
        made = backup.restore(home, args.file, args.replace)
    finally:
        if not any(home.folder.iterdir()):
            home.folder.rmdir()
    missing = [] if home.host_key.exists() else [home.host_key.name]
    return {"host": args.name, "made": made.made, "missing": missing, "folder": str(home.folder)}


def adopt_key(args: Namespace) -> Plain:
    """For a host that does not run: puts the next key in place without having heard that the chain took it."""
    return {"host": args.name, "old": asyncio.run(_put_in_place(args))}


async def _put_in_place(args: Namespace) -> str:
    async with stopped(args) as (home, _):
        return str(rotation.put_in_place(home))


@asynccontextmanager
async def stopped(args: Namespace) -> AsyncIterator[tuple[Home, FileDisk]]:
    """The host `args.name` and its disk. Raises Misuse when there is none, or while it runs."""
    home = homes(args.root).get(args.name)
    if home is None:
        raise Misuse(f"there is no host {args.name!r} under {args.root}")
    disk = FileDisk(home.data)
    try:
        yield home, disk
    finally:
        await disk.close()


def votes_to_revoke(voters: Iterable[Host], organisation: str, reason: str) -> Plain:
    about = {"organisation": organisation, "reason": reason}
    return cast_votes(voters, "vote_revoke", organisation, about, "revoked")


def cast_votes(voters: Iterable[Host], verb: str, organisation: str, about: Plain, enough: str) -> Plain:
    """One voter after the other, until the organisation has the status `enough`: later votes would be refused. One
    whose vote is refused, since it has voted already, does not keep the others from theirs."""
    cast: list[Plain] = []
    refused: list[tuple[str, Misuse]] = []
    for host in voters:
        try:
            outcome = host.call(verb, **about)
        except Misuse as error:
            refused.append((host.name, error))
            continue
        cast.append({"host": host.name} | outcome)
        if outcome["status"] == enough:
            break
    if not cast:
        nobody = Misuse(f"nobody who may vote on {organisation} is running; say who with --as HOST")
        raise refused[0][1] if refused else nobody
    last = {key: cast[-1][key] for key in ("status", "height")}
    not_cast = [{"host": host, "why": str(error)} for host, error in refused]
    return {"organisation": organisation, **last, "votes": cast, "refused": not_cast}


def _voters(args: Namespace, organisation: str) -> list[Host]:
    if args.voters != ["all"]:
        return [_host(args, name) for name in args.voters]
    running = _running(args)
    concerned = {row["host"] for row in running[0].call("hosts") if row["organisation"] == organisation}
    return [host for host in running if host.name not in concerned]  # it has no vote on itself


def _json(text: str | bytes | None, what: str) -> Any:
    if text is None:
        return None
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Misuse(f"{what} is no JSON: {error}; a text needs quotes of its own, as in '\"hello\"'") from None


def _known(args: Namespace) -> list[str]:
    known = list(homes(args.root))
    if not known:
        raise Misuse(f"no host was founded under {args.root}; make some with: agentplatform found")
    return known


def _named(args: Namespace) -> list[str]:
    """The hosts that start and stop are about: those named, or all."""
    known = _known(args)
    names = args.hosts or ([args.host] if args.host else known)
    for name in names:
        if name not in known:
            raise Misuse(f"there is no host {name!r} under {args.root}; there are: {', '.join(known)}")
    return list(dict.fromkeys(names))


def _host(args: Namespace, name: str | None = None) -> Host:
    return processes.reached(name or args.host, args.root)


def which_hosts(args: Namespace) -> list[Host]:
    """The one that is named, or all of this machine that run."""
    return [_host(args)] if args.host else _running(args)


def who_knows(args: Namespace) -> tuple[str, list[Host]]:
    """The id of `args.agent`, and those of the hosts to ask that have heard of it: not each has, after its start."""
    asked = which_hosts(args)
    found = ((host, _resolved(host, args.agent)) for host in asked)
    first, agent = next(((host, agent) for host, agent in found if agent), (asked[0], None))
    agent = agent or first.agent(args.agent).id  # that says why nobody knows it
    return agent, [first, *(host for host in asked if host is not first and _resolved(host, agent))]


def _resolved(host: Host, agent: str) -> str | None:
    try:
        return host.agent(agent).id
    except Misuse:
        return None


def _running(args: Namespace) -> list[Host]:
    """The hosts of this machine that run; at least one, or Unavailable."""
    answering = []
    for name in _known(args):
        try:
            answering.append(connect(name, root=args.root))
        except Unavailable:
            continue
    return answering or [connect(root=args.root)]
