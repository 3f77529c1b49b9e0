"""The table of verbs: what each is called, what it takes, what it does, how its result is shown.

The command line and the shell both read this table; a new verb is one row here.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from agentplatform.agenda import MAX_SECONDS
from agentplatform.console import (
    actions,
    blame,
    decisions,
    drains,
    explained,
    groups,
    keeping,
    paths,
    proofs,
    render,
    reproduce,
)
from agentplatform.console.demo import story
from agentplatform.ticket import MAX_DEADLINE
from services.eds.planner import PLANNERS
from services.eds.policies import POLICIES

Arguments = Callable[[argparse.ArgumentParser], None]


@dataclass(frozen=True)
class Verb:
    help: str
    action: Callable[[argparse.Namespace], Any]  # -> plain data, which --json prints as it is
    show: Callable[[Console, Any], None]
    arguments: Arguments = lambda parser: None


def _found(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", nargs="*", metavar="HOST", help="names of the hosts (default: north east south west)")
    parser.add_argument("--name", default="consortium", help="name of the consortium")
    parser.add_argument("--first-port", type=int, default=0, metavar="PORT", help="first of their ports (default: any)")


def _some_hosts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("hosts", nargs="*", metavar="NAME", help="which hosts (default: all of this machine)")


def _create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "what", metavar="WHAT", help="a ready-made agent (any other name lists them), FILE.py:Class, or module:Class"
    )
    parser.add_argument("--name", help="the agent's name (default: that of the class)")
    parser.add_argument("--init", metavar="JSON", help="what on_creation is given")
    parser.add_argument("--custody", choices=("local", "held"), help="who agrees on its place (default: its class's)")


def _agent(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("agent", metavar="AGENT", help="its id, its name, or the beginning of its id")


def _data(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    acts = ("list", "get", "snapshots", "snapshot", "restore", "forget")
    parser.add_argument("act", nargs="?", choices=acts, default="list", help="default: list")
    about = "how keys begin, the key, the note, or the number of the snapshot"
    parser.add_argument("word", nargs="?", metavar="WORD", default="", help=about)


def _services(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", nargs="?", metavar="SERVICE", help="its name (default: all)")
    parser.add_argument("--version", metavar="V", help="that serves who asks for V: 1.2 is served by 1.2, 1.3, not 2.0")
    parser.add_argument("--owner", metavar="KEY", help="the owner's public key, in hexadecimal")


def _patience(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--patience", type=_seconds, default=30.0, metavar="S", help="seconds to wait (default: 30)")


def _message(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    parser.add_argument("kind", metavar="KIND", help="what the message is called")
    parser.add_argument("body", nargs="?", metavar="JSON", help="what it says")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the answer")
    _patience(parser)


def _dispatch(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    parser.add_argument("to", metavar="HOST", help="where it shall go")
    deadline = partial(_seconds, most=MAX_DEADLINE)
    parser.add_argument("--deadline", type=deadline, metavar="S", help="stay if it has not left after so many seconds")
    parser.add_argument("--retries", type=_number, default=0, metavar="N", help="try again if HOST cannot take it yet")
    parser.add_argument(
        "--need",
        action="append",
        default=[],
        metavar="WHAT",
        help="what HOST must have: a module or device (cv2, gpu), or an amount (memory>=1000000000); may be said again",
    )
    _patience(parser)


def _agent_and_patience(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    _patience(parser)


def _deactivate(parser: argparse.ArgumentParser) -> None:
    _agent_and_patience(parser)
    parser.add_argument(
        "--for",
        dest="seconds",
        type=partial(_seconds, most=MAX_SECONDS),
        metavar="S",
        help="seconds (default: until a message or `activate`)",
    )


def _clone(parser: argparse.ArgumentParser) -> None:
    _agent_and_patience(parser)
    parser.add_argument("--custody", choices=("local",), help="of the clone (default: its original's)")


def _custody(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    parser.add_argument("custody", choices=("local", "held"), metavar="CUSTODY", help="local, or held")
    _patience(parser)


def _group(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="TOML: name, agents, rules, user (docs/decisions.md)")


def _why(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    parser.add_argument("--last", type=_count, default=1, metavar="N", help="how many, newest first (default: 1)")
    _files(parser)


def _blame(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("about", nargs="?", metavar="HOST", help="all that is kept of it (default: of each a little)")


def _files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw it into a new SVG file, for any browser")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write what it rests on to a new file, for `decide`")


def _decide(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("about", nargs="?", metavar="GROUP_OR_AGENT", help="whom a running host would decide about now")
    parser.add_argument("--snapshot", type=Path, metavar="FILE", help="what `why --save` wrote; no host is asked")
    planners = ", ".join(PLANNERS)
    parser.add_argument("--planner", default="exact", metavar="NAME", help=f"another planner: {planners}")
    parser.add_argument("--policy", metavar="NAME", help=f"another policy: {', '.join(POLICIES)}")
    parser.add_argument(
        "--weights", metavar="NAME=W,..", help="what the terms weigh: network=0.7,cpu=0.1; they sum to 1"
    )
    several = partial(parser.add_argument, action="append", default=[])
    several("--set", metavar="WHAT=V", help="what if host.NAME.cpu_free=0.1, link.FROM:TO.rtt_ms=80, or the like")
    several("--without", metavar="HOST", help="what if HOST was not trusted")
    several("--add", metavar="NAME=HOST", help="what if there was a host NAME that is as HOST is")
    _files(parser)


def _logs(parser: argparse.ArgumentParser) -> None:
    _agent(parser)
    parser.add_argument("--lines", type=_count, default=200, metavar="N", help="at most so many (default: 200)")


def _drain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="a running host of this machine")
    parser.add_argument(
        "--deadline",
        type=_seconds,
        default=60.0,
        metavar="S",
        help="deactivate after so many seconds who is left; with --cancel, wait so long for agents (default: 60)",
    )
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--status", action="store_true", help="only say how far it is")
    other.add_argument("--cancel", action="store_true", help="open it again, and undo what was done")


def _start(parser: argparse.ArgumentParser) -> None:
    _some_hosts(parser)
    parser.add_argument("--history", type=Path, metavar="FOLDER", help="write what happens there, for a checker")


def _vote_on(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("organisation", metavar="ORGANISATION")
    _voters(parser)


def _vote_join(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="JSON: name, key, and hosts with host, key and address")
    _voters(parser)


def _vote_rules(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", type=_count, metavar="VERSION", help="of the rules; hosts that lack it stop there")
    parser.add_argument("height", type=_count, metavar="HEIGHT", help="the first block that is made by them")
    _voters(parser)


def _leave(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="why; it stands on the ledger")
    parser.add_argument("--as", dest="leaver", required=True, metavar="HOST", help="whose organisation leaves")


def _rotate_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="a running host of this machine, with its organisation's key")
    parser.add_argument("--at", type=_count, metavar="HEIGHT", help="from which block on (default: the next one)")


def _adopt_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="whose next key was announced; it must not run")


def _voters(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", required=True, help="why; it stands on the ledger")
    parser.add_argument(
        "--as",
        dest="voters",
        action="append",
        required=True,
        metavar="HOST",
        help="whose organisation votes; may be said again, or `all` for every running host of this machine",
    )


def _export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to write")
    about = parser.add_mutually_exclusive_group(required=True)
    about.add_argument("--hop", nargs=2, metavar=("AGENT", "EPOCH"), help="the record of a hop")
    about.add_argument("--organisation", metavar="NAME", help="an organisation's standing")
    about.add_argument("--account", metavar="KEY", help="a key's units and nonce; the key in hexadecimal")
    about.add_argument("--key", help="any key of the state: text, or hexadecimal after 0x")


def _verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="what `export` wrote; several may not contradict each other"
    )
    trusted = parser.add_mutually_exclusive_group()
    trusted.add_argument("--chain", metavar="ID", help="the chain that you trust, by its id")
    trusted.add_argument("--genesis", type=Path, metavar="FILE", help="or by its genesis (default: that of --root)")


def _evidence(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it as a file that anyone can verify")
    parser.add_argument("--record", action="store_true", help="put it on the chain: a reason that a vote can name")


def _restored(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="whose data was put back from a backup; it must not run")


def _backup(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="a host of this machine, which may run")
    parser.add_argument("file", type=Path, metavar="FILE", help="the file to write")


def _restore(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="HOST", help="whose data it is; it must not run")
    parser.add_argument("file", type=Path, metavar="FILE", help="what `backup` wrote")
    parser.add_argument("--replace", action="store_true", help="set aside what the host has now")


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--input", metavar="PATH", help="a picture, a video or a folder of pictures of one person")
    parser.add_argument("--keep", action="store_true", help="keep the hosts' folders, to look at them afterwards")


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number")
    return int(text)


def _seconds(text: str, most: float = 3600) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0, at most {most:.0f}")
    return seconds


VERBS: dict[str, Verb] = {
    "found": Verb("make a consortium of hosts on this machine", actions.found, render.founded, _found),
    "start": Verb("start hosts", actions.start, render.started, _start),
    "stop": Verb("stop hosts", actions.stop, render.stopped, _some_hosts),
    "status": Verb("how the hosts of this machine are", actions.status, render.status),
    "token": Verb("what requests over HTTP show to ask any agent", actions.token, render.tokens, _some_hosts),
    "create": Verb("start an agent", actions.create, render.created, _create),
    "message": Verb("ask an agent something", actions.message, render.answer, _message),
    "dispatch": Verb("move an agent to a host", actions.dispatch, render.hop, _dispatch),
    "retract": Verb(
        "call an agent back to this host (the one of --host)", actions.retract, render.hop, _agent_and_patience
    ),
    "clone": Verb("make another agent like it, where it is", actions.clone, render.created, _clone),
    "deactivate": Verb("set an agent aside, on the disk alone", actions.deactivate, render.done, _deactivate),
    "activate": Verb("wake it, or open it again", actions.activate, render.done, _agent_and_patience),
    "snapshot": Verb("have an agent's state written now", actions.snapshot, render.done, _agent_and_patience),
    "data": Verb(
        "what an agent keeps: list, get KEY, snapshot, snapshots, restore N, forget N",
        keeping.data,
        keeping.show,
        _data,
    ),
    "custody": Verb("have the ledger agree on its place, or no more", actions.custody, render.done, _custody),
    "dispose": Verb("end an agent", actions.dispose, render.disposed, _agent),
    "declare-lost": Verb(
        "say that the host which an agent was coming from is gone for good, and let its copy on this host go on",
        actions.declare_lost,
        render.declared,
        _agent_and_patience,
    ),
    "backup": Verb("write a host's data to a file", actions.back_up, render.backed_up, _backup),
    "restore": Verb("put a host's data back from a backup", actions.restore, render.put_back, _restore),
    "agents": Verb("which agents there are, and where", actions.agents, render.agents),
    "services": Verb("which agents offer a service, the nearest first", actions.services, render.services, _services),
    "drain": Verb("empty a host: its agents go elsewhere, or are set aside", drains.run, drains.show, _drain),
    "hosts": Verb("the hosts of the consortium, as one host sees them", actions.hosts, render.hosts),
    "group": Verb("have agents decided about together, under rules", groups.form, groups.show, _group),
    "why": Verb("why an agent was moved, or not", decisions.why, explained.why, _why),
    "decide": Verb(
        "what would be decided now, or what if: nothing moves", decisions.decide, explained.decided, _decide
    ),
    "path": Verb("where an agent has been, and what proves it", paths.trace, paths.shown, _agent),
    "logs": Verb("what an agent printed, and its tracebacks", actions.logs, render.logs, _logs),
    "blame": Verb("what hosts did wrong towards those of this machine", blame.blame, blame.shown, _blame),
    "trust": Verb("whom the consortium trusts, and votes on it", actions.trust, render.trust),
    "ledger": Verb("the chain as one host has it, proofs and evidence", proofs.ledger, render.ledger),
    "demo": Verb("the whole journey on this machine: a service that follows its user", story.run, story.show, _demo),
    "reproduce": Verb(
        "measure a paper's figures again, on this machine", reproduce.run, reproduce.show, reproduce.arguments
    ),
}

# Verbs of a verb: `agentplatform trust vote-revoke ...`.
DEEPER: dict[str, dict[str, Verb]] = {
    "trust": {
        "vote-revoke": Verb("vote to end a membership", actions.vote_revoke, render.votes, _vote_on),
        "vote-join": Verb("vote to admit an organisation", actions.vote_join, render.votes, _vote_join),
        "vote-suspend": Verb(
            "vote to take an organisation's seat and trust for a time", actions.vote_suspend, render.votes, _vote_on
        ),
        "vote-reinstate": Verb("vote to give them back", actions.vote_reinstate, render.votes, _vote_on),
        "vote-rules": Verb("vote to upgrade the rules of the chain", actions.vote_rules, render.votes, _vote_rules),
        "rotate-key": Verb("give a host a new key", actions.rotate_key, render.rotated, _rotate_key),
        "adopt-key": Verb(
            "put a new key in place that the others have taken", actions.adopt_key, render.adopted, _adopt_key
        ),
        "leave": Verb("leave the consortium, for ever", actions.leave, render.left, _leave),
    },
    "ledger": {
        "export": Verb("write what the ledger says to a file", proofs.export, render.proven, _export),
        "verify": Verb("check such files, asking nobody", proofs.verify, render.proven, _verify),
        "restored": Verb("say that a host's data is an old copy", proofs.restored, render.restored, _restored),
        "evidence": Verb("which members were seen to sign twice", proofs.evidence, render.evidence, _evidence),
    },
}
