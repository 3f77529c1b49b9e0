"""Records of hops: by one of the two hosts, one for each epoch, digests alone."""

from hashlib import sha256

import msgspec
import pytest

from ledger import codec
from ledger.chain import founding_state
from ledger.contracts import records, trust
from ledger.contracts.call import Call
from ledger.contracts.records import RecordHop
from ledger.contracts.state import Overlay
from ledger.errors import Misuse
from tests.helpers.founders import CHAIN, genesis, identity, revoke

AGENT = sha256(b"agent").digest()
HOP = RecordHop(AGENT, 1, "north-1", "east-1", sha256(b"transfer").digest(), sha256(b"parcel").digest())


def start() -> Overlay:
    return Overlay(founding_state(genesis(4)))


def record(state: Overlay, recorder: str, action: object = HOP, height: int = 3) -> None:
    records.execute(state, Call(identity(recorder).public, codec.encode(action), height, CHAIN))


@pytest.mark.parametrize("recorder", ["north-1", "east-1"])
def test_source_or_destination_records(recorder: str) -> None:
    state = start()
    record(state, recorder)
    found = records.hop(state, AGENT, 1)
    assert found == records.Hop(HOP, 3, recorder)
    assert records.hop(state, AGENT, 2) is None
    record(state, recorder, msgspec.structs.replace(HOP, epoch=2))


@pytest.mark.parametrize("recorder", ["south-1", "north", "east", "stranger"])
def test_nobody_else_records(recorder: str) -> None:
    with pytest.raises(Misuse, match="only north-1 or east-1"):
        record(start(), recorder)


def test_one_record_for_each_epoch() -> None:
    state = start()
    record(state, "north-1")
    with pytest.raises(Misuse, match="was recorded at height 3"):
        record(state, "east-1", msgspec.structs.replace(HOP, parcel=bytes(32)))


def test_a_revoked_host_records_nothing_and_its_partner_may() -> None:
    state = start()
    for voter in ("east", "south", "west"):
        trust.execute(state, Call(identity(voter).public, codec.encode(revoke("north")), 2, CHAIN))
    with pytest.raises(Misuse, match="while trusted"):
        record(state, "north-1")
    record(state, "east-1")


def test_both_hosts_are_registered() -> None:
    with pytest.raises(Misuse, match="nowhere is not known"):
        record(start(), "north-1", msgspec.structs.replace(HOP, destination="nowhere"))


@pytest.mark.parametrize(
    "change",
    [{"agent": b"short"}, {"transfer": b""}, {"parcel": b"the content"}, {"epoch": 0}, {"epoch": 2**63},
     {"destination": "north-1"}],
)  # fmt: skip
def test_bad_records(change: dict) -> None:
    fields = {name: getattr(HOP, name) for name in HOP.__struct_fields__} | change
    with pytest.raises(Misuse):
        RecordHop(**fields)
    with pytest.raises(Misuse):
        record(start(), "north-1", ["hop", *fields.values()])
