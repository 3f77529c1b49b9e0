"""From what a person types to an agent's class: a name of the catalogue, FILE.py:Class, or module:Class."""

import importlib
import importlib.util
import sys
from pathlib import Path

from agentplatform.agent import Agent
from agentplatform.packages import foreign_package
from ledger.errors import Misuse, PlatformError

SHOP = "agents"  # looked up by name: the platform imports no agent


def names() -> dict[str, str]:
    """Name in the catalogue -> "module:Class"."""
    if (foreign := foreign_package()) is not None:
        raise Misuse(foreign)
    table: dict[str, str] = importlib.import_module(SHOP).CATALOGUE
    return dict(table)


def find(what: str) -> type[Agent]:
    """The class that `what` names. Raises Misuse, with the names that there are, when there is none."""
    if ":" in what:
        place, _, class_name = what.rpartition(":")
        return _from_file(Path(place), class_name) if place.endswith(".py") else _from_module(place, class_name)
    known = names()
    if what not in known:
        listed = ", ".join(sorted(known))
        raise Misuse(f"the catalogue has no agent {what!r}; it has {listed}. Or say FILE.py:Class or module:Class")
    return _from_module(*known[what].split(":"))


def _from_file(path: Path, class_name: str) -> type[Agent]:
    """Imports the file as a module of its folder, as `python FILE.py` would: what stands beside it can be imported."""
    path = path.resolve()
    if not path.is_file():
        raise Misuse(f"there is no file {path}")
    _search_first(path.parent)
    importlib.invalidate_caches()  # in a shell the file may be newer than what was seen of its folder
    spec = importlib.util.find_spec(path.stem) if path.stem.isidentifier() else None
    if spec is None or spec.origin is None or Path(spec.origin).resolve() != path:
        raise Misuse(
            f"{path.name} cannot be imported: {path.stem!r} is taken, or no name for a module; rename the file"
        )
    sys.modules.pop(path.stem, None)  # likewise: it may have been edited since it was imported
    return _from_module(path.stem, class_name)


def _from_module(module_name: str, class_name: str) -> type[Agent]:
    if not module_name or module_name.startswith("."):
        raise Misuse(f"{module_name!r} is no module; say module:Class, for example my_agents.counter:Counter")
    _search_first(Path.cwd())
    try:
        module = importlib.import_module(module_name)
    except PlatformError:
        raise
    except ModuleNotFoundError as error:
        raise Misuse(f"{module_name} cannot be imported: there is no module {error.name!r} here") from None
    except Exception as error:  # whatever a stranger's module raises
        raise Misuse(f"{module_name} cannot be imported: {type(error).__name__}: {error}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, Agent)):
        there = [name for name, value in vars(module).items() if _is_agent_class(value)]
        raise Misuse(f"{module_name} has no agent class {class_name!r}; it has: {', '.join(there) or 'none'}")
    return found


def _is_agent_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Agent) and value is not Agent


def _search_first(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
