"""Seals for journals and vaults in tests: each with the same secret, as if one host had them all."""

from agentplatform.custody.sealed import Seals
from services.dms.sealing import SECRET_BYTES, Keyring


def seals() -> Seals:
    return Seals(Keyring([bytes(SECRET_BYTES)]))
