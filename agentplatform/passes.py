"""Passes: what a host signs when it has handed an agent over for good. Pure.

A pass says that in `epoch` the agent is the destination's, and is worth something to whoever knew that the agent was
with the source before. Passes in a row, a trail, lead a host that missed several hops to where the agent is now; who
shows them does not matter. A host that never had the agent cannot make one that fits.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import msgspec

from ledger import codec
from ledger.identity import SIGNATURE_BYTES, Identity, verify

DOMAIN = "agentplatform/pass"
MAX_NAME = 63  # characters of a host's name; an agent's id has fewer
MAX_TRAIL = 8  # passes that travel with an agent: about 120 bytes each


class Pass(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag="pass"):
    agent: str
    epoch: int  # at the destination
    source: str
    destination: str
    signature: bytes  # the source host's

    def __post_init__(self) -> None:
        if self.epoch < 1 or len(self.signature) not in (0, SIGNATURE_BYTES):
            raise ValueError("a pass has an epoch above 0, and a signature")
        if self.source == self.destination:
            raise ValueError("a pass leads from one host to another")
        if max(len(self.agent), len(self.source), len(self.destination)) > MAX_NAME:
            raise ValueError(f"a pass has names of at most {MAX_NAME} characters")


Trail = tuple[Pass, ...]
Authentic = Callable[[Pass], bool]  # whether the source's registered key has signed it


def sign(chain: bytes, agent: str, epoch: int, source: str, destination: str, key: Identity) -> Pass:
    made = Pass(agent, epoch, source, destination, b"")
    return msgspec.structs.replace(made, signature=key.sign(DOMAIN, _body(chain, made)))


def authentic(chain: bytes, key_of: Callable[[str], bytes | None]) -> Authentic:
    """`key_of` is the registry's: a pass of a host that was revoked proves nothing any more."""

    def check(each: Pass) -> bool:
        key = key_of(each.source)
        return key is not None and verify(key, DOMAIN, _body(chain, each), each.signature)

    return check


def joined(before: Sequence[Pass], after: Sequence[Pass]) -> Trail:
    """One trail of both, without a gap: the later end of it, at most MAX_TRAIL."""
    by_epoch = {each.epoch: each for each in (*before, *after)}
    trail: list[Pass] = []
    for each in sorted(by_epoch.values(), key=lambda each: each.epoch):
        if trail and not _follows(trail[-1], each):
            trail.clear()
        trail.append(each)
    return tuple(trail[-MAX_TRAIL:])


def leads(trail: Sequence[Pass], agent: str, start: tuple[str, int], end: tuple[str, int], check: Authentic) -> bool:
    """Whether signed passes lead without a gap from a host and epoch to a later one."""
    (source, since), (destination, epoch) = start, end
    part = [each for each in trail if since < each.epoch <= epoch]
    if [each.epoch for each in part] != list(range(since + 1, since + 1 + len(part))) or len(part) != epoch - since:
        return False
    if not part or part[0].source != source or part[-1].destination != destination:
        return False
    return (
        all(_follows(one, next_one) for one, next_one in pairwise(part))
        and all(each.agent == agent for each in part)
        and all(map(check, part))
    )


def _follows(one: Pass, other: Pass) -> bool:
    return (one.destination, one.epoch + 1, one.agent) == (other.source, other.epoch, other.agent)


def _body(chain: bytes, each: Pass) -> bytes:
    return codec.encode((chain, each.agent, each.epoch, each.source, each.destination))
