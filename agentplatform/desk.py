"""The front desk: what a caller at the front door may ask of a host, one method a verb, plain data in and out."""

import inspect
import os
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import msgspec

from agentplatform import rotation
from agentplatform.commands import read_command
from agentplatform.custody.waits import stranded, waits
from agentplatform.environment import Environment
from agentplatform.kinds import query
from agentplatform.mail import check
from agentplatform.parcel.bundle import MAX_BUNDLE_BYTES
from agentplatform.version import __version__
from agentplatform.whereabouts import only_one
from ledger import codec, keyfile
from ledger.client import Client
from ledger.contracts import records, rules
from ledger.contracts.membership import Leave
from ledger.contracts.records import RecordDoubleSigning
from ledger.contracts.rules import VoteRules
from ledger.contracts.trust import VoteJoin, VoteReinstate, VoteRevoke, VoteSuspend
from ledger.errors import Misuse
from ledger.genesis import Organisation
from services.eds.events import Event
from services.eds.rules import Group

_EVENT: Any = Event
_NEWEST = 200  # hops that are looked through
_TELL_SECONDS = 60.0


class FrontDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment
        # Clients outlive this process, and their letters' numbers begin anew with it: so do their names.
        self._since = secrets.token_hex(4)

    async def perform(self, verb: str, arguments: dict[str, Any]) -> Any:
        """One verb. Raises Misuse for a verb or arguments that do not exist."""
        if not isinstance(verb, str) or verb not in VERBS:
            raise Misuse(f"there is no verb {verb!r}; there are: {', '.join(VERBS)}")
        method = VERBS[verb]
        try:
            inspect.signature(method).bind(self, **arguments)
            typed = {name: msgspec.convert(value, _HINTS[verb][name]) for name, value in arguments.items()}
        except (TypeError, msgspec.ValidationError) as error:
            raise Misuse(f"{verb}: {error}") from None
        return await method(self, **typed)

    # The host

    async def hello(self) -> dict[str, Any]:
        here = self._here
        return {
            "host": here.host,
            "organisation": here.settings.organisation,
            "chain": here.chain.hex(),
            "version": __version__,
            "pid": os.getpid(),
        }

    async def status(self) -> dict[str, Any]:
        here = self._here
        up = here.links.up()
        members = here.replica.members()
        return await self.hello() | {
            "uptime_s": round(time.time() - here.started_at, 1),
            "jail": here.runner.jail,
            "ledger": {
                "height": here.replica.height,
                "members": [member.host for member in members.members],
                "members_version": members.version,
                "quorum": members.quorum,
            },
            "links": {"up": sorted(up), "down": sorted(here.replica.registry().keys() - up - {here.host})},
            "agents": len(here.carrier.residents.known),
            "deactivated": len(here.carrier.dormitory.asleep),
            "blocked": self._blocked(),
            "in_doubt": [
                {
                    "transfer": transfer.hex(),
                    "agents": [load.agent for load in open_.cargo],
                    "role": role,
                    "phase": open_.phase.name.lower(),
                    "waits_for": open_.peer,
                }
                for role, transfers in (
                    ("source", here.carrier.machine.leaving),
                    ("destination", here.carrier.machine.arriving),
                )
                for transfer, open_ in transfers.items()
            ],
        }

    def _blocked(self) -> list[dict[str, Any]]:
        here, machine = self._here, self._here.carrier.machine
        found = [*waits(machine, here.keeper.frozen), *stranded(machine, here.carrier.residents.known)]
        found += here.replication.waits()
        return [{"host": here.host} | msgspec.to_builtins(wait) for wait in found]

    async def hosts(self) -> list[dict[str, Any]]:
        """Every host that the ledger names, with what is known of it."""
        here = self._here
        adverts, links, up = here.rms.adverts(), here.rms.links(), here.links.up()
        standings = here.replica.organisations().values()
        alive = here.whereabouts.alive()
        rows = []
        for standing in standings:
            for passport in standing.organisation.hosts:
                verdict = here.tms.verdict(passport.host)
                advert = adverts.get(passport.host)
                link = links.get((here.host, passport.host))
                rows.append(
                    {
                        "host": passport.host,
                        "organisation": passport.organisation,
                        "address": passport.address,
                        "trusted": verdict.trusted,
                        "reason": verdict.reason,
                        "since": standing.since,
                        "up": passport.host in up or passport.host == here.host,
                        "cpu_free": advert.resources.cpu_free if advert else None,
                        "memory_free": advert.resources.memory_free if advert else None,
                        "rtt_ms": link.rtt_ms if link else None,
                        "loss": link.loss if link else None,
                        "agents": sum(located.host == passport.host for located in alive),
                    }
                )
        return rows

    async def stop(self) -> None:
        self._here.stopping.set()

    # Agents

    async def create(self, birth: bytes, code: bytes, init: bytes, consent: bytes = b"") -> dict[str, Any]:
        if len(code) > MAX_BUNDLE_BYTES:
            raise Misuse(f"the code has {len(code)} bytes; at most {MAX_BUNDLE_BYTES} are taken")
        born = await self._here.carrier.create(birth, code, init, consent)
        self._here.note(born.agent, f"was born on {self._here.host}")
        return {"agent": born.agent}

    async def agents(self) -> list[dict[str, Any]]:
        here = self._here
        return [
            {
                "agent": located.agent,
                "name": located.agent.rpartition("-")[0],
                "host": located.host,
                "epoch": located.epoch,
                "resident": located.agent in here.carrier.residents.known,
                "state": here.carrier.state_of(located.agent),
            }
            for located in here.whereabouts.alive()
        ]

    async def resolve(self, agent: str) -> dict[str, Any]:
        found = self._here.whereabouts.resolve(agent)
        return {"agent": found, "host": self._here.whereabouts.host_of(found)}

    async def ask(self, agent: str, kind: str, body: bytes, waiting: float, client: str) -> dict[str, Any]:
        """A message to an agent anywhere, and its answer. Raises Misuse with the agent's own error."""
        found = self._here.whereabouts.resolve(agent)
        reply = await self._here.mailroom.clients.ask(f"{client}-{self._since}", found, kind, body, waiting)
        if not reply.ok:
            raise Misuse(f"{found}: {codec.decode(reply.body, str, found)}")
        return {"body": reply.body}

    async def tell(self, agent: str, kind: str, body: bytes, client: str) -> None:
        """A message that nobody waits for; it is sent again for a minute at most."""
        found = self._here.whereabouts.resolve(agent)
        check(kind, body)
        clients = self._here.mailroom.clients
        self._here.start_task(clients.tell(f"{client}-{self._since}", found, kind, body, _TELL_SECONDS))

    async def order(self, agent: str, command: bytes, waiting: float) -> dict[str, Any]:
        """Has a command performed (agentplatform.commands), wherever the agent is. If it lives here that is done on the
        word of this host's operator; elsewhere its owner's counts. The outcome: the hop of a move (empty: it is there),
        the id of a clone."""
        found = self._here.whereabouts.resolve(agent)
        order = read_command(command)
        if order.agent != found:
            raise Misuse(f"the command is for {order.agent}, not for {found}")
        known = self._here.tms.verdicts()
        if order.host and order.host not in known:
            raise Misuse(f"the ledger knows no host {order.host!r}; there are: {', '.join(known)}")
        if self._here.carrier.state_of(found) is not None:
            return await self._here.obey(found, order)
        return await self._here.commands.ask(found, command, waiting)

    async def logs(self, agent: str, lines: int = 200) -> dict[str, Any]:
        return {"lines": self._here.logbook.read(self._here.whereabouts.resolve(agent), lines)}

    async def services(
        self, service: str | None = None, version: str | None = None, owner: str | None = None
    ) -> list[dict[str, Any]]:
        """Service agents, the nearest to this host first (agentplatform.directory)."""
        return [msgspec.to_builtins(found) for found in self._here.services(query(service, version, owner))]

    # Decisions

    async def group(self, name: str, user: str, agents: list[str], rules: list[dict[str, Any]]) -> dict[str, Any]:
        """From now on these agents, all of which live here, are decided about together."""
        here = self._here
        found = [here.whereabouts.resolve(agent) for agent in agents]
        full = dict(zip(agents, found, strict=True))
        absent = [agent for agent in found if agent not in here.mailroom.boxes]
        if absent:
            raise Misuse(f"{', '.join(absent)} do not live on {here.host}; a group is formed where its agents are")
        data = {"name": name, "user": user or None, "agents": found, "rules": _with_ids(rules, full)}
        try:
            group = msgspec.convert(data, Group)
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no group: {error}") from None
        await here.mailroom.group(group)
        return {"group": name, "agents": found}

    async def event(self, event: dict[str, Any]) -> None:
        """Something happened that may call for a decision (services.eds.events; `type` says which)."""
        try:
            await self._here.happened(msgspec.convert(event, _EVENT))
        except msgspec.ValidationError as error:
            raise Misuse(f"that is no event: {error}") from None

    async def why(self, agent: str) -> list[dict[str, Any]]:
        found = self._here.whereabouts.resolve(agent)
        return [
            msgspec.to_builtins(explanation) | {"rows": explanation.rows()}
            for explanation in await self._here.deciding.eds.why(found)
        ]

    async def blocked(self, agent: str) -> list[dict[str, Any]]:
        """What this host waits for on behalf of an agent, and whom."""
        found = self._here.whereabouts.resolve(agent)
        return [row for row in self._blocked() if found in row["agents"]]

    async def declare_lost(self, agent: str, waiting: float) -> dict[str, Any]:
        """The host from which an inert copy of an agent came here is lost for good: the copy is the agent from now on,
        if every other host signs within `waiting` seconds (custody.declarations)."""
        carrier = self._here.carrier
        found = [each for each in carrier.machine.arriving_by if agent in (each, each.rpartition("-")[0])]
        chosen = found[0] if found else self._here.whereabouts.resolve(agent)
        if len(found) > 1:
            raise Misuse(f"{agent!r} may be any of {', '.join(found)}; give the whole id")
        await carrier.declarations.declare(chosen, waiting)
        await carrier.written()
        declared = carrier.declarations.of(chosen)
        assert declared is not None  # it is final
        text = f"goes on here at epoch {declared.epoch}: {declared.source} was declared lost"
        self._here.note(chosen, text)
        return {"agent": chosen, "host": self._here.host, "lost": declared.source, "epoch": declared.epoch}

    async def hops(self, agent: str | None = None) -> list[dict[str, Any]]:
        found = None if agent is None else self._here.whereabouts.resolve(agent)
        return await self._here.hops.newest(_NEWEST, found)

    # Trust

    async def trust(self) -> dict[str, Any]:
        replica = self._here.replica
        return {
            "height": replica.height,
            "organisations": [
                {
                    "name": name,
                    "status": standing.status,
                    "reason": standing.reason,
                    "since": standing.since,
                    "hosts": [passport.host for passport in standing.organisation.hosts],
                }
                for name, standing in replica.organisations().items()
            ],
            "proposals": [
                {
                    "kind": proposal.kind,
                    "organisation": proposal.organisation,
                    "votes": [msgspec.to_builtins(vote) for vote in proposal.votes],
                }
                for proposal in replica.proposals()
            ],
        }

    async def ledger(self) -> dict[str, Any]:
        replica = self._here.replica
        header, members = replica.best.header, replica.members()
        return {
            "chain": replica.chain_id.hex(),
            "name": self._here.genesis.name,
            "height": header.height,
            "state_root": header.state_root.hex(),
            "members": [member.host for member in members.members],
            "members_version": members.version,
        }

    async def ledger_export(self, key: bytes) -> dict[str, Any]:
        """What proves the value of a key of the state, or its absence, to anyone (ledger.light.Export)."""
        replica = self._here.replica
        return {"export": (await replica.export(replica.prove(key))).encode()}

    async def ledger_evidence(self) -> dict[str, Any]:
        """Who was seen here to sign twice, for anyone to check."""
        return {"export": (await self._here.replica.evidence()).encode()}

    async def record_evidence(self) -> list[dict[str, Any]]:
        """Puts what was seen here of double signing on the chain, where it is checked; what stands there stays."""
        here, rows = self._here, []
        for evidence in (await here.replica.evidence()).evidence:
            digest = records.evidence_digest(evidence)
            found = records.blame(here.replica.state, evidence.host, digest)
            if found is None or not found.proven:
                await here.client.call("records", RecordDoubleSigning(evidence))
                found = records.blame(here.replica.state, evidence.host, digest)
            height = None if found is None else found.height
            rows.append({"host": evidence.host, "evidence": digest.hex(), "height": height})
        return rows

    async def vote_rules(self, version: int, height: int, reason: str) -> dict[str, Any]:
        """This host's organisation votes that blocks follow the rules of `version` from `height` on."""
        voter = Client(self._here.replica, keyfile.load(self._here.home.organisation_key))
        receipt = await voter.call("rules", VoteRules(version, height, reason))
        decided = rules.rules(self._here.replica.state).upcoming
        passed = decided is not None and (decided.version, decided.height) == (version, height)
        return {"height": receipt.height, "status": "decided" if passed else "proposed"}

    async def vote_revoke(self, organisation: str, reason: str) -> dict[str, Any]:
        """This host's organisation votes to end another's membership."""
        name = self._organisation(organisation)
        return await self._vote(VoteRevoke(name, reason), name)

    async def vote_suspend(self, organisation: str, reason: str) -> dict[str, Any]:
        """This host's organisation votes to take another's seat and trust, until a vote reinstates it."""
        name = self._organisation(organisation)
        return await self._vote(VoteSuspend(name, reason), name)

    async def vote_reinstate(self, organisation: str, reason: str) -> dict[str, Any]:
        name = self._organisation(organisation)
        return await self._vote(VoteReinstate(name, reason), name)

    async def leave(self, reason: str) -> dict[str, Any]:
        """This host's organisation leaves the consortium for ever."""
        return await self._vote(Leave(reason), self._here.settings.organisation, "membership")

    async def rotate_key(self, height: int | None = None) -> dict[str, Any]:
        """This host's organisation announces a new key of the host, from `height` on (default: the next block)."""
        here = self._here
        if here.registry.key_of(here.host) != here.identity.public:
            raise Misuse(f"{here.host} runs with a key that the chain does not have for it; start it again")
        at = await rotation.announce(here.home, here.host, here.settings.organisation, here.replica, height)
        taken = here.registry.key_of(here.host) != here.identity.public  # then it is in place (Registry.adopt_key)
        return {"host": here.host, "from": at, "height": here.replica.height, "in_place": taken}

    def _organisation(self, name: str) -> str:
        names = list(self._here.replica.organisations())
        return only_one(name, [each for each in names if each == name], "organisation")

    async def vote_join(self, organisation: dict[str, Any], reason: str) -> dict[str, Any]:
        """This host's organisation votes to admit another. Keys are hexadecimal."""
        try:
            joining = msgspec.convert(_with_keys(organisation), Organisation)
        except (msgspec.ValidationError, ValueError, KeyError, TypeError) as error:
            raise Misuse(f"that is no organisation: {error}") from None
        return await self._vote(VoteJoin(joining, reason), joining.name)

    async def _vote(self, action: Any, concerned: str, contract: str = "trust") -> dict[str, Any]:
        here = self._here
        voter = Client(here.replica, keyfile.load(here.home.organisation_key))
        receipt = await voter.call(contract, action)
        standing = here.replica.organisations().get(concerned)
        return {"height": receipt.height, "status": standing.status if standing else "proposed"}


