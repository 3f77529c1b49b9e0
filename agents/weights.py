"""Weights of models: arrays by name, from files that run nothing.

A pickle can run anything when it is opened, and the files that people pass around as `.pth` are pickles. So here
`.npz` is read without pickles, `.safetensors` has none, and of `.pth` and `.pt` PyTorch builds nothing but tensors
(`weights_only`). Files are held to MAX_BYTES before they are read, and to what they claim to hold before there is room
made for it.
"""

import json
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.errors import Misuse

Weights = dict[str, NDArray[Any]]

MAX_BYTES = 1 << 30  # of a file, and of the arrays in it
MAX_HEADER = 16 << 20  # bytes of the table at the head of a safetensors file
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_NESTED = ("state_dict", "model_state_dict", "model")  # where training programs put the weights among other things


def load(path: Path) -> Weights:
    """The arrays in a file. Raises Misuse that names the file: it is too large, damaged, or of no known kind."""
    ways = {".npz": _npz, ".safetensors": _safetensors, ".pth": _pickled_tensors, ".pt": _pickled_tensors}
    if path.suffix not in ways:
        raise Misuse(f"{path.name} is no file of weights that is known: name one that ends in {', '.join(ways)}")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise Misuse(f"{path.name} has {size} bytes, of at most {MAX_BYTES}: it is no model for this service")
        return ways[path.suffix](path)
    except Misuse:
        raise
    except Exception as error:  # what reads damaged files raises whatever comes to it
        reason = f"{error!s:.200}" or type(error).__name__
        raise Misuse(f"{path.name} cannot be read as {path.suffix} weights: {reason}; get the file again") from None


def save(path: Path, weights: Mapping[str, NDArray[Any]]) -> None:
    """As .npz, whole or not at all."""
    if path.suffix != ".npz":
        raise Misuse(f"weights are written as .npz: name a file that ends so, not {path.name}")
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            np.savez(file, allow_pickle=False, **dict(weights))
        part.replace(path)
    except OSError as error:
        raise Misuse(f"{path} cannot be written: {error.strerror}; name another file") from None
    finally:
        part.unlink(missing_ok=True)


def fitted(weights: Mapping[str, NDArray[Any]], shapes: Mapping[str, tuple[int, ...]], model: str) -> Weights:
    """The weights that `model` takes, as it takes them: float32, or whole numbers where they are such.

    Raises Misuse for the first that is missing, left over, of another shape, or not finite.
    """
    for name in sorted(shapes.keys() - weights.keys()):
        raise Misuse(f"these are no weights of {model}: {name!r} is missing; they begin with {_first(weights)}")
    for name in sorted(weights.keys() - shapes.keys()):
        raise Misuse(f"these are no weights of {model}: it has no {name!r}")
    taken: Weights = {}
    for name, shape in shapes.items():
        array = weights[name]
        if array.shape != shape:
            raise Misuse(f"these are no weights of {model}: {name!r} is {list(array.shape)}, and must be {list(shape)}")
        if array.dtype.kind not in "fiu":
            raise Misuse(f"these are no weights of {model}: {name!r} holds {array.dtype}, and no numbers")
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(array, np.float32 if array.dtype.kind == "f" else np.int64).reshape(shape)
        if not np.isfinite(array).all():
            raise Misuse(f"these are no weights of {model}: {name!r} has values that are not finite; train it again")
        taken[name] = array
    return taken


def sure(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are. Raises Misuse where finite weights gave what is no number: a variance below zero does."""
    if not np.isfinite(probabilities).all():
        raise Misuse("the model gives what is no number for this: its weights are damaged; train it again")
    return probabilities


def _first(weights: Mapping[str, Any]) -> str:
    return ", ".join(map(repr, sorted(weights)[:3])) or "nothing"


def _npz(path: Path) -> Weights:
    _check_unpacked(path)
    with np.load(path, allow_pickle=False, max_header_size=10_000) as arrays:
        weights = {name: arrays[name] for name in arrays.files}
    for name, array in weights.items():
        if not isinstance(array, np.ndarray):  # other files in it are given as bytes
            raise ValueError(f"{name!r} is no array")
    return weights


def _safetensors(path: Path) -> Weights:
    """Eight bytes with the length of a JSON table (name -> dtype, shape, from, to), the table, and the numbers."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"its table would have {length} bytes")
        table = json.loads(file.read(length))
        data = file.read()
    weights: Weights = {}
    size = 0
    for name, entry in table.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name!r} is of {entry['dtype']}, which is not read: use {', '.join(_DTYPES)}")
        dtype, shape, (begin, end) = np.dtype(_DTYPES[entry["dtype"]]), entry["shape"], entry["data_offsets"]
        if not (0 <= begin <= end <= len(data) and end - begin == math.prod(shape) * dtype.itemsize):
            raise ValueError(f"{name!r} does not lie in the file as its table says")
        size += end - begin
        _check(path, size)  # many may name the same bytes, and each makes room for its own
        weights[name] = np.frombuffer(data[begin:end], dtype).reshape(shape)
    return weights


def _pickled_tensors(path: Path) -> Weights:
    try:
        import torch
    except ImportError:
        raise Misuse(
            f"{path.name} is a file of PyTorch, which is missing: say in the folder of these sources: "
            "pip install '.[torch]', or name a .safetensors or .npz file"
        ) from None
    from pickle import UnpicklingError

    if zipfile.is_zipfile(path):
        _check_unpacked(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError) as error:
        raise Misuse(
            f"{path.name} is refused: it is damaged, or holds more than weights, and could run anything "
            f"({str(error).splitlines()[0]:.120}); save the state_dict alone, or as .safetensors"
        ) from None
    nested = [found[name] for name in _NESTED if isinstance(found, dict) and isinstance(found.get(name), dict)]
    tensors = nested[0] if nested else found
    if not isinstance(tensors, dict) or not all(isinstance(each, torch.Tensor) for each in tensors.values()):
        raise Misuse(f"{path.name} holds no table of weights by name: save the model's state_dict()")
    _check(path, sum(each.nbytes for each in tensors.values()))
    return {str(name): _array(each) for name, each in tensors.items()}


def _array(tensor: Any) -> NDArray[Any]:
    """A view that travels beside a pickle; half precision of a kind that NumPy lacks is widened."""
    tensor = tensor.detach().resolve_conj().resolve_neg()
    return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy())


def _check_unpacked(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        _check(path, sum(entry.file_size for entry in archive.infolist()))


def _check(path: Path, size: int) -> None:
    if size > MAX_BYTES:
        raise Misuse(f"{path.name} holds {size} bytes of arrays, of at most {MAX_BYTES}: it is no model for this")
