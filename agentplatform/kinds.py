"""Agents of a kind: what stands for a service, and what stands for a user, so that hosts know without opening it. Pure.

The kind is a part of the birth certificate, which the owner signs: it never changes, and no host can claim another.
"""

import re
from typing import Self

import msgspec

from ledger.errors import Misuse

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")  # of a service
DIRECTORY = "services:"  # whom an agent asks for service agents: its host itself, whose name no agent can have
EDS = "eds:"  # to whom an agent reports: likewise
VERSION = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})")
OWNER = re.compile(r"[0-9a-f]{64}")
MAX_USER = 64  # characters of a user's name


class Version(msgspec.Struct, frozen=True, order=True):
    major: int
    minor: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for what is no version."""
        found = VERSION.fullmatch(text)
        if found is None:
            raise ValueError(f"{text!r:.40} is no version: MAJOR.MINOR, such as 2.1")
        return cls(int(found[1]), int(found[2]))

    def serves(self, wanted: "Version") -> bool:
        """Whether who asks for `wanted` may have this one: the same major version, and at least the minor one."""
        return self.major == wanted.major and self.minor >= wanted.minor


class Service(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="service"):
    """The agent offers a service."""

    name: str
    version: str

    def __post_init__(self) -> None:
        check_name(self.name)
        Version.parse(self.version)


class User(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="user"):
    """The agent stands for a user."""

    name: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= MAX_USER or not self.name.isprintable():
            raise ValueError(f"a user's name has 1 to {MAX_USER} printable characters, unlike {self.name!r:.80}")


Kind = Service | User


def check_name(service: str) -> None:
    """Raises ValueError for what is no name of a service."""
    if not NAME.fullmatch(service):
        raise ValueError(f"{service!r:.80} is no service: lower case letters, digits and '-', at most 32")


class Query(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What somebody wants of the directory."""

    service: str | None = None  # None: all
    version: str | None = None  # that it must serve; None: any
    owner: str | None = None  # whose: the public key, in hexadecimal; None: anyone's

    def __post_init__(self) -> None:
        if self.service is not None:
            check_name(self.service)
        if self.version is not None:
            Version.parse(self.version)
        if self.owner is not None and not OWNER.fullmatch(self.owner):
            raise ValueError(f"an owner is 64 hexadecimal digits, not {self.owner!r:.80}")


def query(service: str | None, version: str | None, owner: str | None) -> Query:
    """Raises Misuse for what nobody can find."""
    try:
        return msgspec.convert([service, version, owner], Query)
    except msgspec.ValidationError as error:
        raise Misuse(f"that is nothing to find: {error}") from None


class Found(msgspec.Struct, frozen=True):
    """A service agent, as the directory of one host has it."""

    agent: str  # its id
    service: str
    version: str
    host: str  # where it is, as far as that host has heard
    owner: str  # the public key that its birth certificate is signed with, in hexadecimal
