"""Rows about items from JSON, JSON lines, CSV or Parquet files."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from specbeam.packing.errors import PackError

Row = dict[str, Any]
FORMATS = (".json", ".jsonl", ".csv", ".parquet")


def read_rows(file: Path, id_field: str, value_field: str, problems: list[str]) -> dict[str, Row]:
    """Read one row per item.

    A JSON file holds either a list of objects or one object whose keys are the item ids; its values
    are objects, or plain values that are taken for `value_field`.

    Args:
        file: what to read; its suffix says how.
        id_field: field of the item id where rows are a list.
        value_field: name of the one field of a row that is no object.
        problems: receives what is wrong with single rows.

    Returns:
        Fields by item id, in the order of the file.

    Raises:
        PackError: the file cannot be parsed.
    """
    rows: dict[str, Row] = {}
    for place, item_id, row in _identified(file, id_field, value_field, problems):
        if not item_id:
            problems.append(f"{place} has no {id_field}")
        elif item_id in rows:
            problems.append(f"item {item_id!r} appears twice")
        rows[item_id] = row
    if not rows and not problems:
        problems.append("it has no rows")
    return rows


def shift_ids(rows: dict[str, Row], offset: int, problems: list[str]) -> dict[str, Row]:
    """Add a number to every item id; ids that are no numbers become problems."""
    if not offset:
        return rows
    shifted = {}
    for item_id, row in rows.items():
        if item_id.isascii() and item_id.isdigit():
            shifted[str(int(item_id) + offset)] = row
        else:
            problems.append(f"--id-offset needs numbers, {item_id!r} is none")
    return shifted


def _identified(
    file: Path, id_field: str, value_field: str, problems: list[str]
) -> Iterator[tuple[str, str, Row]]:
    """Yield place, item id and fields of each row; rows that are none become problems."""
    content = _read(file, problems)
    if isinstance(content, dict):
        for key, value in content.items():
            yield f"item {key!r}", key, value if isinstance(value, dict) else {value_field: value}
        return
    for number, row in enumerate(content, start=1):
        if not isinstance(row, dict):
            problems.append(f"row {number} is no object")
        elif id_field not in row:
            known = ", ".join(map(str, row)) or "nothing"
            problems.append(f"row {number} has no field {id_field!r} (--id-field); it has {known}")
            return  # the same would be said of every row
        else:
            value = row[id_field]
            yield f"row {number}", "" if value is None else str(value), row


def _read(file: Path, problems: list[str]) -> dict[str, Any] | Iterable[Any]:
    """Return the parsed content of a file.

    Raises:
        PackError: it cannot be parsed at all.
    """
    try:
        match file.suffix.lower():
            case ".json":
                content = read_json(file, problems)
                if isinstance(content, (dict, list)):
                    return content
                raise ValueError("expected an object or a list of objects")
            case ".jsonl" | ".ndjson":
                lines = file.read_text(encoding="utf-8").splitlines()
                return [json.loads(line) for line in lines if line.strip()]
            case ".csv":
                with file.open(encoding="utf-8-sig", newline="") as stream:
                    return list(csv.DictReader(stream))
            case ".parquet":
                return _read_parquet(file)
            case suffix:
                raise ValueError(f"{suffix or 'no suffix'} is not one of {', '.join(FORMATS)}")
    except (OSError, ValueError, csv.Error) as error:
        raise PackError(str(file), [f"it cannot be read: {error}"]) from error


def read_json(file: Path, problems: list[str]) -> Any:
    """Parse a JSON file; a key that appears twice in one object becomes a problem."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            counts = Counter(key for key, _ in pairs)
            problems.extend(f"key {key!r} appears twice" for key, n in counts.items() if n > 1)
        return found

    return json.loads(file.read_text(encoding="utf-8"), object_pairs_hook=unique)


def _read_parquet(file: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet as parquet

    try:
        rows: list[Row] = parquet.read_table(file).to_pylist()
    except pyarrow.ArrowException as error:
        raise ValueError(str(error)) from error
    return rows
