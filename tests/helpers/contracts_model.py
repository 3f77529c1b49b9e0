"""What the contracts promise, in plain words and dictionaries: who may do what, and what comes of it.

Keys are named by what `identity` makes them from. An act is a small tuple: what it is, then names and numbers; `encode`
turns it into what is signed. `refuses` says no, or None where the model has no opinion.
"""

from fractions import Fraction
from hashlib import sha256
from typing import Any

from ledger.contracts import accounts, membership, owners, residence, trust
from ledger.contracts.residence import ABORT, END, FOUND, MOVE, Going, Part, Passage, Statement
from ledger.genesis import Organisation
from ledger.links.base import Passport
from tests.helpers.founders import NAMES, identity, organisation

GRANT = 10**12
OWNER = "ann"  # of all agents
TRANSFER = bytes(16)
Act = tuple[Any, ...]


def digest(agent: str) -> bytes:
    return sha256(agent.encode()).digest()


def place(agent: str) -> bytes:
    return residence.subject(identity(OWNER).public, digest(agent))


def joining(name: str, key: str, host: str) -> Organisation:
    """An organisation that votes with the key of `key` and has one host, whose key is that of its name."""
    like = organisation(name).hosts[0]
    return Organisation(name, identity(key).public, (Passport(host, name, identity(host).public, like.address),))


def encode(act: Act, chain: bytes, model: "Model") -> tuple[str, Any]:
    """Contract and action."""
    match act:
        case ("create", to, amount):
            return "accounts", accounts.Create(identity(to).public, amount)
        case ("transfer", to, amount):
            return "accounts", accounts.Transfer(identity(to).public, amount)
        case ("join", name, key, host):
            return "trust", trust.VoteJoin(joining(name, key, host), "we know them")
        case ("revoke", name):
            return "trust", trust.VoteRevoke(name, "it lied")
        case ("suspend", name):
            return "trust", trust.VoteSuspend(name, "it may have lied")
        case ("reinstate", name):
            return "trust", trust.VoteReinstate(name, "it did not lie")
        case ("leave",):
            return "membership", membership.Leave("we stop")
        case ("rotate", name, host, key, height, by):
            proof = membership.prove_possession(identity(by), chain, name, host)
            return "membership", membership.Rotate(host, identity(key).public, height, proof)
        case ("add", name, host, by):
            passport = Passport(host, name, identity(host).public, f"127.0.0.1:{20_000 + int(host[1:])}")
            proof = membership.prove_possession(identity(by), chain, name, host)
            return "membership", membership.AddHost(passport, proof)
        case ("remove", host):
            return "membership", membership.RemoveHost(host, "it is old")
        case ("found", agent, epoch, host, by_owner, by_host):
            said = Statement(chain, FOUND, place(agent), epoch, "", host)
            signatures = said.sign(identity(by_owner), owners.DOMAIN), said.sign(identity(by_host))
            return "residence", residence.Found(identity(OWNER).public, digest(agent), epoch, host, *signatures)
        case ("move", agent, epoch, to, by_source, by_destination):
            parts = (Part(model.at(agent)[1], TRANSFER, (Going(place(agent), epoch),)),)
            passage = Passage(chain, MOVE, to, parts)
            signed = (passage.sign(identity(by_source)),), passage.sign(identity(by_destination))
            return "residence", residence.Move(to, parts, *signed)
        case ("together", going, to, by_sources, by_destination):
            of = {host: [each for each in going if model.at(each[0])[1] == host] for host, _ in by_sources}
            parts = tuple(
                Part(host, TRANSFER, tuple(Going(place(each), epoch) for each, epoch in of[host])) for host in of
            )
            passage = Passage(chain, MOVE, to, parts)
            signed = tuple(passage.sign(identity(by)) for _, by in by_sources)
            return "residence", residence.Move(to, parts, signed, passage.sign(identity(by_destination)))
        case ("abort", agent, epoch, by):
            host = model.at(agent)[1]
            said = Statement(chain, ABORT, place(agent), epoch, host, host)
            return "residence", residence.Abort(place(agent), epoch, said.sign(identity(by)))
        case ("end", agent, epoch, by):
            said = Statement(chain, END, place(agent), epoch, model.at(agent)[1], "")
            return "residence", residence.End(place(agent), epoch, said.sign(identity(by)))
        case ("hold", agent, epoch, holders):
            return "residence", residence.Hold(place(agent), epoch, holders)
        case ("rehome", agent, epoch, to, version):
            return "residence", residence.VoteRehome(place(agent), epoch, to, version)
        case ("other", contract, action):
            return contract, action
    raise AssertionError(act)


