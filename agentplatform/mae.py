"""The daemon's program: `mae --home FOLDER`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from agentplatform.packages import foreign_package


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="mae", description="Runs one host of a consortium.")
    parser.add_argument("--home", type=Path, required=True, help="the host's folder, made by: agentplatform found")
    parser.add_argument("--history", type=Path, help="the folder to write what happens to, for a checker")
    options = parser.parse_args(arguments)
    if (foreign := foreign_package()) is not None:
        print(f"mae: {foreign}", file=sys.stderr)
        return 2
    from agentplatform.daemon import run  # not at the top: with a foreign package in the way it cannot be imported

    return run(options.home, options.history)


if __name__ == "__main__":
    sys.exit(main())
