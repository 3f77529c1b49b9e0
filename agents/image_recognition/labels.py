"""What the classes of a model are called: a text file with one name a line, or JSON."""

import json
from pathlib import Path

from ledger.errors import Misuse

MAX_BYTES = 4 << 20
MAX_NAME = 200  # characters


def read(path: Path) -> list[str]:
    """The names, in the order of the classes. JSON is a list of names, or, as Keras has it for ImageNet, an object that
    numbers them from "0": {"0": ["n01440764", "tench"], ..}. Raises Misuse that names the file and the label."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Misuse(f"{path.name} has more than {MAX_BYTES} bytes, so it is no list of labels")
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise Misuse(f"{path.name} cannot be read as a list of labels: {error}") from None
    names = _json(path.name, text) if path.suffix == ".json" else text.rstrip().splitlines()
    if not any(names):
        raise Misuse(f"{path.name} names nothing: write one label a line")
    for number, name in enumerate(names):
        if not name.strip() or len(name) > MAX_NAME:
            raise Misuse(
                f"{path.name}: the label of class {number} is {name!r:.40}; it needs 1 to {MAX_NAME} characters"
            )
    return [name.strip() for name in names]


def _json(file: str, text: str) -> list[str]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Misuse(f"{file} is no JSON: {error}") from None
    if isinstance(found, dict):
        missing = next((number for number in range(len(found)) if str(number) not in found), None)
        if missing is not None:
            raise Misuse(f"{file} names {len(found)} classes, and no class {missing}")
        found = [found[str(number)] for number in range(len(found))]
    names = [each[-1] if isinstance(each, list) and each else each for each in found] if isinstance(found, list) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise Misuse(f"{file} is no list of labels: write a list of texts, or an object that numbers them from 0")
    return names