class Model:
    def __init__(self, founders: int = 4, hosts: int = 2) -> None:
        self.balance: dict[str, int] = {}
        self.nonce: dict[str, int] = {}
        self.status: dict[str, str] = {}
        self.since: dict[str, int] = {}
        self.order: list[str] = []  # of the seats, by organisation
        self.key: dict[str, str] = {}  # of an organisation or a host -> its present key
        self.hosts: dict[str, list[str]] = {}  # of an organisation, the one with the seat first
        self.owner: dict[str, tuple[str, str | None]] = {}  # of every key that was ever a host's or organisation's
        self.names: set[str] = set()  # of hosts, ever
        self.open: dict[Act, list[str]] = {}  # what is voted on -> who voted for it, in turn
        self.waiting: dict[str, list[tuple[str | None, str, int, int]]] = {}  # rotations: host, key, height, since
        self.agents: dict[str, tuple[int, str, tuple[str, ...]]] = {}  # epoch, host ("" at the end), holders
        self.rehome: dict[str, dict[str, str]] = {}  # agent -> member -> destination
        self.seats: list[tuple[str, str]] = []
        self.version = 0
        for name in NAMES[:founders]:
            self._admit(name, name, [f"{name}-{number}" for number in range(1, hosts + 1)], 0)
        self.version = 0

    # Who

    def trusted(self) -> list[str]:
        return [name for name, status in self.status.items() if status == trust.TRUSTED]

    def may_transact(self, key: str) -> bool:
        if key in self.owner:
            return self.is_active(key)
        return key in self.nonce or key == "auditor"

    def is_active(self, key: str) -> bool:
        """Whether it is the present key of somebody trusted."""
        name, host = self.owner.get(key, ("", None))
        return self.status.get(name) == trust.TRUSTED and (
            self.key[name] == key if host is None else host in self.hosts[name] and self.key[host] == key
        )

    def votes_as(self, key: str) -> str | None:
        """The organisation whose own key it is."""
        return self.owner[key][0] if self.is_active(key) and self.owner[key][1] is None else None

    def host_of(self, key: str) -> str | None:
        return self.owner[key][1] if self.is_active(key) else None

    def is_trusted_host(self, host: str) -> bool:
        return any(host in self.hosts[name] for name in self.trusted())

    def at(self, agent: str) -> tuple[int, str]:
        return self.agents[agent][:2] if agent in self.agents else (0, "")

    # What is refused

    def refuses(self, caller: str, act: Act, height: int) -> bool | None:
        """Whether the block of `height` must not have it."""
        if not self.may_transact(caller):
            return True
        match act:
            case ("create", to, amount):
                return to in self.nonce or self.balance.get(caller, 0) < amount or amount < 1
            case ("transfer", to, amount):
                return to not in self.nonce or to == caller or self.balance.get(caller, 0) < amount or amount < 1
            case ("join" | "revoke" | "suspend" | "reinstate", *_):
                return self._refuses_vote(caller, act)
            case ("leave",):
                return self.votes_as(caller) is None or len(self.trusted()) == 1
            case ("rotate", name, host, key, due, by):
                own = self.votes_as(caller) == name and (host is None or host in self.hosts[name])
                return not own or key in (*self.owner, "auditor") or by != key or not height < due <= height + 100_000
            case ("add", name, host, by):
                return self.votes_as(caller) != name or host in self.names or host in self.owner or by != host
            case ("remove", host):
                own = self.votes_as(caller)
                return own is None or host not in self.hosts[own] or len(self.hosts[own]) == 1
            case ("together", going, to, by_sources, by_destination):
                signer = dict(by_sources)
                each = [("move", agent, epoch, to, signer[self.at(agent)[1]], by_destination) for agent, epoch in going]
                return any(self._refuses_entry(caller, move) for move in each)
            case ("other", *_):
                return None
        return self._refuses_entry(caller, act)

    def _refuses_vote(self, caller: str, act: Act) -> bool:
        own, kind, name = self.votes_as(caller), act[0], act[1]
        if own is None or own in self.open.get(act, []):
            return True
        if act not in self.open and sum(votes[0] == own for votes in self.open.values()) >= 8:
            return True
        if kind == "join":
            key, host = act[2:]
            taken = {*self.owner, "auditor"} & {key, host}
            return name in self.status or host in self.names or bool(taken) or key == host
        needed = {"revoke": (trust.TRUSTED, trust.SUSPENDED), "suspend": (trust.TRUSTED,)}
        return own == name or self.status.get(name) not in needed.get(kind, (trust.SUSPENDED,))

    def _refuses_entry(self, caller: str, act: Act) -> bool:
        kind, agent, epoch = act[:3]
        if kind == "found":
            host, by_owner, by_host = act[3:]
            signed = by_owner == OWNER and self.is_trusted_host(host) and self.key[host] == by_host
            ended, resident = self.at(agent) if agent in self.agents else (-1, "")
            return bool(resident) or epoch <= ended or not signed
        now, host = self.at(agent)
        if not host or epoch != now + (kind != "hold"):
            return True
        match act:
            case ("move", _, _, to, by_source, by_destination):
                both = self.is_trusted_host(host) and self.is_trusted_host(to) and to != host
                return not both or (by_source, by_destination) != (self.key[host], self.key[to])
            case ("abort" | "end", _, _, by):
                return not self.is_trusted_host(host) or by != self.key[host]
            case ("hold", _, _, holders):
                good = all(each != host and self.is_trusted_host(each) for each in holders)
                return self.host_of(caller) != host or not good or len(set(holders)) != len(holders)
            case ("rehome", _, _, to, version):
                seat = any(caller == key and self.host_of(caller) == member for member, key in self.seats)
                held = to in self.agents[agent][2] and self.is_trusted_host(to)
                return not seat or not held or version != self.version
        raise AssertionError(act)

    # What follows

    def apply(self, caller: str, act: Act, height: int) -> None:
        """It was in the block of `height`."""
        self.nonce[caller] = self.nonce.get(caller, 0) + 1
        self.balance.setdefault(caller, 0)
        match act:
            case ("create" | "transfer", to, amount):
                self.balance[caller] -= amount
                self.balance[to] = self.balance.get(to, 0) + amount
                self.nonce.setdefault(to, 0)
            case ("join" | "revoke" | "suspend" | "reinstate", *_):
                self._vote(caller, act, height)
            case ("leave",):
                self._turn(self.owner[caller][0], trust.LEFT, height)
            case ("rotate", name, host, key, due, _):
                self.owner[key] = (name, host)
                kept = [each for each in self.waiting.get(name, []) if each[0] != host]
                self.waiting[name] = [*kept, (host, key, due, self.since[name])]
            case ("add", name, host, _):
                self._settle(name, [host])
                self._reseat()
            case ("remove", host):
                self.hosts[self.owner[caller][0]].remove(host)
                self._reseat()
            case ("found", agent, epoch, host, *_):
                self.agents[agent] = (epoch, host, ())
            case ("move", agent, epoch, to, *_):
                self._enter(agent, to)
            case ("together", going, to, *_):
                for agent, _ in going:
                    self._enter(agent, to)
            case ("abort", agent, *_):
                self._enter(agent, self.at(agent)[1])
            case ("end", agent, *_):
                self._enter(agent, "")
            case ("hold", agent, _, holders):
                self.agents[agent] = (*self.at(agent), holders)
            case ("rehome", agent, _, to, _):
                votes = self.rehome.setdefault(agent, {})
                votes[str(self.host_of(caller))] = to
                if list(votes.values()).count(to) >= (len(self.seats) + (len(self.seats) - 1) // 3) // 2 + 1:
                    self._enter(agent, to)

    def end_block(self, height: int) -> None:
        """Rotations for the next height."""
        for name, waiting in self.waiting.items():
            for host, key, due, since in list(waiting):
                if due == height + 1:
                    waiting.remove((host, key, due, since))
                    good = self.status[name] == trust.TRUSTED and self.since[name] == since
                    if good and (host is None or host in self.hosts[name]):
                        self._rotate(host or name, key)

    def _vote(self, caller: str, act: Act, height: int) -> None:
        kind, name = act[:2]
        votes = self.open.setdefault(act, [])
        votes.append(str(self.votes_as(caller)))
        others = [each for each in self.trusted() if each != name]
        if Fraction(len(votes), len(others)) <= Fraction(2, 3):
            return
        if kind == "join":
            self._admit(name, act[2], [act[3]], height)
            self.open.clear()
        else:
            turns = {"revoke": trust.REVOKED, "suspend": trust.SUSPENDED, "reinstate": trust.TRUSTED}
            self._turn(name, turns[kind], height)

    def _admit(self, name: str, key: str, hosts: list[str], height: int) -> None:
        self.key[name] = key
        self.owner[key] = (name, None)
        self.balance[key] = self.balance.get(key, 0) + GRANT
        self.nonce.setdefault(key, 0)
        self.hosts[name] = []
        self._settle(name, hosts)
        self._turn(name, trust.TRUSTED, height)

    def _settle(self, name: str, hosts: list[str]) -> None:
        for host in hosts:
            self.hosts[name].append(host)
            self.key[host], self.owner[host] = host, (name, host)
            self.names.add(host)

    def _turn(self, name: str, status: str, height: int) -> None:
        self.status[name], self.since[name] = status, height
        if name in self.order:
            self.order.remove(name)
        if status == trust.TRUSTED:
            self.order.append(name)
        self.open.clear()
        self._reseat()

    def _rotate(self, whose: str, key: str) -> None:
        old, self.key[whose] = self.key[whose], key
        if old in self.nonce:
            self.balance[key] = self.balance.get(key, 0) + self.balance[old]
            self.balance[old] = 0
            self.nonce.setdefault(key, 0)
        self._reseat()

    def _reseat(self) -> None:
        seats = [(self.hosts[name][0], self.key[self.hosts[name][0]]) for name in self.order]
        if seats != self.seats:
            self.seats, self.version = seats, self.version + 1
            self.rehome.clear()

    def _enter(self, agent: str, host: str) -> None:
        epoch, _, holders = self.agents[agent]
        self.agents[agent] = (epoch + 1, host, tuple(each for each in holders if each != host) if host else ())
        self.rehome.pop(agent, None)
