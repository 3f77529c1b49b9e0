"""Agents of a kind: what stands for a service, and what stands for a user, so that hosts know without opening it. Pure.

The kind is a part of the birth certificate, which the owner signs: it never changes, and no host can claim another.
"""

import re
from typing import Self

import msgspec

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")  # of a service
VERSION = re.compile(r"(0|[1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})")
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
