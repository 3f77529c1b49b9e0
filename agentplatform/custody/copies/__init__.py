"""Copies of held agents on other hosts, so that an agent comes back when its own host is gone: docs/custody.md in code.

`holders` has the rules (pure), `messages` what two hosts say. At the agent's host `replication` joins `naming` (who
holds it), `feeds` (what they get) and `origins` (what a full copy is made of); at a holder's it is `vault`. How the
consortium gives an agent a new home is beside this room: custody.votes decides, custody.rehoming does.
"""
