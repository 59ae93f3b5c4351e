"""Titles, topics, tags, popularity and creation times."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from specbeam.packing.metadata import (
    Fields,
    no_metadata,
    parse_time,
    read_metadata,
    split_values,
    write_items,
)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        ("a, b ,,a", ("a", "b")),
        (["a", " b", None, "a"], ("a", "b")),
        ('["x, y", "z"]', ("x, y", "z")),
        (7, ("7",)),
    ],
)
def test_values_are_split(value: object, expected: tuple[str, ...]) -> None:
    assert split_values(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        (1_400_000_000, 1_400_000_000),
        ("1400000000", 1_400_000_000),
        ("2014-05-13T16:53:20Z", 1_400_000_000),
        ("2014-05-13 16:53:20", 1_400_000_000),
        (datetime(2014, 5, 13, 16, 53, 20, tzinfo=UTC), 1_400_000_000),
        (date(1970, 1, 2), 86_400),
    ],
)
def test_times_are_seconds(value: object, expected: int | None) -> None:
    assert parse_time(value) == expected


@pytest.mark.parametrize("value", [1_400_000_000_000, -5, "yesterday", "nan", [1]])
def test_other_times_are_refused(value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        parse_time(value)


def test_columns_follow_the_items() -> None:
    rows = {
        "y": {"title": " lamp ", "popularity": "3", "brand": "Acme", "cats": "Home, Light"},
        "x": {"created_at": 7, "topics": ["t"], "tags": "sale", "cats": ["Home"]},
        "other": {"title": "not in the catalogue"},
    }
    fields = Fields(named_tags=(("category", "cats"), ("brand", "brand")))
    found = read_metadata(["x", "y", "z"], rows, fields, [])
    assert found.titles == ("", "lamp", "")
    assert found.topics == (("t",), (), ())
    assert found.popularity.tolist() == [0, 3, 0]
    assert found.created_at_ms().tolist() == [7000, -1, -1]
    assert {tag: n.tolist() for tag, n in found.tag_rows().items()} == {
        "sale": [0],
        "category:Home": [0, 1],
        "category:Light": [1],
        "brand:Acme": [1],
    }
    assert (found.missing, found.unused) == (1, 1)


def test_every_value_that_cannot_be_read_is_named() -> None:
    rows = {
        "x": {"title": 3, "popularity": "many", "created_at": 10**13},
        "y": {"popularity": -1, "tags": "[broken"},
    }
    problems: list[str] = []
    read_metadata(["x", "y"], rows, Fields(named_tags=(("p", "absent"),)), problems)
    assert len(problems) == 6
    assert "no row has a field 'absent' for tags" in problems


def test_rows_about_other_items_are_refused() -> None:
    problems: list[str] = []
    read_metadata(["1", "2"], {"0": {"title": "a"}}, Fields(), problems)
    assert "items are '1' ..., rows are '0' ..." in problems[0]


def test_the_item_table_can_be_read_back(tmp_path: Path) -> None:
    metadata = no_metadata(["x", "y"], ["kettle", "lamp"])
    assert metadata.created_at_ms() is None
    write_items(tmp_path / "catalog.parquet", ["x", "y"], [[3, 4], [5]], metadata)
    assert pq.read_table(tmp_path / "catalog.parquet").to_pylist()[1] == {
        "item_id": "y",
        "tokens": [5],
        "title": "lamp",
        "topics": [],
        "popularity": 0,
        "created_at": None,
        "tags": [],
    }
