"""Asks agents over HTTP, by the endpoints of hosts (docs/requests.md). Of the standard library alone.

    from agentplatform.requests import Client

    client = Client(["http://127.0.0.1:8080", "http://10.0.0.5:8080"], token="..", moving="hold")
    client.ask("face-recognition", "recognise", {"picture": jpeg}, timeout=5.0)

What may have been handled is never asked again, but of the same host under the same Idempotency-Key, which gives the
same answer; where that cannot be, `OutcomeUnknown` says so.
"""

from agentplatform.requests.client import Client
from ledger.errors import OutcomeUnknown

__all__ = ["Client", "OutcomeUnknown"]
