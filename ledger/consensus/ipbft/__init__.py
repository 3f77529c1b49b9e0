"""Improved PBFT (Falcon's changes to PBFT, made safe): view changes carry certificates, blocks clear them. Pure."""

from ledger.consensus.ipbft.engine import Ipbft

__all__ = ["Ipbft"]
