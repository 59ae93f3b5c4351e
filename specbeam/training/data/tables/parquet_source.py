"""Parquet files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from specbeam.training.errors import DatasetError


class ParquetSource:
    """A Parquet file; only the columns asked for are read."""

    def __init__(self, path: Path) -> None:
        """Read the schema.

        Raises:
            DatasetError: it is no Parquet file.
        """
        self.label = path.name
        self._path = path
        try:
            self.names: tuple[str, ...] = tuple(pq.read_schema(path).names)
        except pa.ArrowException as error:
            raise DatasetError(str(path), [str(error)]) from error

    def columns(self, names: Sequence[str], problems: list[str]) -> list[pa.ChunkedArray]:
        """Return columns with the types of the file."""
        try:
            table = pq.read_table(self._path, columns=list(dict.fromkeys(names)))
        except pa.ArrowException as error:
            raise DatasetError(str(self._path), [str(error)]) from error
        return [table[name] for name in names]

    def values(self, names: Sequence[str], problems: list[str]) -> list[list[Any]]:
        """Return columns as Python values."""
        return [column.to_pylist() for column in self.columns(names, problems)]

    def places(self, rows: Sequence[int]) -> list[str]:
        """Return the file and row number, from 1."""
        return [f"{self.label} row {row + 1}" for row in rows]
