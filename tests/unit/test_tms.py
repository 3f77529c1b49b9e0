"""TMS: verdicts from what the ledger says, in the ledger's own records."""

import msgspec

from ledger.contracts.trust import FOUNDED, REVOKED, TRUSTED, Standing
from ledger.genesis import Organisation
from ledger.identity import Identity
from ledger.links.base import Passport
from services.tms.service import Tms
from services.tms.verdicts import Verdict, verdicts


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
        return self.standings


FOUNDER = Standing(organisation(1, "alpha"), TRUSTED, 0, FOUNDED, ())
GONE = Standing(organisation(2, "beta", "beta-2"), REVOKED, 6, "it lost its key", ())


def test_every_host_of_the_ledger_gets_a_verdict_with_its_reason() -> None:
    found = Tms(FixedLedger(FOUNDER, GONE)).verdicts()
    assert found["alpha"] == Verdict("alpha", True, "org-1 is trusted since height 0: founded the chain", 9)
    for host in ("beta", "beta-2"):
        assert found[host] == Verdict(host, False, "org-2 is revoked since height 6: it lost its key", 9)


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
    assert found["gamma-2"] == Verdict("gamma-2", True, "org-3 is trusted since height 0: founded the chain", 3)
