"""Makes a code bundle of an agent's class: its module and what that imports from the same folder tree.

`bundle_of` runs where an agent is created, in the client's process.
"""

import ast
import importlib.util
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import cloudpickle
import msgspec

from agentplatform.agent import Agent
from agentplatform.parcel.bundle import MAX_BUNDLE_BYTES, Contents, Module, python_minor
from ledger import codec
from ledger.errors import Misuse

PLATFORM = frozenset({"agentplatform", "services", "ledger"})  # every host has these; `agents` travels like any code


class Bundle(msgspec.Struct, frozen=True):
    """The code of one class, ready to travel."""

    class_name: str  # "module:Class" within the bundle
    contents: Contents
    raw: bytes  # `contents`, encoded


def bundle_of(cls: type[Agent]) -> Bundle:
    """The module of `cls` and the modules that it imports from the same folder tree, however deep.

    What it imports from elsewhere becomes a requirement by name. A class typed at a prompt has no source; it goes
    by value. Raises Misuse for a class that cannot travel, with what to do about it.
    """
    if "<locals>" in cls.__qualname__:
        raise Misuse(f"{cls.__qualname__} is defined inside a function; move it to the top of its module")
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    if file is None:
        return _by_value(cls)
    name = _module_name(cls.__module__, module, Path(file))
    path = Path(file).resolve()
    root = path.parents[name.count(".") + (path.name == "__init__.py")]
    modules, requires = _collect(name, path, root)
    contents = Contents(
        tuple(modules[each] for each in sorted(modules)), tuple(sorted(requires)), by_value=None, python=None
    )
    return _bundle(f"{name}:{cls.__qualname__}", contents)


def _by_value(cls: type[Agent]) -> Bundle:
    try:
        raw = cloudpickle.dumps(cls, protocol=5)
    except Exception as error:
        raise Misuse(f"{cls.__name__} has no source file and cannot be pickled: {error}; put it in a file") from error
    return _bundle(f"{cls.__module__}:{cls.__qualname__}", Contents((), (), raw, python_minor()))


def _bundle(class_name: str, contents: Contents) -> Bundle:
    raw = codec.encode(contents)
    if len(raw) > MAX_BUNDLE_BYTES:
        names = ", ".join(module.name for module in sorted(contents.modules, key=lambda m: -len(m.source))[:3])
        raise Misuse(f"the code of {class_name} has {len(raw)} bytes, of at most {MAX_BUNDLE_BYTES}; largest: {names}")
    return Bundle(class_name, contents, raw)


def _module_name(name: str, module: object, file: Path) -> str:
    if name != "__main__":
        return name
    spec = getattr(module, "__spec__", None)  # set by `python -m package.module`
    return str(spec.name) if spec is not None else file.stem.replace(".", "_")


def _collect(name: str, path: Path, root: Path) -> tuple[dict[str, Module], set[str]]:
    """The modules that travel, and the top-level names that the other host must have."""
    own = name.partition(".")[0]
    if own in sys.stdlib_module_names or own in PLATFORM:
        raise Misuse(f"{path} hides the module {own!r} that every host has; give the file another name")
    installed = _is_installed(root)  # then all but the class's own package are requirements
    modules = {name: _read(name, path)}
    requires: set[str] = set()
    to_do = [*_parents(name), *_wanted(modules[name], path)]
    while to_do:
        name, optional = to_do.pop()
        top = name.partition(".")[0]
        if name in modules or top in sys.stdlib_module_names or top in PLATFORM:
            continue
        if (installed and top != own) or not _is_local(root, top):
            if not optional:
                requires.add(top)
            continue
        file = _locate(root, name)
        if file is None:
            continue  # `from package import name`: an attribute, no module
        modules[name] = _read(name, file)
        to_do += [*_parents(name), *_wanted(modules[name], file)]
    return modules, requires


def _parents(name: str) -> list[tuple[str, bool]]:
    parts = name.split(".")
    return [(".".join(parts[:length]), False) for length in range(1, len(parts))]


def _locate(root: Path, name: str) -> Path | None:
    """The file of a module under `root`; a folder for a package without __init__.py; None for no module."""
    base = root.joinpath(*name.split("."))
    for candidate in (base / "__init__.py", base.with_name(base.name + ".py")):
        if candidate.is_file():
            return candidate
    return base if base.is_dir() else None


def _is_local(root: Path, top: str) -> bool:
    file = _locate(root, top)
    if file is None or file.is_file():
        return file is not None
    try:  # a bare folder loses against a package that is installed elsewhere, as in Python's own search
        spec = importlib.util.find_spec(top)
    except ValueError:
        return False
    return spec is None or spec.origin is None


def _is_installed(root: Path) -> bool:
    folders = {*sysconfig.get_paths().values(), *site.getsitepackages(), site.getusersitepackages()}
    return str(root) in {str(Path(folder).resolve()) for folder in folders}


def _read(name: str, file: Path) -> Module:
    if file.is_dir():
        return Module(name, True, b"")
    try:
        return Module(name, file.name == "__init__.py", file.read_bytes())
    except OSError as error:
        raise Misuse(f"the source of {name} cannot be read: {error}") from None


def _wanted(module: Module, file: Path) -> list[tuple[str, bool]]:
    """The imports of a module, as (dotted name, optional). Found by reading the source; nothing is executed."""
    try:
        tree = ast.parse(module.source, str(file))
    except (SyntaxError, ValueError) as error:
        raise Misuse(f"{file} is no Python source: {error}") from None
    package = module.name if module.package else module.name.rpartition(".")[0]
    return list(_imports(tree, package, optional=False))


def _imports(node: ast.AST, package: str, optional: bool) -> Iterator[tuple[str, bool]]:
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.name, optional
            yield from ((parent, optional) for parent, _ in _parents(alias.name))
    elif isinstance(node, ast.ImportFrom):
        above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
        base = ".".join([*above, *([node.module] if node.module else [])])
        yield base, optional
        yield from ((f"{base}.{alias.name}", optional) for alias in node.names)
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in node.orelse:
            yield from _imports(statement, package, optional)
    else:
        # `try: import x` with a fallback: x may be missing on the other host as it may be missing here.
        guarded = isinstance(node, ast.Try) and any(_catches_import_error(handler) for handler in node.handlers)
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, package, optional or guarded)


def _catches_import_error(handler: ast.ExceptHandler) -> bool:
    caught = "" if handler.type is None else ast.unparse(handler.type)
    return handler.type is None or any(name in caught for name in ("ImportError", "ModuleNotFoundError", "Exception"))
