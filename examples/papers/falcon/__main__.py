"""`python -m examples.papers.falcon [FIGURE ..] [--full] [--out FOLDER]`: `agentplatform reproduce falcon`."""

import sys

from agentplatform.console.cli import main

if __name__ == "__main__":  # replicas of the ledger are processes that import this again
    sys.exit(main(["reproduce", "falcon", *sys.argv[1:]]))
