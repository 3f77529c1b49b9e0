"""The front door of a host: how people and programs on the same machine reach it (Pyro5, local socket)."""
