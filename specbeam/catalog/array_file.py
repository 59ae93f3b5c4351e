"""Named numpy arrays in one memory-mapped file with a content hash.

The file is in the safetensors format (8-byte header length, JSON header, raw little-endian data),
so any safetensors reader opens it; reading here is by `numpy.memmap`, so that a large catalogue
costs no copy at start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from specbeam.catalog.errors import CatalogError

_DTYPES: dict[str, np.dtype[Any]] = {
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
}
_MAX_HEADER_BYTES = 1 << 20


def content_hash(arrays: Mapping[str, np.ndarray]) -> str:
    """Return the hex BLAKE2b-128 digest of names, dtypes, shapes and bytes, in name order."""
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def save_arrays(path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write `arrays` and `metadata` to `path` (replaced whole, never half-written)."""
    temporary = path.with_name(path.name + ".tmp")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    # Not save_file: it makes files that only their owner can read.
    temporary.write_bytes(save(contiguous, metadata=dict(metadata)))
    temporary.replace(path)


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Map the arrays of `path` read-only.

    Returns:
        The arrays by name and the file's metadata.

    Raises:
        CatalogError: the file is missing, cut short or not of this format.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            header_bytes = int.from_bytes(stream.read(8), "little")
            if not 2 <= header_bytes <= min(_MAX_HEADER_BYTES, size):
                raise CatalogError([f"{path.name}: not a catalogue file (bad header length)"])
            header: dict[str, Any] = json.loads(stream.read(header_bytes))
    except OSError as error:
        raise CatalogError([f"{path.name}: cannot be read ({error.strerror})"]) from error
    except ValueError as error:
        if isinstance(error, CatalogError):
            raise
        raise CatalogError([f"{path.name}: not a catalogue file (bad header)"]) from error
    metadata = header.pop("__metadata__", {})
    data_start = 8 + header_bytes
    arrays = {
        name: _map_array(path, entry, data_start, size, name) for name, entry in header.items()
    }
    return arrays, metadata


def _map_array(
    path: Path, entry: dict[str, Any], data_start: int, file_size: int, name: str
) -> np.ndarray:
    dtype = _DTYPES.get(entry.get("dtype", ""))
    begin, end = entry.get("data_offsets", (0, -1))
    shape = tuple(entry.get("shape", ()))
    if dtype is None or begin > end or data_start + end > file_size:
        raise CatalogError([f"{path.name}: array {name!r} is damaged or cut short"])
    if int(np.prod(shape, dtype=np.int64)) * dtype.itemsize != end - begin:
        raise CatalogError([f"{path.name}: array {name!r} has a wrong size"])
    if begin == end:
        return np.zeros(shape, dtype)
    mapped = np.memmap(path, dtype=dtype, mode="r", offset=data_start + begin, shape=shape)
    return np.asarray(mapped)  # a plain view: indexing a memmap object is several times slower
