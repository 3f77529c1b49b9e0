"""The programs for people that pip installs. Each first looks whose packages it would import."""

import importlib
import sys

from agentplatform.packages import foreign_package


def command_line() -> int:
    return _run("agentplatform", "agentplatform.console.cli")


def shell() -> int:
    return _run("agent-shell", "agentplatform.console.shell")


def _run(program: str, module: str) -> int:
    if (foreign := foreign_package()) is not None:
        print(f"{program}: {foreign}", file=sys.stderr)
        return 2
    return int(importlib.import_module(module).main())
