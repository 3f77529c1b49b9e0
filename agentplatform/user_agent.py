"""Agents that stand for a user: they hold the session, and hear where the user is.

    class Guide(UserAgent):
        def on_user_moved(self, nearest):
            self.session["near"] = nearest

It is created with the user's name: `host.create(Guide, init="ada")`.
"""

from typing import Any

from agentplatform.agent import Agent
from agentplatform.kinds import User
from ledger.errors import Misuse


class UserAgent(Agent):
    """Stands for the user whom `init` names: a text, or a dictionary with "user".

    When that user moves, its host calls `on_user_moved`; and a group with this agent, or this agent alone if it is in
    none, is decided about by the EDS. What it does not promise: that the name is anybody's (whoever creates an agent
    names its user; what tells two apart is their owner), and that hosts which the agent visits do not read the session.
    """

    user: str
    """The user's name."""

    session: Any
    """Plain state of the agent: it travels with it, and is kept as its class's `checkpoint` says. A dictionary at
    first. It does not end by itself."""

    def on_creation(self, init: Any) -> None:
        """Override it, and call this one first."""
        self.user, self.session = self.kind_of(init).name, {}

    def on_user_moved(self, nearest: str) -> Any:
        """The user is elsewhere: `nearest` is the host that answers the user's access point best, "" if it measured
        none. A hint: it is called once, and not while the agent is on its way or deactivated."""

    @classmethod
    def kind_of(cls, init: Any) -> User:
        name = init.get("user") if isinstance(init, dict) else init
        if not isinstance(name, str):
            raise Misuse(f"{cls.__name__} stands for a user: give `init` the name, or a dictionary with 'user'")
        try:
            return User(name)
        except ValueError as error:
            raise Misuse(f"{cls.__name__}: {error}") from None
