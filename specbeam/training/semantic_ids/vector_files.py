"""Item vectors made elsewhere: .npy, .npz and .parquet files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from specbeam.training.errors import DatasetError
from specbeam.training.semantic_ids.vectors import FloatArray

ID_NAMES = ("item_id", "ids")
VECTOR_NAMES = ("vector", "vectors", "embedding")
SUFFIXES = (".npy", ".npz", ".parquet")


def read_vectors(path: Path, item_ids: Sequence[str]) -> FloatArray:
    """Read one vector per item.

    A .npy file holds an (N, d) array in the order of items.parquet; a .npz file holds arrays `ids`
    and `vectors`; a .parquet file holds the columns `item_id` and `vector` (a list of numbers).
    Vectors of ids that the dataset does not have are left out.

    Args:
        path: the file.
        item_ids: ids of the dataset, in order. N entries.

    Returns:
        float32, not normalised. Shape (N, d).

    Raises:
        DatasetError: listing every missing or repeated id and every row that is not finite.
    """
    if path.suffix not in SUFFIXES:
        raise DatasetError(str(path), [f"expected one of {', '.join(SUFFIXES)}"])
    if path.suffix == ".npy":
        return _in_item_order(_matrix(_load(path), path), item_ids, path)
    ids, vectors = _read_parquet(path) if path.suffix == ".parquet" else _read_npz(path)
    return _matched(ids, _matrix(vectors, path), item_ids, path)


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, BadZipFile) as error:
        raise DatasetError(str(path), [str(error)]) from error


def _read_npz(path: Path) -> tuple[list[str], npt.NDArray[Any]]:
    with _load(path) as archive:
        missing = [name for name in ("ids", "vectors") if name not in archive]
        if missing:
            raise DatasetError(str(path), [f"array {name!r} is missing" for name in missing])
        try:
            return [str(item_id) for item_id in archive["ids"].tolist()], archive["vectors"]
        except ValueError as error:  # an array of Python objects
            raise DatasetError(str(path), [str(error)]) from error


def _read_parquet(path: Path) -> tuple[list[str], npt.NDArray[Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(str(path), [str(error)]) from error
    id_column = next((name for name in ID_NAMES if name in table.column_names), None)
    column = next((name for name in VECTOR_NAMES if name in table.column_names), None)
    if id_column is None or column is None:
        found = ", ".join(table.column_names)
        raise DatasetError(str(path), [f"expected columns item_id and vector, found {found}"])
    ids = [str(item_id) for item_id in table[id_column].to_pylist()]
    kind = table[column].type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and not (
        pa.types.is_fixed_size_list(kind)
    ):
        raise DatasetError(str(path), [f"column {column}: expected lists of numbers, got {kind}"])
    rows = table[column].combine_chunks()
    lengths = np.array(rows.value_lengths().fill_null(-1).to_pylist(), np.int64)
    width = int(lengths.max(initial=0))
    problems = [
        f"vector of {ids[row]!r} has {max(int(lengths[row]), 0)} numbers, expected {width}"
        for row in np.flatnonzero(lengths != width)
    ]
    if problems:
        raise DatasetError(str(path), problems)
    try:
        values = rows.flatten().cast(pa.float32()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise DatasetError(str(path), [f"column {column}: {error}"]) from error
    return ids, values.reshape(len(ids), width)


def _matrix(vectors: Any, path: Path) -> FloatArray:
    if not isinstance(vectors, np.ndarray) or vectors.ndim != 2 or not vectors.shape[1]:
        shape = getattr(vectors, "shape", "no array")
        raise DatasetError(str(path), [f"expected an (N, d) array of numbers, got {shape}"])
    if vectors.dtype.kind not in "fiu":
        raise DatasetError(str(path), [f"expected numbers, got {vectors.dtype}"])
    with np.errstate(over="ignore"):  # too large for single precision: not finite, reported later
        return vectors.astype(np.float32)


def _in_item_order(vectors: FloatArray, item_ids: Sequence[str], path: Path) -> FloatArray:
    if len(vectors) != len(item_ids):
        problem = f"{len(vectors)} rows, but the dataset has {len(item_ids)} items"
        raise DatasetError(str(path), [problem])
    return _finite(vectors, item_ids, [], path)


def _matched(
    ids: list[str], vectors: FloatArray, item_ids: Sequence[str], path: Path
) -> FloatArray:
    if len(ids) != len(vectors):
        raise DatasetError(str(path), [f"{len(ids)} ids for {len(vectors)} vectors"])
    row_of: dict[str, int] = {}
    repeated: dict[str, None] = {}
    for row, item_id in enumerate(ids):
        if row_of.setdefault(item_id, row) != row:
            repeated[item_id] = None
    problems = [f"item id {item_id!r} appears more than once" for item_id in repeated]
    missing = [item_id for item_id in item_ids if item_id not in row_of]
    problems += [f"no vector for item {item_id!r}" for item_id in missing]
    present = [item_id for item_id in item_ids if item_id in row_of]
    return _finite(vectors[[row_of[item_id] for item_id in present]], present, problems, path)


def _finite(
    vectors: FloatArray, item_ids: Sequence[str], problems: list[str], path: Path
) -> FloatArray:
    """Return the vectors unless one is not finite or another problem was found before."""
    for row in np.flatnonzero(~np.isfinite(vectors).all(axis=1)).tolist():
        problems.append(f"vector of {item_ids[row]!r} is not finite")
    if problems:
        raise DatasetError(str(path), problems)
    return vectors
