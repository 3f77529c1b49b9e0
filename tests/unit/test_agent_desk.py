"""What callers hear of orders that take too long."""

import asyncio
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agentplatform.commands import Command, sign
from agentplatform.desk.agents import AgentDesk
from ledger.errors import OutcomeUnknown, Unavailable
from ledger.identity import Identity
from tests.helpers.mail_desk import AGENT

OWNER = Identity(b"owner".ljust(32, b"."))
ORDER = sign(Command(AGENT, "snapshot", "", 1, nonce=b"1"), OWNER)


def desk(obey: Callable[[str, Command], Awaitable[dict[str, Any]]]) -> AgentDesk:
    here: Any = SimpleNamespace(
        whereabouts=SimpleNamespace(resolve=lambda agent: agent),
        tms=SimpleNamespace(verdicts=dict),
        carrier=SimpleNamespace(lifetimes=SimpleNamespace(state_of=lambda agent: "runs")),
        obey=obey,
    )
    return AgentDesk(here)


async def test_an_order_that_takes_too_long_is_called_off_and_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("agentplatform.desk.agents.GRACE", 0.0)
    called_off = []

    async def obey(agent: str, order: Command) -> dict[str, Any]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            called_off.append(order.verb)
            raise
        return {}

    with pytest.raises(OutcomeUnknown, match=f"snapshot {AGENT} was not done within 0.01 s.*agentplatform why {AGENT}"):
        await desk(obey).order(AGENT, ORDER, 0.01)
    assert called_off == ["snapshot"]


async def test_what_takes_too_long_within_an_order_is_not_taken_for_the_callers_patience() -> None:
    async def obey(agent: str, order: Command) -> dict[str, Any]:
        raise TimeoutError("the disk")

    with pytest.raises(TimeoutError, match="the disk"):
        await desk(obey).order(AGENT, ORDER, 10.0)


async def test_who_knows_a_better_reason_has_a_little_longer() -> None:
    async def obey(agent: str, order: Command) -> dict[str, Any]:
        await asyncio.sleep(0.02)
        raise Unavailable("it hangs, and was ended")

    with pytest.raises(Unavailable, match="it hangs, and was ended"):
        await desk(obey).order(AGENT, ORDER, 0.01)
