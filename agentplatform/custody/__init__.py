"""Who may run an agent, and what may leave it: docs/custody.md in code.

The machine decides (pure): `handoff`, `held`, `changing` and `declaring` from `events` and `messages`, over the `state`
that `records` fold to. The edge does: `carry`, with `departures`, `arrivals` and `lifetimes`; `journal` and `kept` are
its disk, `residences` and `declarations` its ledger, `keeper` its lease, and `gateway` holds back what is not durable
yet. `copies` is a room within this one.
"""
