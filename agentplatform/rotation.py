"""A host's next key: drawn and kept beside the present one, and in its place only when the chain has taken it."""

import contextlib
import os
from pathlib import Path

from agentplatform.settings import Home
from ledger import keyfile
from ledger.client import Client
from ledger.contracts import membership, trust
from ledger.contracts.membership import Rotate, prove_possession
from ledger.durable import sync
from ledger.errors import Misuse, Unavailable
from ledger.identity import Identity
from ledger.replica import Replica

ATTEMPTS = 5  # at naming the very next height, while other blocks come between


async def announce(home: Home, host: str, organisation: str, replica: Replica, height: int | None) -> int:
    """The organisation announces the next key of `host`; returns the height from which it holds.

    `height` None: from the next block on. It can be called again after a crash, or when it was not known whether it
    became final: a key that was drawn is drawn once. Raises Misuse and Unavailable as Client.call does.
    """
    waiting = next((each for each in membership.pending(replica.state, organisation) if each.host == host), None)
    if waiting is not None and home.next_host_key.exists() and waiting.key == keyfile.load(home.next_host_key).public:
        if height not in (None, waiting.height):
            raise Misuse(f"the next key of {host} is announced for height {waiting.height} already")
        return waiting.height
    fresh = _next_key(home, replica)
    possession = prove_possession(fresh, replica.chain_id, organisation, host)
    client = Client(replica, keyfile.load(home.organisation_key))
    for _ in range(ATTEMPTS):
        at = replica.height + 2 if height is None else height
        try:
            await client.call("membership", Rotate(host, fresh.public, at, possession))
        except Misuse:
            if height is not None or replica.height + 1 < at:
                raise
            continue
        return at
    raise Unavailable("the chain is too busy to name its next height in time; say --at HEIGHT, some blocks ahead")


def adopt(home: Home, registered: bytes | None) -> bool:
    """Puts the next key in place, if it is the one that the chain has `registered`; the old one stays beside it."""
    if not home.next_host_key.exists() or keyfile.load(home.next_host_key).public != registered:
        return False
    put_in_place(home)
    return True


def put_in_place(home: Home) -> Path:
    """At every moment there is a whole key in `host_key`. Returns where the old one is. Raises Misuse: no next key."""
    if not home.next_host_key.exists():
        raise Misuse(f"{home.folder.name} has no next key; draw one with: agentplatform trust rotate-key")
    old = home.folder / f"host.key.{keyfile.load(home.host_key).public.hex()[:16]}"
    with contextlib.suppress(FileExistsError):  # by an attempt that was cut short
        os.link(home.host_key, old)
    os.replace(home.next_host_key, home.host_key)
    sync(home.folder)
    return old


def _next_key(home: Home, replica: Replica) -> Identity:
    """Durable before anybody hears of it. One that the chain knows, and that does not wait, is void: draw another."""
    if home.next_host_key.exists():
        kept = keyfile.load(home.next_host_key)
        if trust.past_holder(replica.state, kept.public) is None:
            return kept
        home.next_host_key.unlink()
    return keyfile.load_or_create(home.next_host_key)
