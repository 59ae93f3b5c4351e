"""Reading and checking the rows of an interaction log."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from specbeam.training.data.tables.columns import ITEM, RATING, TIME, USER, Found, find_column
from specbeam.training.data.tables.options import LogFields
from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.data.tables.source import open_table
from specbeam.training.data.tables.times import KIND_NAMES, Kind, Times, read_times


@dataclass(frozen=True, slots=True)
class Log:
    """The rows of an interaction log, in the order of the file.

    Attributes:
        user_ids: outside names of users, in the order of their first row.
        item_ids: outside names of items, in the order of their first row.
        user: index into `user_ids`. Shape (M,).
        item: index into `item_ids`. Shape (M,).
        time: Unix milliseconds. Shape (M,).
        rating: shape (M,), or None if ratings were not read.
        time_kind: how times are written.
        columns: the column chosen for each role.
        problems: collects what is wrong with rows.
    """

    user_ids: list[str]
    item_ids: list[str]
    user: npt.NDArray[np.int64]
    item: npt.NDArray[np.int64]
    time: npt.NDArray[np.int64]
    rating: npt.NDArray[np.float64] | None
    time_kind: Kind | None
    columns: Mapping[str, Found]
    problems: RowProblems

    def __len__(self) -> int:
        return len(self.user)


def read_log(
    path: Path, fields: LogFields, problems: list[str], *, with_ratings: bool
) -> Log | None:
    """Read a file of interactions; None if its columns are not those needed.

    Bad rows are noted in the log's own problems, which the caller may add to.

    Args:
        path: CSV, TSV, JSON or Parquet.
        fields: names of columns.
        problems: receives missing columns, and rows that are no rows.
        with_ratings: read the ratings too.

    Raises:
        DatasetError: the file cannot be read at all.
    """
    source = open_table(path)
    roles = [(USER, fields.user), (ITEM, fields.item), (TIME, fields.time)]
    if with_ratings:
        roles.append((RATING, fields.rating))
    columns: dict[str, Found] = {}
    for role, asked in roles:
        found = find_column(role, asked, source.names, problems, needed=True)
        if found:
            columns[role.name] = found
    if len(columns) < len(roles):
        return None
    names = [found.column for found in columns.values()]
    user, item, time, *rating = source.columns(names, problems)
    rows = RowProblems(source.label, source.places)
    user_numbers, user_ids = _read_ids(user, names[0], "user id", rows)
    item_numbers, item_ids = _read_ids(item, names[1], "item id", rows)
    times = read_times(time)
    _check_times(time, times, rows)
    return Log(
        user_ids,
        item_ids,
        user_numbers,
        item_numbers,
        times.ms,
        _read_ratings(rating[0], rows) if rating else None,
        times.kind,
        columns,
        rows,
    )


def _read_ids(
    column: pa.ChunkedArray, name: str, what: str, rows: RowProblems
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Number ids in the order of their first row; empty ones become problems."""
    texts = _id_texts(column)
    if texts is None:
        kind = f"column {name!r} holds {column.type}, not a {what}"
        rows.add(f"no {what}", range(len(column)), lambda row: kind)
        return np.zeros(len(column), np.int64), []
    encoded = pc.dictionary_encode(pc.fill_null(texts, "")).unify_dictionaries()
    if not encoded.num_chunks:
        return np.zeros(0, np.int64), []
    numbers = np.concatenate([chunk.indices.to_numpy() for chunk in encoded.chunks])
    ids: list[str] = encoded.chunk(0).dictionary.to_pylist()
    empty = [number for number, text in enumerate(ids) if not text.strip()]
    rows.add(f"no {what}", np.flatnonzero(np.isin(numbers, empty)), lambda row: f"no {what}")
    return numbers.astype(np.int64), ids


def _id_texts(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return a column of ids as texts; None if it holds no ids.  Whole floats lose their point."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = pc.cast(column, kind.value_type)
        kind = kind.value_type
    if pa.types.is_floating(kind) and pc.all(pc.equal(pc.floor(column), column)).as_py():
        # Whole numbers with gaps are what pandas writes for integers.
        column = pc.cast(column, pa.int64())
    elif not (
        pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind)
    ):
        return None
    return pc.cast(column, pa.string())


def _check_times(column: pa.ChunkedArray, times: Times, rows: RowProblems) -> None:
    def value(row: int) -> Any:
        return column[row].as_py()

    def describe_other(row: int) -> str:
        return f"time {value(row)!r}: most rows have {KIND_NAMES[times.kind or 'seconds']}"

    rows.add(
        "not a time",
        times.unreadable,
        lambda row: (
            f"{value(row)!r} is no time (Unix seconds, Unix milliseconds or ISO 8601)"
            if value(row) not in (None, "")
            else "no time"
        ),
    )
    rows.add("times of another kind", times.other, describe_other)


def _read_ratings(column: pa.ChunkedArray, rows: RowProblems) -> npt.NDArray[np.float64]:
    """Return ratings, NaN where there is none; rows without one become problems."""
    values = _as_floats(column)
    rows.add(
        "not a rating",
        np.flatnonzero(~np.isfinite(values)),
        lambda row: f"rating {column[row].as_py()!r} is no number",
    )
    return values


def _as_floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    """Return numbers, NaN where there is none."""
    try:
        floats = pc.cast(column, pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return np.array([_as_float(value) for value in column.to_pylist()], np.float64)
    values: npt.NDArray[np.float64] = pc.fill_null(floats, np.nan).to_numpy()
    return values


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
