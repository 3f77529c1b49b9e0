"""The story of the demo, step by step."""

import contextlib
import importlib
import itertools
import statistics
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from agentplatform.console import actions, catalogue, explained, render
from agentplatform.console.demo import coverage
from agentplatform.console.demo.film import Film, Shot
from agentplatform.console.demo.stage import all_hear_each_other, await_that, temporary_consortium
from agentplatform.frontdoor.client import AgentProxy, Host
from ledger.errors import PlatformError, Unavailable
from services.eds.explain import Explanation
from services.eds.picture import picture

USER = "ada"
GROUP = "ada-and-her-service"
REVOKED = "west"
REASON = "its operator lost the key"
OUTPUT = Path("demo-output")
HEAR = 30.0  # seconds until the hosts know of each other
FOLLOW = 30.0  # seconds for a decision and its hop
LINGER = 1.5  # seconds that the user stays at the end of a walk
MEASURE_EVERY = 0.5  # seconds: how often the user's device reports
RECORD = 20.0  # seconds until the record of a hop is on the ledger


def run(args: Namespace) -> dict[str, Any]:
    """Tells the story, and returns what the last line says."""
    console = Console(quiet=args.json, highlight=False)
    camera = importlib.import_module("agents.face_recognition.camera").Camera(args.input)
    try:
        with temporary_consortium(args.keep) as hosts:
            summary = Story(console, hosts, camera).tell()
            root = next(iter(hosts.values())).home.folder.parents[1]
    except KeyboardInterrupt:
        console.print("\nStopped. Nothing is left running.")
        raise
    console.print("  Everything that was started is stopped.")
    if args.keep:
        console.print(f"  Their folders are kept: agentplatform --root {root} start", markup=False, soft_wrap=True)
    return summary


def show(console: Console, summary: dict[str, Any]) -> None:
    console.print(msgspec.json.encode(summary).decode(), markup=False, highlight=False, soft_wrap=True)


