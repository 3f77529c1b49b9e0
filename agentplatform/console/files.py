"""Files that people name on the command line."""

from pathlib import Path

from ledger.errors import Misuse


def read(file: Path, most: int) -> bytes:
    """Its first `most` bytes and one more, so that whoever parses it sees that there are too many."""
    try:
        with file.open("rb") as opened:
            return opened.read(most + 1)
    except OSError as error:
        raise Misuse(f"{file} cannot be read: {error.strerror}") from None


def write(file: Path, raw: bytes) -> None:
    """A new file: what is there already is never replaced."""
    try:
        with file.open("xb") as opened:
            opened.write(raw)
    except FileExistsError:
        raise Misuse(f"{file} exists; name another file") from None
    except OSError as error:
        raise Misuse(f"{file} cannot be written: {error.strerror}") from None
