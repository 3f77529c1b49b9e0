"""A signed genesis as a file: what the founders hand to everybody who runs a host."""

from pathlib import Path

from ledger import codec
from ledger.errors import Misuse, PeerFault
from ledger.genesis import Genesis, SignedGenesis

MAX_BYTES = 4 * 1024 * 1024


def write(path: Path, signed: SignedGenesis) -> None:
    """Writes the file. Refuses to replace one: a chain has one genesis."""
    signed.open()
    try:
        with path.open("xb") as file:
            file.write(codec.encode(signed))
    except FileExistsError:
        raise Misuse(f"{path} exists; a genesis is never overwritten") from None
    except OSError as error:
        raise Misuse(f"the genesis {path} cannot be written: {error.strerror}") from None


def read(path: Path) -> Genesis:
    """The genesis in `path`, its founders' signatures checked. Raises Misuse for anything else."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Misuse(f"the genesis {path} cannot be read: {error.strerror}") from None
    if len(raw) > MAX_BYTES:
        raise Misuse(f"{path} has more than {MAX_BYTES} bytes; that is no genesis")
    try:
        return codec.decode_canonical(raw, SignedGenesis, str(path)).open()
    except PeerFault as error:
        raise Misuse(f"{path} is no genesis file ({error}); ask a founder for it again") from None
