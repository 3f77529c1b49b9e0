"""The file with a host's secrets, by which what it keeps of agents is sealed (services.dms.sealing): data.key.

32 bytes each, one behind the other. The first seals; those behind it came with backups of another life of the host.
"""

import os
from pathlib import Path

from agentplatform.settings import Home
from ledger import keyfile
from ledger.errors import Misuse
from services.dms.sealing import SECRET_BYTES, Keyring


def load(path: Path) -> Keyring:
    """Raises Misuse for a file that is open to others, or no such key."""
    content = keyfile.read(path)
    if not content or len(content) % SECRET_BYTES:
        raise Misuse(f"the key {path} has {len(content)} bytes, not {SECRET_BYTES} for each secret; put a copy back")
    return Keyring([content[at : at + SECRET_BYTES] for at in range(0, len(content), SECRET_BYTES)])


def load_or_create(home: Home) -> Keyring:
    """That of a host; a fresh one for a host without data. Raises Misuse when there is data, and no key to it."""
    if not home.data_key.exists():
        if (home.data / "custody.db").exists():
            raise Misuse(
                f"{home.data / 'custody.db'} is there, and the key that opens it, {home.data_key}, is missing: put it "
                "back (each backup has it). Data of a release before sealing is not taken over: start that release"
            )
        keyfile.write_new(home.data_key, os.urandom(SECRET_BYTES))
    return load(home.data_key)


def add(home: Home, other: Path) -> None:
    """From now on what was sealed with the secrets in `other` is opened too."""
    ours = load(home.data_key).secrets if home.data_key.exists() else ()
    secrets = dict.fromkeys((*ours, *load(other).secrets))
    keyfile.write_over(home.data_key, b"".join(secrets))
