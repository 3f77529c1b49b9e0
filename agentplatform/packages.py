"""Is it really our code that would run? Other distributions ship packages called `agents` or `services` too,
and pip lets them overwrite ours without a word.

This module imports nothing of ours: it must work when what it looks for is the case.
"""

import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

OURS = ("agentplatform", "agents", "services", "ledger")
MARK = 'PART_OF = "agentplatform"'


def foreign_package() -> str | None:
    """What is wrong and what to do, when a package is missing or not ours. Nothing foreign is imported to find out."""
    for name in OURS:
        spec = importlib.util.find_spec(name)
        if not _is_ours(spec):
            place = spec.origin if spec and spec.origin else "nowhere"
            return (
                f"the package {name!r} that Python finds ({place}) is not agentplatform's: another distribution "
                "is in the way. Install agentplatform into an environment of its own (python -m venv)"
            )
    return None


def _is_ours(spec: ModuleSpec | None) -> bool:
    return spec is not None and spec.origin is not None and MARK in Path(spec.origin).read_text(errors="replace")
