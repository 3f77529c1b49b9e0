"""Is it really our code that would run? Other distributions ship packages called `agents` or `services` too,
and pip lets them overwrite ours without a word."""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

from ledger.errors import Misuse

OURS = ("agentplatform", "agents", "services", "ledger")
MARK = 'PART_OF = "agentplatform"'


def check_packages() -> None:
    """Raises Misuse naming the package that is missing or not ours. Nothing foreign is imported to find out."""
    for name in OURS:
        spec = importlib.util.find_spec(name)
        if not _is_ours(spec):
            place = spec.origin if spec and spec.origin else "nowhere"
            raise Misuse(
                f"the package {name!r} that Python finds ({place}) is not agentplatform's: another distribution "
                "is in the way. Install agentplatform into an environment of its own (python -m venv)"
            )


def _is_ours(spec: ModuleSpec | None) -> bool:
    return spec is not None and spec.origin is not None and MARK in Path(spec.origin).read_text(errors="replace")
