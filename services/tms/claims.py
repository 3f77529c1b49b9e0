"""What hosts claim of themselves, and what this host asks for. Pure.

A claim is signed and dated on the ledger (ledger.contracts.claims): a word that a host can be held to, and no proof. So
asking for one keeps agents from hosts that say themselves that they are too weak, or too old; not from a liar.
"""

import re
from collections.abc import Mapping

import msgspec

_LANDLOCK = re.compile(r"landlock(?: ([0-9]{1,4}))?\b")
_JAILS = ("", "rlimits")


class Required(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of hosts that agents go to from here. Agents that are there, and hosts that they come from, are not asked."""

    least_jail: str = ""  # "rlimits", "landlock", or "landlock 3" for that ABI of the kernel's or a later one
    versions: tuple[str, ...] = ()  # of the platform that will do: "0.1" is 0.1 and 0.1.5; none: any

    def __post_init__(self) -> None:
        if self.least_jail not in _JAILS and _LANDLOCK.fullmatch(self.least_jail) is None:
            raise ValueError(f"{self.least_jail!r} is no strength of a jail; there are rlimits, landlock, landlock 3")

    def lacking(self, facts: Mapping[str, str]) -> str:
        """Which of its claims (none when it claims nothing) is not what is asked for; "" when all are."""
        jail, version = facts.get("jail", ""), facts.get("version", "")
        if self.least_jail and strength(jail) < strength(self.least_jail):
            return f"its claim says {_said('jail', jail)}; at least {self.least_jail!r} is asked for here"
        if self.versions and not any(_is(version, wanted) for wanted in self.versions):
            return f"its claim says {_said('version', version)}; {' or '.join(self.versions)} is asked for here"
        return ""


def strength(jail: str) -> int:
    """As jail.close_in names them: 0 for what is not known, 1 for rlimits alone, 2 and more for landlock by its ABI."""
    found = _LANDLOCK.match(jail)
    if found is not None:
        return 1 + int(found[1] or 1)
    return 1 if jail == "rlimits" else 0


def _is(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted}.")


def _said(name: str, value: str) -> str:
    return f"{name} {value!r}" if value else f"nothing of its {name}"
