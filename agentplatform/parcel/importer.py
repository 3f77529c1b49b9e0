"""Opens a code bundle in a worker: its modules are imported from memory. Nothing else may import this."""

import importlib
import importlib.abc
import importlib.util
import linecache
import pickle
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType

from agentplatform.agent import Agent
from agentplatform.parcel.bundle import Contents, Module, open_bundle, python_minor
from ledger.errors import Misuse


class Importer(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Serves a bundle's modules before any that the host has."""

    def __init__(self, modules: Sequence[Module]) -> None:
        self._modules = {module.name: module for module in modules}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        module = self._modules.get(fullname)
        if module is None:
            return None
        spec = importlib.util.spec_from_loader(fullname, self, origin=_file(module), is_package=module.package)
        if spec is not None:
            spec.has_location = True
        return spec

    def get_source(self, fullname: str) -> str:
        return importlib.util.decode_source(self._modules[fullname].source)

    def is_package(self, fullname: str) -> bool:
        return self._modules[fullname].package

    def get_code(self, fullname: str) -> CodeType:
        source, file = self.get_source(fullname), _file(self._modules[fullname])
        # Without a time of change the entry stays: tracebacks show the lines of a file that this host does not have.
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
        return compile(source, file, "exec", dont_inherit=True)


def _file(module: Module) -> str:
    return module.name.replace(".", "/") + ("/__init__.py" if module.package else ".py")


class Code:
    """A bundle that was opened in this process. A process opens one, so that modules of two never mix."""

    def __init__(self, raw: bytes) -> None:
        """Raises Misuse for a bundle that cannot run here, naming what is missing; PeerFault for one that is none."""
        self._contents = open_bundle(raw)
        _check(self._contents)
        self._importer = Importer(self._contents.modules)
        sys.meta_path.insert(0, self._importer)

    def load(self, class_name: str) -> type[Agent]:
        """The agent class "module:Class". Raises Misuse with the error that its import met."""
        if self._contents.by_value is not None:
            cls = pickle.loads(self._contents.by_value)  # noqa: S301 - in a worker
        else:
            module, _, path = class_name.partition(":")
            cls = importlib.import_module(module)
            for name in path.split("."):
                cls = getattr(cls, name)
        if not (isinstance(cls, type) and issubclass(cls, Agent)):
            raise Misuse(f"{class_name} is no subclass of agentplatform.Agent")
        return cls

    def close(self) -> None:
        """Forgets the modules, as if they had never been imported."""
        sys.meta_path.remove(self._importer)
        for module in self._contents.modules:
            sys.modules.pop(module.name, None)


def _check(contents: Contents) -> None:
    here = python_minor()
    if contents.python not in (None, here):
        raise Misuse(
            f"this class was typed at a prompt of Python {contents.python} and opens only there; this host has {here}. "
            "Put the class in a file: source travels between versions"
        )
    missing = [name for name in contents.requires if name not in sys.modules and not _found(name)]
    if missing:
        raise Misuse(f"this host lacks the Python modules {', '.join(missing)}; install them there and try again")
    hidden = [module.name for module in contents.modules if module.name in sys.modules]
    if hidden:
        raise Misuse(f"the modules {', '.join(hidden)} hide others that this host uses; give the files other names")


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        return False
