"""Declarations of loss: every other host signs, and of two that are signed side by side one passes."""

from hashlib import sha256
from typing import Any

import pytest
from msgspec.structs import replace

from ledger.chain import founding_state
from ledger.contracts import losses, trust
from ledger.contracts.accounts import Create
from ledger.contracts.losses import Copy, Declaration, Declare, Statement
from ledger.contracts.membership import RemoveHost
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from tests.helpers.founders import CHAIN, act, genesis, identity

AGENT, OTHER = sha256(b"agent").digest(), sha256(b"other").digest()
TRANSFER = bytes(range(16))
LATER = bytes(range(1, 17))
COPY = Copy(AGENT, 4, 0)


def start() -> Overlay:
    """West is revoked: west-1 is lost."""
    state = Overlay(founding_state(genesis(4)))
    for voter in ("north", "east", "south"):
        act(state, voter, "trust", trust.VoteRevoke("west", "it burnt down"))
    return state


def declare(
    to: str = "north-1", *copies: Copy, transfer: bytes = TRANSFER, source: str = "west-1", by: str = "", **signed: str
) -> Declare:
    """`by`: the hosts that sign; `signed`: which key signs for a host (east_1="stranger")."""
    copies = copies or (COPY,)
    said = Statement(CHAIN, transfer, source, to, copies)
    hosts = by.split() or [host for host in ("north-1", "east-1", "south-1") if host != to]
    keys = {host: signed.get(host.replace("-", "_"), host) for host in hosts}
    return Declare(transfer, source, to, copies, tuple((host, said.sign(identity(keys[host]))) for host in hosts))


def refused(state: Overlay, action: Any, why: str, caller: str = "north-1") -> None:
    with pytest.raises(Misuse, match=why):
        act(state, caller, "losses", action)
    assert losses.find(state, AGENT) is None and losses.count(state) == 0


def test_all_others_sign_and_the_destination_calls() -> None:
    state = start()
    act(state, "north-1", "losses", declare("north-1", COPY, Copy(OTHER, 1, 0)), 9)
    assert losses.find(state, AGENT) == Declaration(4, "west-1", "north-1", TRANSFER, 9)
    assert losses.find(state, OTHER) == Declaration(1, "west-1", "north-1", TRANSFER, 9)
    assert losses.count(state) == 1


@pytest.mark.parametrize("caller", ["east-1", "north", "stranger"])
def test_nobody_else_calls(caller: str) -> None:
    state = start()
    act(state, "north", "accounts", Create(identity("stranger").public, 5))
    refused(state, declare(), "only north-1", caller)


def test_a_host_that_has_not_signed_is_named() -> None:
    refused(start(), declare(by="east-1"), "south-1 did not sign")
    refused(start(), declare(east_1="stranger"), "east-1 did not sign")
    refused(start(), replace(declare(), signatures=(("east-1", b""), ("south-1", b""))), "east-1 did not sign")


def test_a_source_that_is_still_a_member_signs_like_all_others() -> None:
    state = Overlay(founding_state(genesis(4)))
    refused(state, declare(), "west-1 did not sign")
    act(state, "north-1", "losses", declare(by="east-1 south-1 west-1"))
    assert losses.find(state, AGENT) is not None


def test_a_suspended_host_may_come_back_so_it_stops_a_declaration() -> None:
    state = Overlay(founding_state(genesis(4)))
    for voter in ("north", "east", "south"):
        act(state, voter, "trust", trust.VoteSuspend("west", "it is silent"))
    refused(state, declare(), "west-1 is suspended")
    refused(state, declare(by="east-1 south-1 west-1"), "west-1 is suspended")


def test_every_host_signs_not_only_those_with_a_seat() -> None:
    state = Overlay(founding_state(genesis(4, hosts=2)))
    for voter in ("north", "east", "south"):
        act(state, voter, "trust", trust.VoteRevoke("west", "it burnt down"))
    refused(state, declare(by="east-1 south-1 east-2 south-2"), "north-2 did not sign")
    act(state, "north", "membership", RemoveHost("north-2", "sold"))
    act(state, "north-1", "losses", declare(by="east-1 south-1 east-2 south-2"))
    assert losses.find(state, AGENT) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"transfer": LATER},
        {"source": "west-2"},
        {"copies": (replace(COPY, epoch=5),)},
        {"copies": (replace(COPY, agent=OTHER),)},
    ],
)
def test_the_signatures_are_for_these_copies_alone(change: dict[str, Any]) -> None:
    refused(start(), replace(declare(), **change), "did not sign|another host")


def test_signatures_of_another_chain_or_doubled_ones_do_not_count() -> None:
    action = declare()
    said = Statement(bytes(32), TRANSFER, "west-1", "north-1", (COPY,))
    foreign = tuple((host, said.sign(identity(host))) for host, _ in action.signatures)
    refused(start(), replace(action, signatures=foreign), "did not sign")
    refused(start(), replace(action, signatures=(*action.signatures, action.signatures[0])), "no more")
    refused(start(), declare(by="east-1 south-1 west-1"), "no more")


def test_of_two_that_are_signed_side_by_side_one_passes() -> None:
    """Whatever was signed falsely. Also when the second is to a higher epoch [L10]."""
    state = start()
    first = declare("north-1")
    rivals = [
        declare("east-1", by="north-1 south-1"),
        declare("east-1", Copy(AGENT, 9, 0), by="north-1 south-1", transfer=LATER),
        declare("east-1", Copy(AGENT, 4, 4), by="north-1 south-1", transfer=LATER),
        declare("east-1", Copy(AGENT, 3, 4), by="north-1 south-1", transfer=LATER),
    ]
    act(state, "north-1", "losses", first)
    stands = losses.find(state, AGENT)
    for rival in rivals:
        with pytest.raises(Misuse, match="comes too late"):
            act(state, "east-1", "losses", rival)
    with pytest.raises(Misuse, match="comes too late"):
        act(state, "north-1", "losses", first)
    assert losses.find(state, AGENT) == stands
    act(state, "east-1", "losses", declare("east-1", Copy(AGENT, 7, 4), by="north-1 south-1", transfer=LATER))
    assert losses.find(state, AGENT) == Declaration(7, "west-1", "east-1", LATER, 7)  # lost again, hops later


def test_one_agent_that_was_declared_stops_all_of_a_group() -> None:
    state = start()
    act(state, "east-1", "losses", declare("east-1", by="north-1 south-1"))
    with pytest.raises(Misuse, match="comes too late"):
        act(state, "north-1", "losses", declare("north-1", Copy(OTHER, 1, 0), COPY))
    assert losses.find(state, OTHER) is None


def test_bad_declarations() -> None:
    refused(start(), declare("north-1", COPY, replace(COPY, epoch=5)), "each agent once")
    refused(start(), declare(source="nowhere"), "another host")
    refused(start(), declare(source="north-1"), "another host")
    refused(start(), replace(declare(), copies=()), "see the contract")
    refused(start(), replace(declare(), transfer=b"short"), "see the contract")
    refused(start(), declare("north-1", replace(COPY, epoch=2**63)), "see the contract|transaction")
