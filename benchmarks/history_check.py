"""Judges a history that hosts and drivers wrote (`--history FOLDER`); each violation is printed with its lines."""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

from tests.helpers.history_checker import Malformed, check, read, summary


def main(arguments: list[str]) -> int:
    """0 when nothing is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks history-check", description=__doc__)
    parser.add_argument("folder", type=Path, help="with files *.jsonl, one of each process")
    parser.add_argument("--under-way", action="store_true", help="the hosts did not come to rest: do not miss agents")
    parser.add_argument("--json", action="store_true", help="print the last line only")
    options = parser.parse_args(arguments)
    try:
        lines = read(options.folder)
    except (OSError, Malformed) as error:
        print(f"history-check: {error}", file=sys.stderr)
        return 2
    violations = check(lines, at_rest=not options.under_way)
    if not options.json:
        for violation in violations:
            print(violation)
        events = Counter(line.event for line in lines)
        print(", ".join(f"{count} {event}" for event, count in sorted(events.items())) or "no lines")
    print(json.dumps({"lines": len(lines), "violations": len(violations)} | summary(violations)))
    return 1 if violations else 0
