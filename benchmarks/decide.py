"""`python -m benchmarks decide`: how fast, how good and how steady decisions are. Each part prints its own table."""

import argparse
import importlib
import json
from typing import Any

# Each is a module here, decide_NAME, with `measure() -> dict` of figures.
PARTS: dict[str, str] = {
    "plan": "how long a plan takes, how far it may be from the best, and what the greedy search loses",
    "adverts": "one host among 100, each of which advertises itself every second",
    "live": "four running hosts: from an event to the first PREPARE, and a storm of events",
    "regret": "what each policy costs over traces, of what the best plan in hindsight costs",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks decide", description=__doc__)
    parser.add_argument("--json", action="store_true", help="the figures as the last line")
    parser.add_argument("--only", choices=PARTS, action="append", help="this part; may be said again (default: all)")
    parser.add_argument("--policy", metavar="FILE.py:Class", help="regret: a policy to rank beside those built in")
    options = parser.parse_args(arguments)
    given = {"regret": {"policy": options.policy}}
    figures: dict[str, Any] = {}
    for name, what in PARTS.items():
        if options.only is None or name in options.only:
            print(f"\n{name}: {what}")
            figures |= importlib.import_module(f"benchmarks.decide_{name}").measure(**given.get(name, {}))
    if options.json:
        print(json.dumps(figures))
    return 0
