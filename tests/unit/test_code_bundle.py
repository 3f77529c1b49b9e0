import importlib.util
import linecache
import subprocess
import sys
import textwrap
import traceback
from pathlib import Path
from types import ModuleType

import pytest

from agentplatform import Agent
from agentplatform.parcel import bundle as bundles
from agentplatform.parcel import code
from agentplatform.parcel.bundle import Contents, Module, open_bundle, python_minor
from agentplatform.parcel.code import Bundle, bundle_of
from agentplatform.parcel.importer import Code
from ledger import codec
from ledger.errors import Misuse, PeerFault
from tests.helpers.travellers import Counter

FILES = {
    "wanderer/__init__.py": "",
    "wanderer/agent.py": """
        import json, os.path
        import lonely_planet
        from typing import TYPE_CHECKING
        from agentplatform import Agent
        from ledger.errors import Misuse
        from . import maps
        from .tools.shoes import lace
        if TYPE_CHECKING:
            import only_for_types
        try:
            import nice_to_have
        except ImportError:
            nice_to_have = None

        class Wanderer(Agent):
            def handle_message(self, message):
                import wanderer.late
                return lace(maps.PLACES)
    """,
    "wanderer/maps.py": "PLACES = ['here']",
    "wanderer/tools/shoes.py": "import numpy\nfrom wanderer import maps\ndef lace(x):\n    raise RuntimeError(x)",
    "wanderer/late.py": "",
    "wanderer/unused.py": "import antigravity",
}


@pytest.fixture
def wanderer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Agent]:
    """A class in a package on disk; the module that its first line requires exists nowhere."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "lonely_planet", ModuleType("lonely_planet"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "wanderer"]:
        monkeypatch.delitem(sys.modules, name)
    module = importlib.import_module("wanderer.agent")
    yield module.Wanderer
    for name in [name for name in sys.modules if name.partition(".")[0] == "wanderer"]:
        del sys.modules[name]


def names(bundle: Bundle) -> list[str]:
    return [module.name for module in bundle.contents.modules]


def test_a_bundle_holds_what_the_class_imports_from_its_own_tree(wanderer: type[Agent]) -> None:
    bundle = bundle_of(wanderer)
    assert bundle.class_name == "wanderer.agent:Wanderer"
    assert names(bundle) == [
        *("wanderer", "wanderer.agent", "wanderer.late", "wanderer.maps", "wanderer.tools", "wanderer.tools.shoes"),
    ]
    assert bundle.contents.requires == ("lonely_planet", "numpy")


def test_the_same_sources_have_the_same_bytes_and_a_changed_one_has_not(wanderer: type[Agent], tmp_path: Path) -> None:
    raw = bundle_of(wanderer).raw
    assert bundle_of(wanderer).raw == raw == codec.encode(open_bundle(raw))
    (tmp_path / "wanderer/maps.py").write_text("PLACES = ['there']")
    assert bundle_of(wanderer).raw != raw


def test_a_bundle_is_imported_from_memory_and_shows_its_lines(wanderer: type[Agent], tmp_path: Path) -> None:
    bundle = bundle_of(wanderer)
    for name in names(bundle):
        sys.modules.pop(name, None)
        (tmp_path / (name.replace(".", "/") + ".py")).unlink(missing_ok=True)
    opened = Code(bundle.raw)
    try:
        cls = opened.load(bundle.class_name)
        linecache.checkcache()
        with pytest.raises(RuntimeError) as caught:
            cls().handle_message(None)  # type: ignore[arg-type]
        assert "return lace(maps.PLACES)" in "".join(traceback.format_exception(caught.value))
    finally:
        opened.close()


def test_a_missing_module_is_named(wanderer: type[Agent], monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = bundle_of(wanderer)
    monkeypatch.delitem(sys.modules, "lonely_planet")
    with pytest.raises(Misuse, match="this host lacks the Python modules lonely_planet; install"):
        Code(bundle.raw)


def test_modules_of_the_platform_stay_at_home_and_folders_without_init_travel() -> None:
    bundle = bundle_of(Counter)
    assert names(bundle) == ["tests", "tests.helpers", "tests.helpers.travellers"]
    assert bundle.contents.requires == ()


def test_a_script_travels_under_its_file_name(tmp_path: Path) -> None:
    script = tmp_path / "01_counter.py"
    script.write_text(
        "from agentplatform import Agent\nfrom agentplatform.parcel.code import bundle_of\n"
        "class Mine(Agent): pass\n"
        "if __name__ == '__main__':\n"
        "    b = bundle_of(Mine)\n    print(b.class_name, [m.name for m in b.contents.modules], b.contents.by_value)\n"
    )
    root = str(Path(code.__file__).parents[2])
    run = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": root}, capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert run.stdout == "01_counter:Mine ['01_counter'] None\n"


def typed_at_a_prompt() -> type[Agent]:
    """A class in a __main__ that has no file."""
    space: dict[str, object] = {"__name__": "__main__", "Agent": Agent}
    exec("class Typed(Agent):\n    def handle_message(self, message):\n        return len(message.kind)", space)
    return space["Typed"]  # type: ignore[return-value]


def test_a_class_without_source_goes_by_value_to_the_same_python_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "__main__", ModuleType("__main__"))
    bundle = bundle_of(typed_at_a_prompt())
    assert bundle.contents.python == python_minor()
    opened = Code(bundle.raw)
    assert opened.load(bundle.class_name).__name__ == "Typed"
    opened.close()
    other = Contents((), (), bundle.contents.by_value, "3.1")
    with pytest.raises(Misuse, match=r"typed at a prompt of Python 3\.1 and opens only there"):
        Code(codec.encode(other))


def test_a_class_in_a_function_is_refused() -> None:
    class Local(Agent):
        pass

    with pytest.raises(Misuse, match="inside a function; move it"):
        bundle_of(Local)


def test_a_file_that_hides_a_module_of_all_hosts_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "json.py"
    file.write_text("from agentplatform import Agent\nclass Json(Agent): pass\n")
    with pytest.raises(Misuse, match="hides the module 'json'"):
        code._collect("json", file, tmp_path)


def test_a_bundle_that_hides_a_loaded_module_is_refused() -> None:
    raw = codec.encode(Contents((Module("msgspec", False, b""),), (), None, None))
    with pytest.raises(Misuse, match="msgspec hide others"):
        Code(raw)


def test_only_agents_are_loaded() -> None:
    opened = Code(codec.encode(Contents((Module("plainly", False, b"class Thing: pass"),), (), None, None)))
    with pytest.raises(Misuse, match="plainly:Thing is no subclass"):
        opened.load("plainly:Thing")
    opened.close()


def test_the_size_is_limited_on_both_sides(wanderer: type[Agent], monkeypatch: pytest.MonkeyPatch) -> None:
    raw = bundle_of(wanderer).raw
    for side in (code, bundles):
        monkeypatch.setattr(side, "MAX_BUNDLE_BYTES", len(raw) - 1)
    with pytest.raises(Misuse, match=r"largest: wanderer\.agent"):
        bundle_of(wanderer)
    with pytest.raises(PeerFault, match="at most"):
        open_bundle(raw)


def test_other_bytes_are_no_bundle() -> None:
    with pytest.raises(PeerFault, match="no Contents"):
        open_bundle(b"\x93\x01\x02\x03")
