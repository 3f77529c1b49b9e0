"""Whose word puts an agent into a group: luggage is written by the host that an agent comes from."""

from agentplatform.following import groups_concerned
from agentplatform.parcel.manifest import Birth, give_birth, open_birth
from ledger.identity import Identity
from services.eds.rules import Group

ADA, MALLORY = Identity(b"a" * 32), Identity(b"m" * 32)


def births(owner: Identity, *names: str) -> dict[str, Birth]:
    raw = [give_birth(name, owner, bytes(16), bytes(32), "module:Class", False) for name in names]
    found = [open_birth(each, "a test") for each in raw]
    return {birth.agent: birth for birth in found}


def test_a_host_that_had_one_agent_of_an_owner_cannot_name_the_others() -> None:
    known = births(ADA, "x", "y", "z")
    x, y, z = known
    pair = Group("pair", (y, z))
    forged = Group("evil", ("first-0123456789abcdef", x, y, z))
    assert groups_concerned({x: forged, y: pair, z: pair}, known) == [pair]
    assert groups_concerned({x: forged, y: None, z: None}, known) == []
    assert groups_concerned({x: forged, y: forged, z: forged}, known) == [forged]
    assert groups_concerned({x: forged, y: forged}, known) == [forged]  # z sleeps


def test_agents_of_another_owner_are_in_no_group_that_names_them() -> None:
    known = births(ADA, "x") | births(MALLORY, "m")
    x, m = known
    assert groups_concerned({m: Group("trap", (m, x)), x: None}, known) == []
