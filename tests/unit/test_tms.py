"""TMS: verdicts from what the ledger says, in the ledger's own records."""

import msgspec
import pytest

from ledger import codec
from ledger.contracts import claims
from ledger.contracts.membership import Removal
from ledger.contracts.trust import FOUNDED, LEFT, REVOKED, SUSPENDED, TRUSTED, Registered, Standing
from ledger.currency import Currency
from ledger.genesis import Organisation
from ledger.identity import Identity
from ledger.links.base import Passport
from services.tms.claims import Required
from services.tms.service import MAX_AGE, Tms
from services.tms.verdicts import MAX_BEHIND, MAX_UNHEARD, Verdict, outdated, verdicts


def organisation(number: int, *hosts: str) -> Organisation:
    name = f"org-{number}"
    passports = tuple(
        Passport(host, name, Identity(bytes([number, i + 1]) + bytes(30)).public, f"127.0.0.1:{7000 + number * 10 + i}")
        for i, host in enumerate(hosts)
    )
    return Organisation(name, Identity(bytes([number]) + bytes(31)).public, passports)


class FixedLedger:
    """A ledger that says what the test gives it; `trusted_hosts` lets it contradict itself."""

    def __init__(self, *standings: Standing, height: int = 9) -> None:
        self.height = height
        self.state: dict[bytes, bytes] = {}
        self.current = Currency(0, 0.0)
        self.asked = 0
        self.standings = {standing.organisation.name: standing for standing in standings}
        self.trusted_hosts = {
            passport.host: passport
            for standing in standings
            if standing.status == TRUSTED
            for passport in standing.organisation.hosts
        }

    def registry(self) -> dict[str, Passport]:
        return self.trusted_hosts

    def organisations(self) -> dict[str, Standing]:
        self.asked += 1
        return self.standings

    def currency(self) -> Currency:
        return self.current


FOUNDER = Standing(organisation(1, "alpha"), TRUSTED, 0, FOUNDED, ())
GONE = Standing(organisation(2, "beta", "beta-2"), REVOKED, 6, "it lost its key", ())


def test_every_host_of_the_ledger_gets_a_verdict_with_its_reason() -> None:
    found = Tms(FixedLedger(FOUNDER, GONE)).verdicts()
    assert found["alpha"] == Verdict("alpha", True, "org-1 is trusted since height 0: founded the chain", 9, "member")
    for host in ("beta", "beta-2"):
        assert found[host] == Verdict(host, False, "org-2 is revoked since height 6: it lost its key", 9, "revoked")


def test_a_host_that_the_ledger_does_not_name_is_not_trusted() -> None:
    verdict = Tms(FixedLedger(FOUNDER)).verdict("mallory")
    assert verdict == Verdict("mallory", False, "the ledger names no host 'mallory' at height 9", 9)


def test_a_verdict_follows_the_ledger() -> None:
    ledger = FixedLedger(FOUNDER, Standing(GONE.organisation, TRUSTED, 0, FOUNDED, ()))
    tms = Tms(ledger)
    assert tms.verdict("beta").trusted
    changed = FixedLedger(FOUNDER, GONE, height=10)
    ledger.standings, ledger.trusted_hosts, ledger.height = changed.standings, changed.trusted_hosts, 10
    assert not tms.verdict("beta").trusted and tms.verdict("beta").height == 10


def test_where_registry_and_organisations_disagree_a_host_is_not_trusted() -> None:
    missing = verdicts({}, [FOUNDER], 3)
    assert not missing["alpha"].trusted and "registry does not have it" in missing["alpha"].reason
    passport = FOUNDER.organisation.hosts[0]
    other_key = msgspec.structs.replace(passport, key=bytes(32))
    assert not verdicts({"alpha": other_key}, [FOUNDER], 3)["alpha"].trusted
    assert not verdicts({"alpha": passport}, [], 3)["alpha"].trusted
    revoked = Standing(FOUNDER.organisation, REVOKED, 2, "gone", ())
    assert not verdicts({"alpha": passport}, [revoked], 3)["alpha"].trusted


def test_one_host_that_is_missing_says_nothing_of_the_others() -> None:
    standing = Standing(organisation(3, "gamma", "gamma-2"), TRUSTED, 0, FOUNDED, ())
    found = verdicts({"gamma-2": standing.organisation.hosts[1]}, [standing], 3)
    assert not found["gamma"].trusted
    reason = "org-3 is trusted since height 0: founded the chain"
    assert found["gamma-2"] == Verdict("gamma-2", True, reason, 3, "member")


@pytest.mark.parametrize(
    ("status", "word"), [(TRUSTED, "member"), (SUSPENDED, "suspended"), (REVOKED, "revoked"), (LEFT, "left")]
)
def test_a_verdict_says_the_standing_in_a_word_for_programs(status: str, word: str) -> None:
    verdict = Tms(FixedLedger(Standing(organisation(4, "delta"), status, 5, "so", ()))).verdict("delta")
    assert (verdict.standing, verdict.trusted) == (word, status == TRUSTED)
    assert Tms(FixedLedger(FOUNDER)).verdict("mallory").standing == "unknown"
    assert verdicts({}, [FOUNDER], 3)["alpha"].standing == "disputed"


