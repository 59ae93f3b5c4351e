"""Files of rows, whatever their format."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from specbeam.training.errors import DatasetError

CSV_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".inter", ".item")
JSON_SUFFIXES = (".json", ".jsonl", ".ndjson")
PARQUET_SUFFIXES = (".parquet", ".pq")
SUFFIXES = (*CSV_SUFFIXES, *JSON_SUFFIXES, *PARQUET_SUFFIXES)


class TableSource(Protocol):
    """A file of rows with named columns.

    Rows are numbered from 0 in the order of the file; rows that cannot be read have no number.
    """

    label: str
    names: tuple[str, ...]

    def columns(self, names: Sequence[str], problems: list[str]) -> list[pa.ChunkedArray]:
        """Return columns of equal length; rows that cannot be read become problems.

        Texts are strings, whatever else depends on the format: numbers, times, lists.
        """

    def values(self, names: Sequence[str], problems: list[str]) -> list[list[Any]]:
        """Return columns as Python values, for files small enough to be read row by row."""

    def places(self, rows: Sequence[int]) -> list[str]:
        """Return where rows stand, as "log.csv:17"."""


def open_table(path: Path) -> TableSource:
    """Open a file of rows by its suffix; `.gz` may follow the suffix of texts.

    Raises:
        DatasetError: the suffix is unknown, or the file has no columns at all.
    """
    from specbeam.training.data.tables.csv_source import CsvSource
    from specbeam.training.data.tables.json_source import JsonSource
    from specbeam.training.data.tables.parquet_source import ParquetSource

    suffix = table_suffix(path)
    if suffix in CSV_SUFFIXES:
        return CsvSource(path)
    if suffix in JSON_SUFFIXES:
        return JsonSource(path)
    if suffix in PARQUET_SUFFIXES:
        return ParquetSource(path)
    known = ", ".join(SUFFIXES)
    raise DatasetError(str(path), [f"{suffix or 'no suffix'} is not one of {known} (or .gz)"])


def table_suffix(path: Path) -> str:
    """Return the suffix that tells the format, in lower case; `.gz` is looked through."""
    inner = Path(path.stem) if path.suffix.lower() == ".gz" else path
    return inner.suffix.lower()
