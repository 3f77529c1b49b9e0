"""Agents that others find by what they do: `await self.find("echo", "1.2")`.

    class Echo(ServiceAgent):
        service, version = "echo", "1.4"

        def handle_message(self, message):
            return message.body

The directory (agentplatform.directory) says where they are.
"""

from typing import Any, ClassVar

from agentplatform.agent import Agent
from agentplatform.kinds import Service
from ledger.errors import Misuse


class ServiceAgent(Agent):
    """Offers the service that its class names. Every host's directory has it, with its owner and where it is now.

    Clones are not in the directory: their certificates are signed by a host, and a host may not add to what an owner
    offers.
    """

    service: ClassVar[str]
    """What it offers: lower case letters, digits and "-", at most 32. Anyone may offer a service of this name; their
    owners tell them apart."""

    version: ClassVar[str]
    """ "MAJOR.MINOR". Who asks for 1.2 gets any 1.x from 1.2 on, and no 2.x."""

    @classmethod
    def kind_of(cls, init: Any) -> Service:
        missing = [name for name in ("service", "version") if not isinstance(getattr(cls, name, None), str)]
        if missing:
            raise Misuse(f"{cls.__name__} is a service agent with no {' and no '.join(missing)}; set it in the class")
        try:
            return Service(cls.service, cls.version)
        except ValueError as error:
            raise Misuse(f"{cls.__name__}: {error}") from None
