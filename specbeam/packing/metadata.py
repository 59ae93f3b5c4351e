"""Titles, topics, popularity, tags and creation times of items, and catalog.parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np

from specbeam.packing.tables import Row

# A number above it is no Unix time in seconds (year 5138) but one in milliseconds.
_MAX_TIME_S = 100_000_000_000
_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Fields:
    """Which fields of the input hold what.

    Attributes:
        item_id: item id, where rows are a list.
        title: title.
        topics: topics or categories, a list or a comma-separated text.
        popularity: interactions.
        created_at: Unix time in seconds, or an ISO 8601 time.
        tags: tags taken as they are, a list or a comma-separated text.
        named_tags: tag prefix to field: ("brand", "brand") makes tags such as "brand:HP".
    """

    item_id: str = "item_id"
    title: str = "title"
    topics: str = "topics"
    popularity: str = "popularity"
    created_at: str = "created_at"
    tags: str = "tags"
    named_tags: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known about items, besides their paths.

    Attributes:
        titles: N titles, empty where unknown.
        topics: N tuples.
        popularity: interactions.  Shape (N,), int64.
        created_at: N Unix times in seconds, None where unknown.
        tags: N tuples.
        missing: items without a row.
        unused: rows of no item.
    """

    titles: tuple[str, ...]
    topics: tuple[tuple[str, ...], ...]
    popularity: np.ndarray
    created_at: tuple[int | None, ...]
    tags: tuple[tuple[str, ...], ...]
    missing: int = 0
    unused: int = 0

    def tag_rows(self) -> dict[str, np.ndarray]:
        """Return the row numbers of each tag."""
        rows: dict[str, list[int]] = {}
        for row, tags in enumerate(self.tags):
            for tag in tags:
                rows.setdefault(tag, []).append(row)
        return {tag: np.array(numbers) for tag, numbers in rows.items()}

    def created_at_ms(self) -> np.ndarray | None:
        """Return creation times, -1 where unknown; None if no item has one.  Shape (N,), int64."""
        if all(value is None for value in self.created_at):
            return None
        return np.array([-1 if t is None else 1000 * t for t in self.created_at], np.int64)


def read_metadata(
    item_ids: Sequence[str], rows: Mapping[str, Row], fields: Fields, problems: list[str]
) -> Metadata:
    """Read the metadata of the items of a catalogue.

    Args:
        item_ids: N ids.
        rows: fields by item id.
        fields: which fields hold what; absent ones are empty.
        problems: receives every value that cannot be read, fields asked for that no row has, and
            that no row is about an item.
    """
    reader = _Reader(rows, item_ids, problems)
    present = {name for row in rows.values() for name in row}
    for _, name in fields.named_tags:
        if name not in present:
            problems.append(f"no row has a field {name!r} for tags")
    known = sum(item_id in rows for item_id in item_ids)
    if rows and item_ids and not known:
        problems.append(
            f"no row is about an item of the catalogue: items are {item_ids[0]!r} ..., rows are "
            f"{next(iter(rows))!r} ..."
        )
    return Metadata(
        titles=tuple(reader.column(fields.title, _text)),
        topics=tuple(reader.column(fields.topics, split_values)),
        popularity=np.array(reader.column(fields.popularity, _count), np.int64),
        created_at=tuple(reader.column(fields.created_at, parse_time)),
        tags=tuple(reader.tags(fields)),
        missing=len(item_ids) - known,
        unused=len(rows) - known,
    )


def no_metadata(item_ids: Sequence[str], titles: Sequence[str] | None = None) -> Metadata:
    """Return the metadata of items about which nothing is known but perhaps their titles."""
    size = len(item_ids)
    return Metadata(
        tuple(titles or ("",) * size),
        ((),) * size,
        np.zeros(size, int),
        (None,) * size,
        ((),) * size,
    )


def write_items(
    file: Path, item_ids: Sequence[str], paths: Sequence[Sequence[int]], metadata: Metadata
) -> None:
    """Write catalog.parquet.

    Args:
        file: where.
        item_ids: N ids.
        paths: vocabulary ids of each item, end tokens included.
        metadata: of the same items.
    """
    import pyarrow as pa
    import pyarrow.parquet as parquet

    texts = pa.list_(pa.string())
    table = pa.table(
        {
            "item_id": pa.array(item_ids, pa.string()),
            "tokens": pa.array([list(path) for path in paths], pa.list_(pa.int32())),
            "title": pa.array(metadata.titles, pa.string()),
            "topics": pa.array([list(topics) for topics in metadata.topics], texts),
            "popularity": pa.array(metadata.popularity, pa.int32()),
            "created_at": pa.array(metadata.created_at, pa.int64()),
            "tags": pa.array([list(tags) for tags in metadata.tags], texts),
        }
    )
    parquet.write_table(table, file)


@dataclass(slots=True)
class _Reader:
    """Reads fields of the items' rows and collects what cannot be read."""

    rows: Mapping[str, Row]
    item_ids: Sequence[str]
    problems: list[str]

    def column(self, name: str, parse: Callable[[Any], Any]) -> list[Any]:
        """Return one parsed field of every item; an absent one is parsed from None."""
        return [self._value(item_id, name, parse) for item_id in self.item_ids]

    def tags(self, fields: Fields) -> list[tuple[str, ...]]:
        """Return the tags of every item, each once."""
        plain = self.column(fields.tags, split_values)
        named = [
            [tuple(f"{prefix}:{value}" for value in values) for values in column]
            for prefix, column in (
                (prefix, self.column(name, split_values)) for prefix, name in fields.named_tags
            )
        ]
        columns = zip(plain, *named, strict=True)
        return [tuple(dict.fromkeys(tag for some in tags for tag in some)) for tags in columns]

    def _value(self, item_id: str, name: str, parse: Callable[[Any], Any]) -> Any:
        value = self.rows.get(item_id, {}).get(name)
        try:
            return parse(value)
        except (ValueError, TypeError, OverflowError) as error:
            self.problems.append(f"item {item_id!r}: {name} {value!r}: {error}")
            return parse(None)


def split_values(value: Any) -> tuple[str, ...]:
    """Return the values of a list, of its JSON, or of a comma-separated text; none twice."""
    if value is None:
        return ()
    if isinstance(value, str):
        value = json.loads(value) if value.lstrip().startswith("[") else value.split(",")
    if not isinstance(value, (list, tuple)):
        value = [value]
    texts = (str(part).strip() for part in value if part is not None)
    return tuple(dict.fromkeys(text for text in texts if text))


def parse_time(value: Any) -> int | None:
    """Return Unix seconds of a number, an ISO 8601 text or a date; None for nothing.

    Raises:
        ValueError: it is none of them, or a number of milliseconds.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str) and not _is_number(value):
        value = datetime.fromisoformat(value)
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if isinstance(value, datetime):
        value = value.replace(tzinfo=value.tzinfo or UTC).timestamp()
    seconds = int(float(value))
    if not 0 <= seconds <= _MAX_TIME_S:
        raise ValueError("not a Unix time in seconds")
    return seconds


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _text(value: Any) -> str:
    if not isinstance(value, str | None):
        raise ValueError("not a text")
    return (value or "").strip()


def _count(value: Any) -> int:
    if value is None or value == "":
        return 0
    count = int(value)
    if not 0 <= count <= _MAX_COUNT or count != float(value):
        raise ValueError("not a count")
    return count