class Story:
    def __init__(self, console: Console, hosts: dict[str, Host], camera: Any) -> None:
        self._console, self._hosts, self._camera = console, hosts, camera
        self._door = hosts["north"]  # whom the user's process talks to
        self._position = coverage.ACCESS_POINTS["north"]
        self._arrived = [0.0]  # seconds since 1970 at which each walk ended

    def tell(self) -> dict[str, Any]:
        self._step("1", "A consortium of four organisations on this machine")
        with self._working("the hosts are getting to know each other"):
            await_that("every host hears of every other", lambda: all_hear_each_other(self._hosts), HEAR)
        self._done("four daemons run, each with its own key, folder and replica of the ledger")
        render.hosts(self._console, self._door.call("hosts"))

        self._step("2", "A service group: an agent for the user, and face recognition")
        self._deploy()
        self._film.start()
        try:
            before = self._film.recognised("north", 0.0)
            self._done(f"north recognises {before.label!r} in the user's video")

            self._step("3", "The user moves, and the group follows")
            self._walk_to("east", coverage.ACCESS_POINTS["east"])
            self._walk_to("south", coverage.ACCESS_POINTS["south"])

            self._step("4", f"The other three vote: {REVOKED} is no longer trusted")
            self._revoke()
            self._walk_to("north", coverage.NEARLY_WEST)
            self._show_decision()
            self._force()
            self._walk_to("east", coverage.ACCESS_POINTS["east"])
        finally:
            self._film.end()

        self._step("5", "What happened")
        after = self._film.recognised("east", self._arrived[-1])
        return self._sum_up(before, after)

    def _deploy(self) -> None:
        with self._working("agents start in worker processes of north"):
            label = self._camera.label
            session = {"user": USER, "label": label}
            self._user = self._door.create(catalogue.find("user"), USER, session)
            self._service = self._door.create(catalogue.find("face-recognition"), "faces", {"tell": self._user.id})
            shots = self._camera.enrolment()
            for shot in shots:
                self._service.call("enrol", {"label": label, "picture": shot})
        self._done(f"{self._service.id} was shown {len(shots)} pictures of {label!r}; it will carry what it learned")
        self._group = [self._user.id, self._service.id]
        rules = [{"type": "atomic", "agents": self._group}]
        self._door.call("group", name=GROUP, user=USER, agents=self._group, rules=rules)
        self._done("they follow the user, and move together or not at all")
        self._film = Film(self._service, self._camera.packets())

    def _walk_to(self, expected: str, end: coverage.Position) -> None:
        """The device reports on the way and afterwards, until the group has come to `expected`."""
        name = coverage.nearest(end)
        start = self._service.host
        time.sleep(LINGER)
        way = itertools.chain(coverage.way(self._position, end), itertools.repeat(end))
        self._position = end

        def arrived() -> bool | None:
            self._report(next(way))
            pause = time.monotonic() + MEASURE_EVERY
            while time.monotonic() < pause:
                if all(AgentProxy(self._door, agent).host == expected for agent in self._group):
                    return True
                time.sleep(MEASURE_EVERY / 10)
            return None

        with self._working(f"the user walks towards {name} (emulated)"):
            await_that(f"the group follows the user from {start} to {expected}", arrived, FOLLOW)
        self._arrived.append(time.time())
        shot = self._film.recognised(expected, self._arrived[-1])
        self._done(f"the user is near {name}; the group went from {start} to {expected}, and recognises {shot.label!r}")

    def _report(self, position: coverage.Position) -> None:
        """What the user's device measures here; between the hosts it is measured, to the user it is emulated."""
        at = self._hosts[coverage.nearest(position)]
        measured = {row["host"]: row["rtt_ms"] for row in at.call("hosts") if row["rtt_ms"] is not None}
        self._door.call("event", event=coverage.event(USER, position, measured))

    def _revoke(self) -> None:
        organisation = next(row["organisation"] for row in self._door.call("hosts") if row["host"] == REVOKED)
        voters = [host for name, host in self._hosts.items() if name != REVOKED]
        with self._working("the votes go to the ledger"):
            outcome = actions.votes_to_revoke(voters, organisation, REASON)
            await_that(f"{REVOKED} is out of the registry", self._out, HEAR)
        members = ", ".join(self._door.call("status")["ledger"]["members"])
        self._done(
            f"{organisation} was {outcome['status']} at height {outcome['height']}; the members are now {members}"
        )

    def _out(self) -> bool | None:
        return next((True for row in self._door.call("hosts") if row["host"] == REVOKED and not row["trusted"]), None)

    def _show_decision(self) -> None:
        """The newest decision that moved the group: it names the revoked host and why not."""
        decision = next((each for each in self._decisions() if each.chosen != each.present), None)
        if decision is not None:
            self._console.print(f"  [dim]why not {REVOKED}, which is nearest? `agentplatform why` says:[/]")
            explained.decision(self._console, decision, only=self._service.id)
            OUTPUT.mkdir(exist_ok=True)
            path = OUTPUT / "why.svg"
            path.write_text(picture(decision), encoding="utf-8")
            self._done(f"and as a picture, for any browser: {path}")

    def _decisions(self) -> Iterator[Explanation]:
        found = [each for host in self._hosts.values() for each in host.call("why", agent=self._service.id)]
        for each in sorted(found, key=lambda each: float(each["at"]), reverse=True):
            yield msgspec.convert(each, Explanation)

    def _force(self) -> None:
        here, asked = self._service.host, time.time()
        try:
            self._service.dispatch(REVOKED)
        except PlatformError as refusal:
            self._refusals = [str(refusal)]
        else:
            raise Unavailable(f"{self._service.id} went to {REVOKED}, which is revoked: this must not happen")
        shot = self._film.recognised(here, asked)
        self._done(f"sent to {REVOKED} by force: refused ({self._refusals[0]})")
        self._done(f"it goes on at {here}, and recognises {shot.label!r}")

    def _sum_up(self, before: Shot, after: Shot) -> dict[str, Any]:
        hops = await_that("every hop is on the ledger", self._recorded, RECORD)
        shots = self._film.shots()
        render.show(self._console, render.hops("Hops", [hop | {"why": self._why(hop)} for hop in hops]))
        self._done("The walk and its radio are emulated; all else ran, and was measured, on this machine.")
        self._tell_of(shots, hops)
        picture = self._annotated(after, len(hops))
        self._done(f"picture: {picture}")
        return {
            "hosts": len(self._hosts),
            "hops": len(hops),
            "refused": len(self._refusals),
            "recognised_before": before.label,
            "recognised_after": after.label,
            "hop_ms_p50": round(statistics.median(hop["downtime_ms"] for hop in hops), 1),
            "ledger_height": self._door.call("status")["ledger"]["height"],
            "picture": str(picture),
        }

    def _recorded(self) -> list[dict[str, Any]] | None:
        """The group's hops, oldest first, when each has its record on the ledger. The host that it left tells of it."""
        hops = [hop for host in self._hosts.values() for hop in host.call("hops", agent=self._service.id)]
        complete = len(hops) >= len(self._arrived) - 1 and all(hop["height"] is not None for hop in hops)
        return sorted(hops, key=lambda hop: int(hop["epoch"])) if complete else None

    def _why(self, hop: dict[str, Any]) -> str:
        """What set off the decision that led to the hop, and what the places were worth to the agent."""
        decision = next((each for each in self._decisions() if each.at <= hop["at"]), None)
        if decision is None:
            return str(hop["why"])
        worth = {place.host: place.score for place in decision.candidates if place.agent == self._service.id}
        return f"{decision.why}, Q {worth.get(hop['source'], 0):.2f} to {worth.get(hop['destination'], 0):.2f}"

    def _tell_of(self, shots: list[Shot], hops: list[dict[str, Any]]) -> None:
        gaps = [(hop["at"] - hop["downtime_ms"] / 1000, hop["at"]) for hop in hops]
        under_way = sum(any(shot.sent < end and shot.answered > start for start, end in gaps) for shot in shots)
        longest = max(shot.answered - shot.sent for shot in shots)
        strangers = sum(bool(shot.faces) and shot.label is None for shot in shots)
        self._done(
            f"{len(shots)} frames were sent; each was answered once and in order, {under_way} of them across a hop"
        )
        self._done(f"the longest wait for an answer was {longest * 1000:.0f} ms; {strangers} frames showed a stranger")

    def _annotated(self, shot: Shot, hops: int) -> Path:
        draw = importlib.import_module("agents.face_recognition.annotate").annotate
        caption = f"{shot.label}, recognised on {shot.host} after {hops} hops\nenrolled once, on north"
        OUTPUT.mkdir(exist_ok=True)
        path = OUTPUT / "recognised.png"
        path.write_bytes(draw(shot.picture, shot.faces, caption))
        return path

    def _step(self, number: str, title: str) -> None:
        self._console.print(f"\n[bold]{number}  {title}[/]")

    def _done(self, what: str) -> None:
        self._console.print(f"  {what}", markup=False, soft_wrap=True)

    def _working(self, what: str) -> contextlib.AbstractContextManager[object]:
        return self._console.status(f"  {what} ...")
