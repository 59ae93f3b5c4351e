"""JSON lines, lists of objects, and objects of objects keyed by item id."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json as pa_json

from specbeam.training.data.tables.columns import ITEM_KEY
from specbeam.training.data.tables.csv_source import open_text
from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.data.texts import read_unique_json
from specbeam.training.errors import DatasetError

BLOCK_BYTES = 32 << 20
# Lines whose names and types stand for the whole file.
SAMPLE_LINES = 200
ARROW_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}

Record = dict[str, Any]


class JsonSource:
    """A JSON file.  One object per line is read by pyarrow where the types allow it.

    Rows of a list have no lines: places count them.  In an object keyed by item id the key becomes
    the column `item_id`.
    """

    def __init__(self, path: Path) -> None:
        """Find out which of the three it is, and the names of the first rows.

        Raises:
            DatasetError: it is none of them, or not UTF-8.
        """
        self.label = path.name
        self._path = path
        self._lines: list[int] | None = None
        try:
            self._whole = None if _has_lines(path) else _read_whole(path)
            sample = list(islice(self._sample(), SAMPLE_LINES))
        except ValueError as error:
            raise DatasetError(str(path), [f"it cannot be read: {error}"]) from error
        self._types = _column_types(sample)
        self.names = tuple(self._types)
        if not self.names:
            raise DatasetError(str(path), ["it has no rows"])

    def columns(self, names: Sequence[str], problems: list[str]) -> list[pa.ChunkedArray]:
        """Return columns of numbers or texts; lines that cannot be read become problems."""
        types = [self._types[name] for name in names]
        if self._whole is None and all(kind is not None for kind in types):
            table = self._fast_table(dict(zip(names, types, strict=True)))
            if table is not None:
                return [table[name] for name in names]
        return [
            pa.chunked_array([pa.array(_as_texts(column), pa.string())])
            for column in self.values(names, problems)
        ]

    def values(self, names: Sequence[str], problems: list[str]) -> list[list[Any]]:
        """Return columns as Python values, None where a row lacks one."""
        records: list[Record] = []
        self._lines = []
        bad: list[tuple[int, str]] = []
        for line, record in self._records():
            if isinstance(record, dict):
                self._lines.append(line)
                records.append(record)
            else:
                bad.append((line, record))
        self._note_bad(bad, problems)
        return [[record.get(name) for record in records] for name in names]

    def places(self, rows: Sequence[int]) -> list[str]:
        """Return the file and line of each row."""
        if self._lines is None:
            # The fast path skips empty lines only.
            self._lines = [line for line, _ in self._raw_lines()]
        return [self._place(self._lines[row]) for row in rows]

    def _place(self, line: int) -> str:
        return f"{self.label}:{line}" if self._whole is None else f"{self.label} row {line}"

    def _note_bad(self, bad: list[tuple[int, str]], problems: list[str]) -> None:
        found = RowProblems(self.label, lambda rows: [self._place(bad[row][0]) for row in rows])
        found.add("not a JSON object", range(len(bad)), lambda row: bad[row][1])
        problems.extend(found.lines())

    def _fast_table(self, types: dict[str, pa.DataType]) -> pa.Table | None:
        """Return the columns, or None if a line is not as the first ones or is broken."""
        try:
            return pa_json.read_json(
                self._path,
                read_options=pa_json.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
                parse_options=pa_json.ParseOptions(
                    explicit_schema=pa.schema(list(types.items())),
                    unexpected_field_behavior="ignore",
                ),
            )
        except pa.ArrowException:
            return None

    def _sample(self) -> Iterator[Record]:
        return (record for _, record in self._records() if isinstance(record, dict))

    def _records(self) -> Iterator[tuple[int, Record | str]]:
        """Yield line (or row number from 1) and object of each row, or what is wrong with it."""
        if self._whole is not None:
            for row, record in enumerate(self._whole, start=1):
                yield row, record if isinstance(record, dict) else f"no object: {record!r:.60}"
            return
        for number, line in self._raw_lines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                yield number, f"column {error.colno}: {error.msg}"
                continue
            yield number, record if isinstance(record, dict) else f"no object: {record!r:.60}"

    def _raw_lines(self) -> Iterator[tuple[int, str]]:
        with open_text(self._path) as stream:
            for number, line in enumerate(stream, start=1):
                if line.strip():
                    yield number, line


def _has_lines(path: Path) -> bool:
    """Return whether a file holds one object per line, as its first line shows."""
    if ".jsonl" in path.suffixes or ".ndjson" in path.suffixes:
        return True
    with open_text(path) as stream:
        first = next((line for line in stream if line.strip()), "")
        more = any(line.strip() for line in stream)
    try:
        return more and isinstance(json.loads(first), dict)
    except json.JSONDecodeError:
        return False


def _read_whole(path: Path) -> list[Any]:
    """Return the rows of a list, or of an object keyed by item id.

    Raises:
        ValueError: it is neither, or keys appear twice.
    """
    with open_text(path) as stream:
        content = read_unique_json(stream.read())
    if isinstance(content, list):
        return content
    if isinstance(content, dict) and all(isinstance(row, dict) for row in content.values()):
        return [{ITEM_KEY.default: key, **row} for key, row in content.items()]
    raise ValueError("expected objects: one per line, a list of them, or keyed by item id")


def _column_types(sample: Sequence[Record]) -> dict[str, pa.DataType | None]:
    """Return the type of each name in some rows, None where it is mixed or no plain value."""
    kinds: dict[str, set[type]] = {}
    for record in sample:
        for name, value in record.items():
            kinds.setdefault(name, set()).update([] if value is None else [type(value)])
    return {
        name: ARROW_TYPES.get(next(iter(found))) if len(found) == 1 else None
        for name, found in kinds.items()
    }


def _as_texts(column: Sequence[Any]) -> list[str | None]:
    return [
        value if isinstance(value, str) else None if value is None else json.dumps(value)
        for value in column
    ]
