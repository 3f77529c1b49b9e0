"""Founding a consortium on one machine: a folder, keys and an address for each host, and one signed genesis.

Organisations on machines of their own exchange public keys and signatures instead; see docs/operating.md.
"""

import socket
import time
from collections.abc import Sequence
from pathlib import Path

from agentplatform.settings import Home, private_folder
from ledger import genesisfile, keyfile
from ledger.block import RULES_VERSION
from ledger.errors import Misuse
from ledger.genesis import Genesis, Organisation, assemble, sign
from ledger.links.base import Passport

AUDITOR_KEY = "auditor.key"
COMPASS = ("north", "east", "south", "west")


def found(
    root: Path,
    hosts: Sequence[str] = COMPASS,
    *,
    name: str = "consortium",
    first_port: int = 0,
    addresses: Sequence[str] = (),
) -> list[Home]:
    """Makes a host for each name, each of an organisation of its own, and returns their folders.

    Beside them, under `root`, it puts the key of the auditor, whom pseudonyms are sealed to: keep it elsewhere.
    `first_port` and those after it are the hosts' ports; 0 takes free ones. `addresses`, one for each host, take their
    place where not all is on the loopback. Raises Misuse when something was founded under `root` already: keys are
    never overwritten.
    """
    if list(root.glob("hosts/*")):
        raise Misuse(f"a consortium was founded under {root} already; choose another place with --root")
    if len(set(hosts)) != len(hosts) or not hosts:
        raise Misuse("a consortium needs at least one host, each with a name of its own")
    if not addresses:
        ports = range(first_port, first_port + len(hosts)) if first_port else free_ports(len(hosts))
        addresses = [f"127.0.0.1:{port}" for port in ports]
    votes = [keyfile.draw() for _ in hosts]
    keys = [keyfile.draw() for _ in hosts]
    auditor = keyfile.draw()
    passports = [
        Passport(host, f"{host}-org", key.public, address)
        for host, key, address in zip(hosts, keys, addresses, strict=True)
    ]
    genesis = Genesis(
        name,
        int(time.time() * 1000),
        RULES_VERSION,
        tuple(Organisation(p.organisation, vote.public, (p,)) for p, vote in zip(passports, votes, strict=True)),
        auditor.public,
    )
    signed = assemble(genesis, [sign(genesis, vote) for vote in votes])  # all is checked; now write
    private_folder(root)
    keyfile.write(root / AUDITOR_KEY, auditor)
    homes = [Home(private_folder(root / "hosts" / host)) for host in hosts]
    for home, passport, vote, key in zip(homes, passports, votes, keys, strict=True):
        keyfile.write(home.organisation_key, vote)
        keyfile.write(home.host_key, key)
        genesisfile.write(home.genesis, signed)
        home.settings_file.write_text(_SETTINGS.format(passport=passport))
    return homes


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


_SETTINGS = """# One host of the consortium. Every field is explained in agentplatform/settings.py.
host = "{passport.host}"
organisation = "{passport.organisation}"
listen = "{passport.address}"

[workers]
preload = ["numpy", "cv2", "av"]   # imported once, ahead of all workers; what is not installed is skipped
"""
