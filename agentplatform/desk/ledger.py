"""What a caller may ask of the ledger, and what this host's organisation votes there."""

from typing import Any

import msgspec
from msgspec.structs import asdict

from agentplatform import rotation
from agentplatform.environment import Environment
from agentplatform.whereabouts import only_one
from ledger import keyfile
from ledger.client import Client
from ledger.contracts import records, rules
from ledger.contracts.membership import Leave
from ledger.contracts.records import RecordDoubleSigning
from ledger.contracts.rules import VoteRules
from ledger.contracts.trust import VoteJoin, VoteReinstate, VoteRevoke, VoteSuspend
from ledger.errors import Misuse
from ledger.genesis import Organisation
from services.tms.blame import Record


def must_be_named(here: Environment, host: str) -> None:
    """Raises Misuse for a host that the ledger never had."""
    if here.tms.verdict(host).standing == "unknown":
        raise Misuse(f"the ledger names no host {host!r:.60}; list them with: agentplatform hosts")


class LedgerDesk:
    def __init__(self, environment: Environment) -> None:
        self._here = environment

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

    async def blame(self, host: str | None = None) -> list[dict[str, Any]]:
        """What this host has against others, the newest first: what their links brought, which is its own word, and who
        was seen to sign twice, which is proven; with the height at which that stands on the chain."""
        here = self._here
        if host is not None:
            must_be_named(here, host)
        proven: dict[str, list[dict[str, Any]]] = {}
        for evidence in (await here.replica.evidence()).evidence:
            digest = records.evidence_digest(evidence)
            found = records.blame(here.replica.state, evidence.host, digest)
            row = {"evidence": digest.hex(), "height": None if found is None else found.height}
            proven.setdefault(evidence.host, []).append(row)
        kept = {record.host: record for record in here.blaming.records()}
        rows = []
        for name in [*kept, *sorted(proven.keys() - kept.keys())]:
            if host in (None, name):
                record = kept.get(name) or Record(name, {}, ())
                about = {"by": here.host, "standing": here.tms.verdict(name).standing, "total": record.total}
                about |= {"newest": [asdict(fault) for fault in record.newest], "double_signing": proven.get(name, [])}
                rows.append(asdict(record) | about)
        return rows

    async def vote_rules(self, version: int, height: int, reason: str) -> dict[str, Any]:
        """This host's organisation votes that blocks follow the rules of `version` from `height` on."""
        receipt = await self._voter().call("rules", VoteRules(version, height, reason))
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
        return only_one(name, [name] if name in self._here.replica.organisations() else [], "organisation")

    async def vote_join(self, organisation: dict[str, Any], reason: str) -> dict[str, Any]:
        """This host's organisation votes to admit another. Keys are hexadecimal."""
        try:
            joining = msgspec.convert(_with_keys(organisation), Organisation)
        except KeyError as error:
            raise Misuse(f"that is no organisation: it has no {error}") from None
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise Misuse(f"that is no organisation: {error}") from None
        return await self._vote(VoteJoin(joining, reason), joining.name)

    async def _vote(self, action: Any, concerned: str, contract: str = "trust") -> dict[str, Any]:
        here = self._here
        receipt = await self._voter().call(contract, action)
        standing = here.replica.organisations().get(concerned)
        return {"height": receipt.height, "status": standing.status if standing else "proposed"}

    def _voter(self) -> Client:
        """It signs for this host's organisation. Raises Misuse when its key is not here."""
        return Client(self._here.replica, keyfile.load(self._here.home.organisation_key))


def _with_keys(organisation: dict[str, Any]) -> list[Any]:
    name = organisation["name"]
    hosts = [[host["host"], name, bytes.fromhex(host["key"]), host["address"]] for host in organisation["hosts"]]
    return [name, bytes.fromhex(organisation["key"]), hosts]
