"""Improved PBFT (Falcon's changes to PBFT, made safe): view changes carry certificates, blocks clear them. Pure."""

from ledger.consensus.ipbft.engine import Ipbft
from ledger.consensus.ipbft.messages import encode_blocks
from ledger.consensus.ipbft.settings import Settings

__all__ = ["Ipbft", "Settings", "encode_blocks"]
