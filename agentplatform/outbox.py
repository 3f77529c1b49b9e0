"""What the mailroom asks of the disk (agentplatform.custody.journal gives it)."""

import asyncio
from typing import Protocol

from agentplatform.mail import Change, Letter, Loose, Standing
from agentplatform.messages import Answer


class Outbox(Protocol):
    """Where what agents do is kept (custody's journal). What is queued first is durable first."""

    def checkpoint(self, agent: str, change: Change) -> "asyncio.Future[None]": ...

    def keep_letter(self, letter: Letter, loose: Loose | None = None) -> "asyncio.Future[None]":
        """With `loose` when it leaves before the state that knows of it."""

    def keep_answer(self, agent: str, receiver: str, sequence: int, answer: Answer) -> None:
        """To a loose letter; durable with what is written next."""

    def reserve_numbers(self, agent: str, receiver: str, upto: int) -> "asyncio.Future[None]":
        """No letter up to this number is kept, and no number up to it is used again after a restart."""

    def drop_loose(self, agent: str) -> None:
        """None of its letters is loose any more; durable with what is written next."""

    def drop_letters(self, agent: str, receiver: str, upto: int) -> None:
        """All up to this number were replied to; durable with what is written next."""

    def keep_standing(self, agent: str, standing: Standing) -> None:
        """What it belongs to now; durable with what is written next."""

    def replicated(self, agent: str) -> bool:
        """Whether other hosts must have what it does before it leaves, and have copies of what it knows: then neither
        its letters nor those for it go ahead of the disk of this host."""

    def keep_end(self, agent: str, at: int) -> None:
        """It ended here, `at` milliseconds since 1970; durable with what is written next."""

    def flush(self) -> "asyncio.Future[None] | None":
        """Writes what waits for the next write; None when there is nothing."""
