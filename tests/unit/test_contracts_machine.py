"""The contracts under random lives of a consortium, against a naive model; and broken ones, which this finds."""

import inspect
import random
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from ledger import codec, contracts, transaction
from ledger.block import Block, transactions_root
from ledger.certificate import COMMIT, VOTE_DOMAIN, Ballot, Certificate, Members
from ledger.chain import Chain, founding_state
from ledger.contracts import accounts, callers, claims, membership, pseudonyms, records, residence, shared, trust
from ledger.contracts.state import Overlay
from ledger.errors import Misuse, PeerFault
from ledger.identity import Signed
from ledger.merkle import Proof
from ledger.proof import StateProof
from ledger.transaction import DOMAIN, Transaction
from tests.helpers.contracts_model import OWNER, Act, Model, encode, place
from tests.helpers.founders import call, genesis, identity

GENESIS = genesis(4, hosts=2, auditor="auditor")
PEOPLE = [OWNER, "bob", "stranger", "auditor"]
AGENTS = ["a1", "a2"]
GONE = (trust.REVOKED, trust.LEFT)
# Under what a contract may write, besides the caller's account.
ROOMS: dict[str, tuple[bytes, ...]] = {
    "accounts": (b"account/",),
    "claims": (b"claims/",),
    "membership": (b"trust/", b"membership/", b"account/"),
    "pseudonyms": (b"pseudonyms/",),
    "records": (b"records/",),
    "residence": (b"residence/", b"pseudonyms/"),
    "rules": (b"rules", b"trust/"),
    "shared": (b"shared/", b"pseudonyms/"),
    "trust": (b"trust/", b"account/"),
}
QUICK = settings(
    derandomize=True, database=None, deadline=None, max_examples=8, stateful_step_count=40,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
LONG = settings(QUICK, max_examples=150, stateful_step_count=80)


class Consortium(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.chain, self.replica = Chain(GENESIS, on_append=self._appended), Chain(GENESIS)
        self.state: dict[bytes, bytes] = founding_state(GENESIS)  # what the chain tells that it keeps
        self.gone: set[bytes] = set()  # keys that were there once
        self.model = Model()
        self.acts: dict[bytes, tuple[str, Act]] = {}  # what was signed
        self.decided: list[bytes] = []
        self.fresh = 0

    def _appended(self, block: Block, changes: dict[bytes, bytes | None]) -> None:
        self.changes = changes

    # Who, and what

    def keys(self) -> list[str]:
        """All that anybody has ever had, most often those of now."""
        return [*self.model.key.values(), *self.model.owner, *PEOPLE]

    def new(self, letter: str) -> str:
        self.fresh += 1
        return f"{letter}{self.fresh}"

    def pick(self, data: st.DataObject, *options: Any) -> Any:
        return data.draw(st.sampled_from(list(options)))

    def host(self, data: st.DataObject) -> str:
        trusted = [host for name in self.model.trusted() for host in self.model.hosts[name]]
        return self.mostly(data, self.pick(data, *trusted), *sorted(self.model.names), "nowhere")

    def organisation(self, data: st.DataObject) -> str:
        return self.pick(data, *self.model.status, "nobody")

    def mostly(self, data: st.DataObject, right: Any, *wrong: Any) -> Any:
        return self.pick(data, *wrong) if data.draw(st.integers(0, 7)) == 7 else right

    def signer(self, data: st.DataObject, host: str) -> str:
        """The one that should sign, or sometimes another."""
        return self.mostly(data, self.model.key.get(host, host or "stranger"), host or "bob", *self.model.key.values())

    # Acts

    @initialize()
    def people_get_accounts(self) -> None:
        for name in PEOPLE[:2]:
            self.act("north", ("create", name, 500))
        self.decide()

    @rule(data=st.data(), amount=st.sampled_from([1, 1, 3, 400, 10**12, 10**12 + 1]))
    def pays(self, data: st.DataObject, amount: int) -> None:
        kind = self.pick(data, "transfer", "transfer", "create")
        to = self.new("p") if kind == "create" and data.draw(st.booleans()) else self.pick(data, *self.keys())
        self.act(self.pick(data, *self.keys()), (kind, to, amount))

    @rule(data=st.data(), kind=st.sampled_from(["join", "join", "revoke", "suspend", "suspend", "reinstate"]))
    def vote(self, data: st.DataObject, kind: str) -> None:
        """Often several, for the same thing, so that something comes of it."""
        act: Act = (kind, self.organisation(data))
        if kind == "join":
            key, host = (
                self.pick(data, "upper", "bob", "west", "auditor"),
                self.pick(data, "upper-1", "upper-1", "east-2"),
            )
            act = ("join", self.pick(data, "upper", "upper", "lower", "west"), key, host)
        elif self.model.open and data.draw(st.booleans()):
            act = self.pick(data, *self.model.open)
        voters = [self.model.key[name] for name in self.model.status]
        for voter in data.draw(st.lists(st.sampled_from([*voters, *self.keys()]), min_size=1, max_size=5, unique=True)):
            self.act(voter, act)

    @rule(data=st.data())
    def several_vote_alike(self, data: st.DataObject) -> None:
        """All but the one concerned."""
        name = self.pick(data, *self.model.status)
        kind = {"trusted": "suspend", "suspended": "reinstate"}.get(self.model.status[name], "revoke")
        for other in self.model.trusted()[: data.draw(st.integers(1, 6))]:
            act = ("join", name, "lower", "lower-1") if self.model.status[name] in GONE else (kind, name)
            self.act(self.model.key[other], act)
        self.decide()

    @precondition(lambda self: len(self.model.trusted()) > 3)
    @rule(data=st.data())
    def leaves(self, data: st.DataObject) -> None:
        self.act(self.pick(data, *self.keys()), ("leave",))

    @rule(data=st.data(), ahead=st.sampled_from([0, 1, 2, 2, 3, 5]))
    def rotates(self, data: st.DataObject, ahead: int) -> None:
        name = self.organisation(data)
        host = self.pick(data, None, *self.model.hosts.get(name, []), "east-1")
        key = self.mostly(data, self.new("k"), "auditor", *list(self.model.owner)[-2:])
        caller = self.mostly(data, self.model.key.get(name, "bob"), *self.keys())
        self.act(caller, ("rotate", name, host, key, self.height + ahead, self.mostly(data, key, "stranger")))
        self.decide()

    @rule(data=st.data())
    def changes_its_hosts(self, data: st.DataObject) -> None:
        name = self.organisation(data)
        caller = self.mostly(data, self.model.key.get(name, "bob"), *self.keys())
        if data.draw(st.booleans()):
            host = self.new("h")
            self.act(caller, ("add", name, host, self.mostly(data, host, "stranger")))
        else:
            self.act(caller, ("remove", self.pick(data, *self.model.hosts.get(name, []), "east-1")))

    @rule(
        data=st.data(),
        agent=st.sampled_from(AGENTS),
        ahead=st.sampled_from([1, 1, 1, 1, 1, 0, 2]),
        kind=st.sampled_from(["move", "move", "abort", "end", "hold"]),
    )
    def an_agent(self, data: st.DataObject, agent: str, ahead: int, kind: str) -> None:
        now, host = self.model.at(agent)
        epoch, to = now + ahead, self.host(data)
        caller = self.mostly(data, self.model.key.get(host, OWNER), *self.keys())
        if agent not in self.model.agents:
            kind = self.mostly(data, "found", kind)
        act: Act
        match kind:
            case "found":
                act = ("found", agent, epoch, to, self.signer(data, OWNER), self.signer(data, to))
            case "move":
                act = ("move", agent, epoch, to, self.signer(data, host), self.signer(data, to))
            case "hold":
                holders = tuple(data.draw(st.lists(st.sampled_from(sorted(self.model.names)), max_size=3)))
                act = ("hold", agent, self.mostly(data, now, epoch), holders)
            case _:
                act = (kind, agent, epoch, self.signer(data, host))
        self.act(caller, act)
        self.decide()

    @rule(data=st.data(), ahead=st.sampled_from([1, 1, 1, 0, 2]))
    def agents_move_together(self, data: st.DataObject, ahead: int) -> None:
        """From one host or two. Sometimes one of them cannot go."""
        for agent in AGENTS:
            epoch, resident = self.model.at(agent)
            if not resident:
                host = self.host(data)
                signer = self.model.key.get(host, "stranger")
                self.act(signer, ("found", agent, epoch + 1, host, OWNER, signer))
        self.decide()
        to = self.host(data)
        going = tuple(
            (agent, self.model.at(agent)[0] + (ahead if agent == AGENTS[-1] else 1))
            for agent in AGENTS
            if agent in self.model.agents
        )
        hosts = sorted({self.model.at(agent)[1] for agent, _ in going})
        if going and all(hosts):
            signers = tuple((host, self.signer(data, host)) for host in hosts)
            self.act(self.pick(data, *self.keys()), ("together", going, to, signers, self.signer(data, to)))
            self.decide()

    @rule(data=st.data(), agent=st.sampled_from(AGENTS))
    def members_vote_where_it_goes(self, data: st.DataObject, agent: str) -> None:
        if agent not in self.model.agents:
            return
        epoch, host, holders = self.model.agents[agent]
        if not holders:
            holders = tuple({self.host(data) for _ in range(2)} - {host})
            self.act(self.model.key.get(host, OWNER), ("hold", agent, epoch, holders))
            self.decide()
        to = self.mostly(data, self.pick(data, *holders or ("east-1",)), "east-1")
        version = self.mostly(data, self.model.version, self.model.version + 1, max(0, self.model.version - 1))
        for member in data.draw(
            st.lists(st.sampled_from([key for _, key in self.model.seats]), max_size=5, unique=True)
        ):
            self.act(member, ("rehome", agent, epoch + 1, to, version))
        self.decide()

    @rule(data=st.data(), number=st.integers(0, 3))
    def something_else(self, data: st.DataObject, number: int) -> None:
        """The contracts that the model knows nothing of."""
        name, digest = identity(f"name-{number}"), codec.digest("x", bytes([number]))
        auditor = identity("auditor").public
        action = self.pick(
            data,
            claims.Claim((("version", str(number)),)),
            records.RecordHop(digest, 1 + number, "north-1", "east-1", digest, digest),
            records.RecordBlame("west-1", "it lied", digest),
            pseudonyms.registration(identity(OWNER), name, self.chain.id, auditor, digest),
            pseudonyms.Open(name.public, "a court asks"),
            shared.Share(name.public, digest, shared.consent(name, self.chain.id, shared.SHARE, digest)),
            shared.Withdraw(name.public, digest, shared.consent(name, self.chain.id, shared.WITHDRAW, digest)),
        )
        contract = type(action).__module__.rpartition(".")[2]
        self.act(self.pick(data, *["north-1", "auditor"] * 3, *self.keys()), ("other", contract, action))

    # Attacks

    @precondition(lambda self: self.decided)
    @rule(data=st.data())
    def replays(self, data: st.DataObject) -> None:
        self.must_be_refused(self.pick(data, *self.decided))

    @rule(data=st.data(), way=st.sampled_from(["chain", "forged", "stolen", "old nonce"]))
    def forges(self, data: st.DataObject, way: str) -> None:
        """A good payment by north, but for one thing."""
        north, thief, to = self.model.key["north"], "stranger", identity(OWNER).public
        chain = bytes(32) if way == "chain" else self.chain.id
        nonce = self.chain.nonce(identity(north).public) - (way == "old nonce")
        if nonce < 0:
            return
        body = codec.encode(
            Transaction(chain, identity(north).public, nonce, "accounts", codec.encode(accounts.Transfer(to, 1)))
        )
        signed = identity(thief if way == "stolen" else north).signed(DOMAIN, body)
        if way == "forged":
            signed = Signed(identity(north).public, body, identity(thief).sign(DOMAIN, body))
        self.must_be_refused(codec.encode(signed))

    # Blocks

    @property
    def height(self) -> int:
        """Of the next block."""
        return self.chain.best.header.height + 1

    def act(self, caller: str, act: Act) -> None:
        """`caller` signs it and offers it. Whether it can run now is what the model says."""
        key = identity(caller).public
        contract, action = encode(act, self.chain.id, self.model)
        nonce = self.chain.mempool.next_free(key, self.chain.nonce(key))
        raw = call(self.chain.id, caller, nonce, action, contract)
        self.acts[raw] = caller, act
        expected = self.model.refuses(caller, act, self.height)
        if nonce > self.chain.nonce(key):
            expected = None  # it waits for others
        if raw in self.chain.mempool:
            return
        try:
            self.chain.take(raw, "a client")
        except Misuse as refusal:
            assert expected is not False, f"{caller} may {act}, and is refused: {refusal}"
            if nonce == self.chain.nonce(key):
                self.must_be_refused(raw)
        else:
            assert not expected or nonce > self.chain.nonce(key), f"{caller} must not {act}, and is not refused"

    def must_be_refused(self, raw: bytes) -> None:
        """Also when a member puts it into a block."""
        before = self.replica.best
        with pytest.raises((Misuse, PeerFault)):
            self.chain.take(raw, "a client")
        header = replace(
            before.header,
            height=self.height,
            parent=before.digest(),
            transactions_root=transactions_root((raw,)),
            members_digest=self.replica.members().digest(),
            rules=self.replica.rules(),
            timestamp=before.header.timestamp + 1,
            proposer=self.replica.members().members[0].host,
        )
        reason = self.replica.check(Block(header, (raw,)))
        assert reason is not None and "transaction 0 cannot run" in reason
        assert self.replica.best is before

    @rule()
    def decide(self) -> None:
        """All that waits and can run goes into a block; another replica checks it and comes to the same."""
        members = self.chain.members()
        block = self.chain.build(self.chain.best.header.timestamp + 1, members.members[0].host)
        if block is None:
            self.drop_refused()
            return
        assert self.replica.check(block) is None
        backwards = self.run_on_plain_state(block)
        certificate = self.certify(block, members)
        for chain in (self.chain, self.replica):
            chain.append(block, certificate)
        assert dict(self.changes) == backwards
        self.check_rooms(block)
        for key, value in self.changes.items():
            self.gone.add(key)
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        for raw in block.transactions:
            caller, act = self.acts[raw]
            assert self.model.refuses(caller, act, block.header.height) is not True, f"{caller} must not {act}"
            self.model.apply(caller, act, block.header.height)
        self.model.end_block(block.header.height)
        self.decided += block.transactions
        self.drop_refused()
        self.compare()
        self.check_proofs(members)

    def certify(self, block: Block, members: Members) -> Certificate:
        """By the keys that the members have now."""
        ballot = Ballot(self.chain.id, members.version, COMMIT, self.height, 0, block.digest())
        chosen = sorted(self.model.seats)[: members.quorum]
        return Certificate(
            ballot, tuple((host, identity(key).sign(VOTE_DOMAIN, ballot.encode())) for host, key in chosen)
        )

    def run_on_plain_state(self, block: Block) -> dict[bytes, bytes | None]:
        """What the block changes, by contracts alone, on a dictionary that was filled in another order."""
        below = dict(sorted(self.state.items(), reverse=True))
        overlay = Overlay(below)
        for raw in block.transactions:
            contracts.run(overlay, transaction.open_signed(raw, self.chain.id), block.header.height)
        contracts.end_block(overlay, block.header.height)
        return overlay.changes

    def check_rooms(self, block: Block) -> None:
        """Nobody writes in another contract's room."""
        used = {self.chain.open(raw, "a").contract for raw in block.transactions}
        rooms = {room for contract in used for room in ROOMS[contract]} | {b"account/", b"membership/", b"trust/"}
        assert all(any(key.startswith(room) for room in rooms) for key in self.changes)
        if not used & {"trust", "membership", "rules"} and b"trust/registry" not in self.changes:
            assert not any(key.startswith(b"trust/") for key in self.changes)

    def drop_refused(self) -> None:
        for waiting in list(self.chain.mempool.in_turn(self.chain.nonce)):
            self.chain.drop(waiting.transaction)

    # What holds

    def compare(self) -> None:
        """The state says what the model says."""
        state, model = self.chain.state, self.model
        for name in {*self.keys(), *model.nonce}:
            key = identity(name).public
            assert accounts.balance(state, key) == model.balance.get(name, 0), name
            assert accounts.nonce(state, key) == model.nonce.get(name, 0), name
            assert callers.may_transact(state, key) == model.may_transact(name), name
        standings = trust.organisations(state)
        assert {name: (each.status, each.since) for name, each in standings.items()} == {
            name: (status, model.since[name]) for name, status in model.status.items()
        }
        for name, each in standings.items():
            assert each.organisation.key == identity(model.key[name]).public
            hosts = [(passport.host, passport.key) for passport in each.organisation.hosts]
            assert hosts == [(host, identity(model.key[host]).public) for host in model.hosts[name]]
        members = self.chain.members()
        assert [(member.host, member.key) for member in members.members] == [
            (host, identity(key).public) for host, key in model.seats
        ]
        assert members.version == model.version and members.n >= 1
        assert sorted([vote.organisation for vote in each.votes] for each in trust.proposals(state)) == sorted(
            model.open.values()
        )
        for agent in AGENTS:
            now = residence.find(state, place(agent))
            assert (now and (now.epoch, now.host, now.holders)) == model.agents.get(agent)
            votes = {vote.member: vote.destination for vote in residence.votes(state, place(agent))}
            assert votes == model.rehome.get(agent, {})

    @invariant()
    def units_are_conserved(self) -> None:
        balances = [
            codec.decode(value, accounts.Account).balance
            for key, value in self.state.items()
            if key.startswith(b"account/")
        ]
        assert sum(balances) == accounts.GRANT * len(self.model.status) and all(each >= 0 for each in balances)

    @invariant()
    def replicas_agree(self) -> None:
        assert self.chain.best == self.replica.best

    def check_proofs(self, members: Members) -> None:
        """By those who decided the block: what is and was there, and what is not."""
        chosen = random.Random(self.height)  # noqa: S311
        for key in [*chosen.sample(sorted(self.gone), min(3, len(self.gone))), b"nothing"]:
            proof = self.chain.prove(key)
            assert proof.value == self.state.get(key)
            proof.check(members)
            assert not any(holds(bent, members) for bent in bend(proof, chosen))

    def teardown(self) -> None:
        """A replica that starts from what was kept has the same state; so has one that is given another's copy."""
        self.decide()
        if self.height == 1:
            return
        again = Chain(GENESIS, self.replica.copy())
        assert again.best == self.chain.best and again.members() == self.chain.members()
        for key in self.gone | self.state.keys():
            assert again.state.get(key) == self.state.get(key)
            assert again.prove(key).proof == self.chain.prove(key).proof


def holds(proof: StateProof, members: Members) -> bool:
    try:
        proof.check(members)
    except PeerFault:
        return False
    return True


def bend(proof: StateProof, chosen: random.Random) -> list[StateProof]:
    """The same about something else, which is not so. (Where nothing is, one proof may show that of two keys.)"""
    bent = [
        replace(proof, key=proof.key + b"x", value=proof.value or b""),
        replace(proof, value=None if proof.value is not None else b""),
        replace(proof, value=(proof.value or b"") + b"\x00"),
        replace(proof, header=replace(proof.header, state_root=bytes(32))),
    ]
    raw = codec.encode(proof.proof)
    for at in chosen.sample(range(len(raw)), 8):
        try:
            other = codec.decode_canonical(raw[:at] + bytes([raw[at] ^ 1 << at % 8]) + raw[at + 1 :], Proof)
        except PeerFault:
            continue
        bent.append(replace(proof, proof=other))
    return bent


def test_random_lives_of_a_consortium() -> None:
    run_state_machine_as_test(Consortium, settings=QUICK)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_many_of_them() -> None:
    run_state_machine_as_test(Consortium, settings=settings(LONG, max_examples=80))


# Contracts that are broken in one place.

BROKEN: dict[str, tuple[ModuleType, str, str, str]] = {
    "units out of nothing": (accounts, "_pay", "account.balance < amount", "False"),
    "a transaction runs again": (accounts, "spend", "used != account.nonce", "False"),
    "half is enough": (trust, "count", "3 * len(proposal.votes) <= 2 *", "2 * len(proposal.votes) <="),
    "two thirds are enough": (trust, "count", "<= 2 * electors", "< 2 * electors"),
    "votes outlive a change": (trust, "close_proposals", "for digest in _open(state)", "for digest in ()"),
    "a vote counts twice": (trust, "count", "any(earlier.organisation == vote", "any(None == vote"),
    "hosts vote": (trust, "voter", "found is None or found.host is not None", "found is None"),
    "names come back": (trust, "_check_join", "if now is not None:", "if False:"),
    "keys come back": (trust, "check_new_key", "owner is not None", "False"),
    "any epoch is good": (residence, "_residing", "now.epoch != epoch", "False"),
    "a destination is not asked": (residence, "_move", ", (action.destination, action.destination_signature)]", "]"),
    "one of two sources is asked": (residence, "_move", "zip(sources, action.source_signatures, strict=True)",
        "zip(sources[:1], action.source_signatures)"),
    "one member re-homes": (residence, "_vote", ">= members.quorum", ">= 1"),
    "the mute speak": (callers, "may_transact", "return owner.active", "pass"),
    "units are left with the old key": (accounts, "hand_over", "Account(account.nonce, 0)",
        "Account(account.nonce, account.balance)"),
    "the auditor's key is taken": (trust, "check_new_key", "key == auditor.find(state)", "False"),
    "a rotation without the key": (membership, "_check_key", "if not identity.verify", "if None == identity.verify"),
}  # fmt: skip


def break_it(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, old: str, new: str) -> None:
    """Puts a function with `new` in the place of `old` into the module."""
    source = inspect.getsource(getattr(module, name))
    assert source.count(old) == 1, f"{name} has no {old!r}"
    scope = dict(vars(module))
    exec(source.replace(old, new), scope)
    monkeypatch.setattr(module, name, scope[name])
    if name == "execute":
        monkeypatch.setitem(contracts.CONTRACTS, module.__name__.rpartition(".")[2], scope[name])


AT_ONCE = ("units out of nothing", "half is enough", "any epoch is good")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("twin", [pytest.param(twin, marks=[pytest.mark.slow][twin in AT_ONCE :]) for twin in BROKEN])
def test_a_broken_contract_is_found(twin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    break_it(monkeypatch, *BROKEN[twin])
    with pytest.raises(Exception):  # noqa: B017
        run_state_machine_as_test(Consortium, settings=LONG)
