"""Consensus engines behind one contract (engine.py). Pure."""
