"""Agents in worker processes: a fork server keeps some warm, a jail closes them in, the daemon talks to each."""
