"""What is blocked in custody on one host, and on whom. Pure."""

from collections.abc import Iterable, Iterator

import msgspec

from agentplatform.custody.state import Custody, Open, Phase

LEDGER = "the ledger"
OWNER = "their owner"
ROOM = "room on the disk"
HANDLER = "its own handler"


class Wait(msgspec.Struct, frozen=True):
    agents: tuple[str, ...]
    waits_for: str  # a host, LEDGER, OWNER, ROOM or HANDLER
    why: str  # for people


def waits(machine: Custody, frozen: bool) -> Iterator[Wait]:
    """`frozen`: this host has no lease, and wants one."""
    for held in machine.leaving.values():
        yield Wait(_agents(held), *(_change(held) if held.peer == machine.host else _source(held)))
    for held in machine.arriving.values():
        if held.phase is Phase.RECEIVED:
            yield Wait(_agents(held), *_destination(held))
    if machine.ended:
        yield Wait(tuple(sorted(machine.ended)), LEDGER, "they ended here, and the ledger does not say so yet")
    stand_still = [
        known.agent
        for known in machine.agents.values()
        if known.here and known.held and known.agent not in machine.quarantined
    ]
    if frozen and stand_still:
        why = "this host has no lease from a quorum of the members, so agents in held custody stand still"
        yield Wait(tuple(sorted(stand_still)), LEDGER, why)


def stranded(machine: Custody, open_here: Iterable[str]) -> Iterator[Wait]:
    """Agents in custody here that nothing opens again by itself. `open_here`: those that run, are deactivated,
    or are being opened."""
    known = {*open_here, *machine.quarantined}
    agents = tuple(sorted(each.agent for each in machine.agents.values() if each.here and each.agent not in known))
    if agents:
        why = "they are on the disk, not open; see their logs and the host's. Then: agentplatform activate, or dispose"
        yield Wait(agents, OWNER, why)


def _change(held: Open) -> tuple[str, str]:
    asked = "to have them in held custody" if held.entry else "to end their held custody"
    if held.phase is Phase.WITHDRAWING:
        return LEDGER, f"it was asked {asked}, and is asked to leave it, for that did not come about in time"
    return LEDGER, f"it is asked {asked}"


def _source(held: Open) -> tuple[str, str]:
    match held.phase:
        case Phase.ASKED:
            return LEDGER, f"it is asked to give them to {held.peer}"
        case Phase.WITHDRAWING:
            return LEDGER, f"it is asked to leave them here, for the move to {held.peer} did not come about in time"
        case Phase.COMMITTING | Phase.COMMITTED:
            return held.peer, f"they are {held.peer}'s, which has not said yet that they run there"
        case _:
            return held.peer, f"they are on offer to {held.peer}, which has not answered yet"


def _destination(held: Open) -> tuple[str, str]:
    if held.by_ledger:
        return LEDGER, f"copies from {held.peer} are here and do not run: it has to say whose they are"
    return held.peer, f"copies from {held.peer} are here and do not run: it has to say what became of the move"


def _agents(held: Open) -> tuple[str, ...]:
    return tuple(load.agent for load in held.cargo)
