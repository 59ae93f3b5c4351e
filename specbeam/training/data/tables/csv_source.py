"""CSV and TSV files."""

import csv
import gzip
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.errors import DatasetError

DELIMITERS = (",", "\t", ";", "|")
BLOCK_BYTES = 16 << 20


class CsvSource:
    """A file of delimited texts with a header; the delimiter is the most frequent in the header.

    Fields may be quoted and then hold line ends.  Empty lines are skipped.  A header of typed
    names (`user_id:token`, as RecBole writes them) is read without the types.
    """

    def __init__(self, path: Path) -> None:
        """Read the header.

        Raises:
            DatasetError: the file is empty or not UTF-8.
        """
        self.label = path.name
        self._path = path
        with open_text(path) as stream:
            try:
                header = next((line for line in stream if line.strip()), "")
            except UnicodeDecodeError as error:
                raise DatasetError(str(path), [f"not UTF-8: {error}"]) from error
        self._delimiter = max(DELIMITERS, key=header.count)
        self._raw_names = tuple(next(csv.reader([header], delimiter=self._delimiter), []))
        if not self._raw_names:
            raise DatasetError(str(path), ["the file is empty"])
        typed = all(":" in name for name in self._raw_names)
        self.names = tuple(
            name.rpartition(":")[0] if typed else name.strip() for name in self._raw_names
        )
        self._bad: list[pa_csv.InvalidRow] = []

    def columns(self, names: Sequence[str], problems: list[str]) -> list[pa.ChunkedArray]:
        """Return columns of texts; rows with too many or too few cells become problems."""
        wanted = [self._raw_names[self.names.index(name)] for name in names]
        self._bad = []
        try:
            table = pa_csv.read_csv(
                self._path,
                # One thread, so that bad rows are numbered.
                read_options=pa_csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pa_csv.ParseOptions(
                    delimiter=self._delimiter,
                    newlines_in_values=True,
                    invalid_row_handler=self._skip,
                ),
                convert_options=pa_csv.ConvertOptions(
                    include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string())
                ),
            )
        except pa.ArrowException as error:
            raise DatasetError(str(self._path), [str(error)]) from error
        problems.extend(self._cell_problems())
        return [table[name] for name in wanted]

    def values(self, names: Sequence[str], problems: list[str]) -> list[list[Any]]:
        """Return columns of texts."""
        return [column.to_pylist() for column in self.columns(names, problems)]

    def places(self, rows: Sequence[int]) -> list[str]:
        """Return the file and line where each row begins."""
        bad = np.array([row.number - 2 for row in self._bad], np.int64)
        # Rows before the i-th bad record: its own number less the i bad ones before it.
        skipped = np.searchsorted(bad - np.arange(len(bad)), np.asarray(rows), side="right")
        return self._record_places([row + int(n) for row, n in zip(rows, skipped, strict=True)])

    def _skip(self, row: pa_csv.InvalidRow) -> str:
        self._bad.append(row)
        return "skip"

    def _cell_problems(self) -> list[str]:
        found = RowProblems(self.label, self._record_places)
        by_record = {row.number - 2: row for row in self._bad}

        def describe(record: int) -> str:
            row = by_record[record]
            return f"{row.actual_columns} cells, the header has {row.expected_columns}"

        found.add("wrong number of cells", list(by_record), describe)
        return found.lines()

    def _record_places(self, records: Sequence[int]) -> list[str]:
        """Return where records stand, numbered from 0 behind the header, bad ones included."""
        lines: dict[int, int] = {}
        wanted, last = set(records), max(records, default=-1)
        with open_text(self._path) as stream:
            for record, line in enumerate(_record_lines(stream, self._delimiter), start=-1):
                if record in wanted:
                    lines[record] = line
                if record >= last:
                    break
        return [
            f"{self.label}:{lines[record]}" if record in lines else f"{self.label} row {record + 1}"
            for record in records
        ]


def open_text(path: Path) -> IO[str]:
    """Open a text, compressed or not, with line ends as they are."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _record_lines(stream: IO[str], delimiter: str) -> Iterator[int]:
    """Yield the line on which each record begins, the header included, empty lines not."""
    reader = csv.reader(stream, delimiter=delimiter)
    begin = 1
    try:
        for record in reader:
            if record:
                yield begin
            begin = reader.line_num + 1
    except csv.Error:
        return  # a cell too long for the module: later rows are named by their number
