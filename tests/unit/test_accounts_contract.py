"""Accounts: units are conserved, nobody spends another's, and nothing is spent twice. One test a promise."""

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ledger import codec
from ledger.chain import Chain, founding_state
from ledger.contracts import accounts
from ledger.contracts.accounts import GRANT, MAX_AMOUNT, Account, Create, Transfer
from ledger.contracts.call import Call
from ledger.contracts.state import Overlay, save
from ledger.errors import Misuse
from tests.helpers.founders import CHAIN, NAMES, act, call, decide, genesis, identity, join, revoke


def key(name: str) -> bytes:
    return identity(name).public


def start() -> Overlay:
    return Overlay(founding_state(genesis(4)))


def balances(state: Overlay, *names: str) -> list[int]:
    return [accounts.balance(state, key(name)) for name in names]


def opened(**holdings: int) -> Overlay:
    """North opened these accounts."""
    state = start()
    for name, units in holdings.items():
        act(state, "north", "accounts", Create(key(name), units))
    return state


def test_an_organisation_has_its_grant_and_a_host_has_nothing() -> None:
    state = start()
    assert balances(state, "north", "north-1", "stranger") == [GRANT, 0, 0]
    for voter in NAMES[:3]:
        act(state, voter, "trust", join("upper"))
    assert balances(state, "upper") == [GRANT]


def test_an_account_is_opened_with_its_creators_units() -> None:
    state = opened(ann=10)
    assert balances(state, "north", "ann") == [GRANT - 10, 10]
    act(state, "ann", "accounts", Create(key("bob"), 4))
    act(state, "bob", "accounts", Transfer(key("ann"), 1))
    assert balances(state, "ann", "bob") == [7, 3]
    assert accounts.find(state, key("ann")) == Account(1, 7)


def test_who_has_no_account_may_not_transact() -> None:
    state = opened(ann=10)
    with pytest.raises(Misuse, match="no account was created for it"):
        act(state, "mallory", "accounts", Create(key("mallory"), 1))


def test_an_account_has_no_vote_and_records_no_hop() -> None:
    state = opened(ann=10)
    with pytest.raises(Misuse, match="only the key of a trusted organisation"):
        act(state, "ann", "trust", revoke("west"))


def test_nobody_spends_what_he_has_not() -> None:
    state = opened(ann=10)
    for action in (Transfer(key("north"), 11), Create(key("bob"), 11), Transfer(key("north"), MAX_AMOUNT)):
        with pytest.raises(Misuse, match="has 10 units"):
            act(state, "ann", "accounts", action)
    with pytest.raises(Misuse, match="has 0 units"):
        act(state, "north-1", "accounts", Create(key("bob"), 1))
    assert balances(state, "north", "ann", "bob") == [GRANT - 10, 10, 0]


@pytest.mark.parametrize("amount", [0, -1, -(2**63), 2**63, 2**64 - 1])
def test_an_amount_is_never_nothing_negative_or_beyond_the_largest(amount: int) -> None:
    """A negative transfer would take from the receiver."""
    state = opened(ann=10)
    for action in (Transfer(key("north"), amount), Create(key("bob"), amount)):
        with pytest.raises(Misuse, match=r"Expected `int`|Integer"):
            act(state, "ann", "accounts", action)
    assert balances(state, "north", "ann") == [GRANT - 10, 10]


def test_no_balance_overflows() -> None:
    state = opened(ann=10)
    save(state, accounts.state_key(key("ann")), Account(0, MAX_AMOUNT))
    with pytest.raises(Misuse, match="more than"):
        act(state, "north", "accounts", Transfer(key("ann"), 1))
    assert balances(state, "north", "ann") == [GRANT - 10, MAX_AMOUNT]


def test_a_transfer_to_oneself_makes_nothing() -> None:
    state = opened(ann=10)
    with pytest.raises(Misuse, match="names the caller itself"):
        act(state, "ann", "accounts", Transfer(key("ann"), 5))
    assert balances(state, "ann") == [10]


def test_units_are_not_lost_to_a_mistyped_key() -> None:
    with pytest.raises(Misuse, match="there is no account"):
        act(opened(ann=10), "ann", "accounts", Transfer(key("nobody"), 5))


@pytest.mark.parametrize("raw", [b"", bytes(31), bytes(33), bytes(1000)])
def test_a_key_has_32_bytes(raw: bytes) -> None:
    for action in (Create(raw, 1), Transfer(raw, 1)):
        with pytest.raises(Misuse, match="Expected `bytes`"):
            act(opened(ann=10), "ann", "accounts", action)


def test_an_account_is_opened_once() -> None:
    """Else its nonce would start again, and all that it ever signed could be replayed."""
    state = opened(ann=10)
    with pytest.raises(Misuse, match="is there already"):
        act(state, "north", "accounts", Create(key("ann"), 1))


def test_an_account_on_the_key_of_one_who_joins_does_not_stop_it() -> None:
    state = opened(upper=10)
    for voter in NAMES[:3]:
        act(state, voter, "trust", join("upper"))
    assert balances(state, "upper") == [GRANT + 10]


def test_the_revoked_are_mute_though_they_have_accounts() -> None:
    state = start()
    act(state, "west", "accounts", Create(key("ann"), 1))
    for voter in NAMES[:3]:
        act(state, voter, "trust", revoke("west"))
    for name in ("west", "west-1"):
        with pytest.raises(Misuse, match="only such keys may transact"):
            act(state, name, "accounts", Transfer(key("ann"), 1))
    with pytest.raises(Misuse, match="is there already"):
        act(state, "north", "accounts", Create(key("west"), 1))


def test_a_transaction_runs_once() -> None:
    chain = Chain(genesis())
    create = call(chain.id, "north", 0, Create(key("ann"), 10), "accounts")
    pay = call(chain.id, "ann", 0, Transfer(key("north"), 3), "accounts")
    decide(chain, create)
    decide(chain, pay)
    for again in (create, pay):
        with pytest.raises(Misuse, match="nonce"):
            chain.take(again, "mallory")
    assert accounts.find(chain.state, key("ann")) == Account(1, 7)


def test_strangers_do_not_fill_the_mempool() -> None:
    chain = Chain(genesis())
    for nonce in (0, 5):
        with pytest.raises(Misuse, match="no account was created"):
            chain.take(call(chain.id, "mallory", nonce, Transfer(key("north"), 3), "accounts"), "mallory")
    assert len(chain.mempool) == 0


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["north", "east", "ann", "bob", "eve"]),
            st.sampled_from([Create, Transfer]),
            st.sampled_from(["north", "ann", "bob", "eve"]),
            st.sampled_from([1, 2, 5, GRANT, MAX_AMOUNT]),
        ),
        max_size=30,
    )
)
def test_units_are_conserved_whatever_is_tried(steps: list) -> None:
    state = start()
    everybody = (*NAMES[:4], "ann", "bob", "eve")
    for caller, kind, to, amount in steps:
        with suppress(Misuse):
            accounts.execute(state, Call(key(caller), codec.encode(kind(key(to), amount)), 7, CHAIN))
        held = balances(state, *everybody)
        assert sum(held) == 4 * GRANT and min(held) >= 0
