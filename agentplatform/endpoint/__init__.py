"""The endpoint for requests over HTTP: it writes letters to agents, as a client of its host, and does nothing else.

`server` speaks HTTP (aiohttp, which is imported nowhere else), `asked` reads what was asked, `door` says who may,
`desk` asks, with `moves` for agents that move and `repeats` for requests that come twice. docs/requests.md says what
is promised.
"""
