"""Rows about items from every file format, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from specbeam.packing.errors import PackError
from specbeam.packing.tables import read_rows, shift_ids

ROWS = [{"item_id": "7", "title": "kettle"}, {"item_id": "9", "title": "lamp"}]
BY_ID = {"7": ROWS[0], "9": ROWS[1]}


def write(file: Path, rows: list[dict[str, str]]) -> Path:
    match file.suffix:
        case ".json":
            file.write_text(json.dumps(rows))
        case ".jsonl":
            file.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n")
        case ".csv":
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            file.write_text("\n".join(lines))
        case ".parquet":
            pq.write_table(pa.Table.from_pylist(rows), file)
    return file


@pytest.mark.parametrize("suffix", [".json", ".jsonl", ".csv", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    file, problems = write(tmp_path / f"items{suffix}", ROWS), []
    assert read_rows(file, "item_id", "title", problems) == BY_ID
    assert problems == []


def test_keys_of_an_object_are_item_ids(tmp_path: Path) -> None:
    file = tmp_path / "items.json"
    file.write_text('{"7": {"title": "kettle"}, "9": "lamp"}')
    rows = read_rows(file, "item_id", "title", [])
    assert rows == {"7": {"title": "kettle"}, "9": {"title": "lamp"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"7": "a", "7": "b"}', "key '7' appears twice"),
        ('[{"item_id": 7}, {"item_id": "7"}]', "item '7' appears twice"),
        ('[{"id": 7}]', "no field 'item_id' (--id-field); it has id"),
        ('[{"item_id": null}]', "row 1 has no item_id"),
        ("[3]", "row 1 is no object"),
        ("{}", "it has no rows"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "items.json"
    file.write_text(text)
    problems: list[str] = []
    read_rows(file, "item_id", "title", problems)
    assert len(problems) == 1
    assert message in problems[0]


@pytest.mark.parametrize("text", ["3", '{"7": ', "\xff"])
def test_what_cannot_be_parsed_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "items.json"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(PackError, match="cannot be read"):
        read_rows(file, "item_id", "title", [])


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    for name in ("items.xml", "items.parquet"):
        (tmp_path / name).write_text("<items/>")
        with pytest.raises(PackError, match="cannot be read"):
            read_rows(tmp_path / name, "item_id", "title", [])


def test_ids_are_shifted_or_named() -> None:
    problems: list[str] = []
    assert list(shift_ids({"0": {}, "1": {}}, 1, problems)) == ["1", "2"]
    assert list(shift_ids({"x": {}}, 0, problems)) == ["x"]
    assert problems == []
    assert list(shift_ids({"x": {}, "1": {}, "y": {}}, 1, problems)) == ["2"]
    assert len(problems) == 2
