"""The front desk: what a caller at the front door may ask of a host, one method a verb, plain data in and out."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

import msgspec

from agentplatform.desk.agents import AgentDesk
from agentplatform.desk.decisions import DecisionDesk
from agentplatform.desk.host import HostDesk
from agentplatform.desk.ledger import LedgerDesk
from agentplatform.desk.paths import PathDesk
from agentplatform.environment import Environment
from ledger.errors import Misuse


class FrontDesk:
    def __init__(self, environment: Environment) -> None:
        self._desks = {desk: desk(environment) for desk in _TABLE}

    async def perform(self, verb: str, arguments: dict[str, Any]) -> Any:
        """One verb. Raises Misuse for a verb or arguments that do not exist."""
        if not isinstance(verb, str) or verb not in VERBS:
            raise Misuse(f"there is no verb {verb!r}; there are: {', '.join(VERBS)}")
        desk, method = VERBS[verb]
        try:
            inspect.signature(method).bind(self, **arguments)
            typed = {name: msgspec.convert(value, _HINTS[verb][name]) for name, value in arguments.items()}
        except (TypeError, msgspec.ValidationError) as error:
            raise Misuse(f"{verb}: {error}") from None
        return await method(self._desks[desk], **typed)


_TABLE: dict[type, tuple[Callable[..., Awaitable[Any]], ...]] = {
    HostDesk: (
        HostDesk.hello,
        HostDesk.status,
        HostDesk.hosts,
        HostDesk.stop,
        HostDesk.blocked,
        HostDesk.drain,
        HostDesk.open,
        HostDesk.drained,
        HostDesk.fence,
        HostDesk.absent,
    ),
    AgentDesk: (
        AgentDesk.create,
        AgentDesk.agents,
        AgentDesk.resolve,
        AgentDesk.ask,
        AgentDesk.tell,
        AgentDesk.order,
        AgentDesk.logs,
        AgentDesk.services,
        AgentDesk.hops,
        AgentDesk.declare_lost,
    ),
    PathDesk: (PathDesk.path,),
    DecisionDesk: (
        DecisionDesk.group,
        DecisionDesk.event,
        DecisionDesk.why,
        DecisionDesk.dry_run,
    ),
    LedgerDesk: (
        LedgerDesk.trust,
        LedgerDesk.ledger,
        LedgerDesk.ledger_export,
        LedgerDesk.ledger_evidence,
        LedgerDesk.record_evidence,
        LedgerDesk.blame,
        LedgerDesk.vote_rules,
        LedgerDesk.vote_revoke,
        LedgerDesk.vote_suspend,
        LedgerDesk.vote_reinstate,
        LedgerDesk.leave,
        LedgerDesk.rotate_key,
        LedgerDesk.vote_join,
    ),
}
VERBS = {method.__name__: (desk, method) for desk, methods in _TABLE.items() for method in methods}
_HINTS = {verb: get_type_hints(method) for verb, (_, method) in VERBS.items()}