def test_a_verdict_says_when_the_key_was_changed_and_why_a_host_was_removed() -> None:
    ledger = FixedLedger(FOUNDER)
    assert Tms(ledger).verdict("alpha").rotated is None
    ledger.state[b"membership/rotated/alpha"] = codec.encode(7)
    ledger.state[b"membership/removed/alpha-9"] = codec.encode(Removal("org-1", "it broke", 8))
    verdict = Tms(ledger).verdict("alpha")
    assert verdict.rotated == 7 and verdict.trusted and "its key was changed at height 7" in verdict.reason
    gone = Tms(ledger).verdict("alpha-9")
    assert (gone.standing, gone.reason) == ("removed", "org-1 removed it at height 8: it broke")


class Stalled(FixedLedger):
    """A replica that gets nothing more: its height and its registry stay; the others go on and revoke beta."""

    def __init__(self) -> None:
        super().__init__(FOUNDER, Standing(GONE.organisation, TRUSTED, 0, FOUNDED, ()))


def test_verdicts_of_a_stalled_replica_say_that_they_are_old_and_are_not_kept_beyond_a_bound() -> None:
    ledger, now = Stalled(), 100.0
    tms = Tms(ledger, lambda: now)
    assert tms.verdict("beta").trusted and tms.verdict("beta").outdated == "" and tms.outdated() == ""
    ledger.current = Currency(0, MAX_UNHEARD + 1)
    assert tms.verdict("beta").outdated == ""  # from the cache, for less than MAX_AGE
    now += MAX_AGE
    assert "has not heard a quorum of the members for 121 s" in tms.verdict("beta").outdated
    assert "agentplatform status" in tms.outdated()
    ledger.current = Currency(MAX_BEHIND + 1, 0.0)
    now += MAX_AGE
    verdict = tms.verdict("beta")
    assert verdict.behind == MAX_BEHIND + 1 and f"is {MAX_BEHIND + 1} blocks behind" in verdict.outdated
    ledger.current, now = Currency(MAX_BEHIND, MAX_UNHEARD), now + MAX_AGE
    verdict = tms.verdict("beta")
    assert (verdict.behind, verdict.outdated) == (MAX_BEHIND, "")


def test_a_cache_without_a_bound_would_be_seen() -> None:
    """The twin of the test above: with verdicts that are kept for ever, what it asserts does not hold."""
    ledger, now = Stalled(), 100.0
    tms = Tms(ledger, lambda: now)
    tms.verdict("beta")
    tms._until = float("inf")
    ledger.current, now = Currency(0, MAX_UNHEARD + 1), now + 100 * MAX_AGE
    assert tms.verdict("beta").outdated == ""


def test_the_ledger_is_not_asked_for_each_verdict() -> None:
    ledger = FixedLedger(FOUNDER)
    tms = Tms(ledger, lambda: 5.0)
    for _ in range(100):
        tms.verdict("alpha")
    assert ledger.asked == 1


@pytest.mark.parametrize(
    ("required", "facts", "words"),
    [
        (Required(), {}, ""),
        (Required(least_jail="rlimits"), {"jail": "rlimits"}, ""),
        (Required(least_jail="rlimits"), {"jail": "landlock 4+rlimits"}, ""),
        (Required(least_jail="landlock"), {"jail": "landlock 1+rlimits"}, ""),
        (Required(least_jail="landlock 3"), {"jail": "landlock 3+rlimits"}, ""),
        (Required(least_jail="landlock 3"), {"jail": "landlock 2+rlimits"}, "its claim says jail 'landlock 2+rlimits'"),
        (Required(least_jail="landlock"), {"jail": "rlimits"}, "at least 'landlock' is asked for here"),
        (Required(least_jail="rlimits"), {}, "its claim says nothing of its jail"),
        (Required(least_jail="rlimits"), {"jail": "steel"}, "its claim says jail 'steel'"),
        (Required(versions=("0.1",)), {"version": "0.1"}, ""),
        (Required(versions=("0.1", "0.3")), {"version": "0.3.2"}, ""),
        (Required(versions=("0.1",)), {"version": "0.11"}, "its claim says version '0.11'; 0.1 is asked for here"),
        (Required(versions=("0.1",)), {"jail": "rlimits"}, "its claim says nothing of its version"),
    ],
)
def test_claims_are_held_against_what_is_asked_for(required: Required, facts: dict[str, str], words: str) -> None:
    ledger = FixedLedger(FOUNDER)
    ledger.state[b"trust/host/alpha"] = codec.encode(Registered("org-1", bytes(32), True))
    ledger.state[claims.state_key("alpha")] = codec.encode(claims.Claimed(tuple(sorted(facts.items())), 3))
    verdict = Tms(ledger, required=required).verdict("alpha")
    assert verdict.trusted and verdict.claims == facts
    assert words in verdict.lacking and bool(words) == bool(verdict.lacking)


@pytest.mark.parametrize("jail", ["steel", "landlock x", "landlock 3+rlimits", "Rlimits", "landlock 99999"])
def test_a_strength_that_is_none_is_refused(jail: str) -> None:
    with pytest.raises(ValueError, match="no strength of a jail; there are rlimits, landlock"):
        Required(least_jail=jail)


@pytest.mark.parametrize("current", [Currency(0, 0.0), Currency(MAX_BEHIND, MAX_UNHEARD)])
def test_within_the_bounds_it_may_be_rested_on(current: Currency) -> None:
    assert outdated(current) == ""