def _with_ids(rules: list[dict[str, Any]], full: dict[str, str]) -> list[dict[str, Any]]:
    """Rules may name agents as the caller does; from here on they carry ids."""

    def widen(value: Any) -> Any:
        return [full.get(each, each) for each in value] if isinstance(value, list) else full.get(value, value)

    return [
        {key: widen(value) if key in ("agents", "agent", "on") else value for key, value in rule.items()}
        for rule in rules
    ]


def _with_keys(organisation: dict[str, Any]) -> list[Any]:
    name = organisation["name"]
    hosts = [[host["host"], name, bytes.fromhex(host["key"]), host["address"]] for host in organisation["hosts"]]
    return [name, bytes.fromhex(organisation["key"]), hosts]


VERBS: dict[str, Callable[..., Awaitable[Any]]] = {
    method.__name__: method
    for method in (
        FrontDesk.hello,
        FrontDesk.status,
        FrontDesk.hosts,
        FrontDesk.stop,
        FrontDesk.create,
        FrontDesk.agents,
        FrontDesk.resolve,
        FrontDesk.ask,
        FrontDesk.tell,
        FrontDesk.order,
        FrontDesk.logs,
        FrontDesk.services,
        FrontDesk.group,
        FrontDesk.event,
        FrontDesk.why,
        FrontDesk.blocked,
        FrontDesk.declare_lost,
        FrontDesk.hops,
        FrontDesk.trust,
        FrontDesk.ledger,
        FrontDesk.ledger_export,
        FrontDesk.ledger_evidence,
        FrontDesk.record_evidence,
        FrontDesk.vote_rules,
        FrontDesk.vote_revoke,
        FrontDesk.vote_join,
        FrontDesk.vote_suspend,
        FrontDesk.vote_reinstate,
        FrontDesk.leave,
        FrontDesk.rotate_key,
    )
}
_HINTS = {verb: get_type_hints(method) for verb, method in VERBS.items()}
