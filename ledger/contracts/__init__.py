"""Contracts: deterministic functions from state and action to state. Pure."""
