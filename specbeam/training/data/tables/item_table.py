"""Reading and checking item metadata."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from specbeam.training.data.dataset import Int32Array, Items
from specbeam.training.data.tables.columns import (
    CREATED_AT,
    ITEM_KEY,
    TITLE,
    TOPICS,
    Found,
    Role,
    find_column,
)
from specbeam.training.data.tables.options import TEXT_FIELDS, TOPICS_FIELDS, ItemFields
from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.data.tables.source import TableSource
from specbeam.training.data.tables.times import read_times
from specbeam.training.data.texts import plain_text, plain_values

TEXT = Role("texts", "--text-field", "")
TAG = Role("tags", "--tag-field", "")
# Tags taken as they are.
TAGS_FIELD = "tags"


@dataclass(slots=True)
class ItemTable:
    """Metadata of N items, in the order of the file.

    Attributes:
        item_ids: outside names, unique.
        titles: the item id where the file has none.
        texts: empty where the file has none.
        topics: subjects.
        tags: topic tags, then those of a column `tags`, then named ones.
        created_at: Unix time in seconds, None where unknown.
        columns: the columns that were read.
    """

    item_ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    topics: list[tuple[str, ...]] = field(default_factory=list)
    tags: list[tuple[str, ...]] = field(default_factory=list)
    created_at: list[int | None] = field(default_factory=list)
    columns: Mapping[str, Any] = field(default_factory=dict)

    def append_bare(self, item_ids: Sequence[str]) -> None:
        """Add items about which nothing is known; their titles are their ids."""
        self.item_ids += item_ids
        self.titles += item_ids
        self.texts += [""] * len(item_ids)
        self.topics += [()] * len(item_ids)
        self.tags += [()] * len(item_ids)
        self.created_at += [None] * len(item_ids)

    def take(self, rows: Sequence[int]) -> "ItemTable":
        """Return the items of some rows."""
        return ItemTable(
            [self.item_ids[row] for row in rows],
            [self.titles[row] for row in rows],
            [self.texts[row] for row in rows],
            [self.topics[row] for row in rows],
            [self.tags[row] for row in rows],
            [self.created_at[row] for row in rows],
            self.columns,
        )

    def items(self, paths: Int32Array) -> Items:
        """Return the catalogue, of no popularity yet.

        Args:
            paths: token paths. Shape (N, L), (N, 0) without semantic IDs.
        """
        return Items(
            item_ids=tuple(self.item_ids),
            paths=paths,
            titles=tuple(self.titles),
            topics=tuple(self.topics),
            popularity=np.zeros(len(self.item_ids), np.int32),
            created_at=tuple(self.created_at),
            texts=tuple(self.texts),
            tags=tuple(self.tags),
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Columns of an items file, by role."""

    item: Found
    title: Found | None
    texts: tuple[str, ...]
    topics: str | None
    created_at: Found | None
    tags: tuple[tuple[str, str], ...]
    plain_tags: str | None

    def described(self) -> dict[str, Any]:
        columns = {
            "item": self.item.column,
            "title": self.title and self.title.column,
            "texts": list(self.texts),
            "topics": self.topics,
            "created_at": self.created_at and self.created_at.column,
            "tags": self.plain_tags,
            "named_tags": [f"{prefix}={name}" for prefix, name in self.tags],
        }
        return {role: column for role, column in columns.items() if column}


def read_items(source: TableSource, fields: ItemFields, problems: list[str]) -> ItemTable:
    """Read item metadata, row by row.

    Args:
        source: an open file.
        fields: names of columns.
        problems: receives missing columns and everything that is wrong with rows.

    Raises:
        DatasetError: the file cannot be read at all.
    """
    found: list[str] = []
    chosen = _choose(source.names, fields, found)
    problems.extend(f"{source.label}: {problem}" for problem in found)
    if chosen is None or found:
        return ItemTable()
    columns = _read_columns(source, chosen, problems)
    ids = [_id_text(value) for value in columns(chosen.item.column)]
    rows = RowProblems(source.label, source.places)
    _check_ids(ids, rows)
    table = ItemTable(ids, columns=chosen.described())
    table.titles = _titles(ids, columns(chosen.title.column) if chosen.title else [None] * len(ids))
    table.texts = _texts(len(ids), [columns(name) for name in chosen.texts])
    topics = columns(chosen.topics) if chosen.topics else [None] * len(ids)
    table.topics = [plain_values(value) for value in topics]
    named = [(prefix, columns(name)) for prefix, name in chosen.tags]
    plain = columns(chosen.plain_tags) if chosen.plain_tags else [None] * len(ids)
    table.tags = [
        _tags(topics, plain[row], [(prefix, column[row]) for prefix, column in named])
        for row, topics in enumerate(table.topics)
    ]
    table.created_at = [None] * len(ids)
    if chosen.created_at:
        table.created_at = _created_at(columns(chosen.created_at.column), rows)
    problems.extend(rows.lines())
    return table


def _tags(topics: Sequence[str], plain: Any, named: Sequence[tuple[str, Any]]) -> tuple[str, ...]:
    """Return an item's tags: its topics, those given as they are, then prefixed values."""
    tags = [f"topic:{topic}" for topic in topics]
    tags += plain_values(plain)
    tags += [f"{prefix}:{text}" for prefix, value in named for text in plain_values(value)]
    return tuple(dict.fromkeys(tags))


def _choose(names: Sequence[str], fields: ItemFields, problems: list[str]) -> _Chosen | None:
    item = find_column(ITEM_KEY, fields.item, names, problems, needed=True)
    title = find_column(TITLE, fields.title, names, problems, needed=False)
    created_at = find_column(CREATED_AT, fields.created_at, names, problems, needed=False)
    for name in fields.texts:
        find_column(TEXT, name, names, problems, needed=True)
    for _, name in fields.tags:
        find_column(TAG, name, names, problems, needed=True)
    if fields.topics is not None:
        find_column(TOPICS, fields.topics, names, problems, needed=True)
    topics = fields.topics or next((name for name in TOPICS_FIELDS if name in names), None)
    texts = fields.texts or tuple(name for name in TEXT_FIELDS if name in names)
    if item is None:
        return None
    plain_tags = TAGS_FIELD if TAGS_FIELD in names else None
    return _Chosen(item, title, texts, topics, created_at, fields.tags, plain_tags)


def _read_columns(
    source: TableSource, chosen: _Chosen, problems: list[str]
) -> Callable[[str], list[Any]]:
    """Read the chosen columns once each."""
    optional = [found.column for found in (chosen.title, chosen.created_at) if found]
    names = [chosen.item.column, *optional, *chosen.texts, *(name for _, name in chosen.tags)]
    names += [name for name in (chosen.topics, chosen.plain_tags) if name]
    names = list(dict.fromkeys(names))
    columns = dict(zip(names, source.values(names, problems), strict=True))
    return columns.__getitem__


def _id_text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def _check_ids(ids: Sequence[str], rows: RowProblems) -> None:
    rows.add("no item id", [row for row, text in enumerate(ids) if not text.strip()], _no_id)
    first: dict[str, int] = {}
    again = [row for row, text in enumerate(ids) if first.setdefault(text, row) != row]
    again = [row for row in again if ids[row].strip()]

    def describe(row: int) -> str:
        return f"item {ids[row]!r} is already described at {rows.places([first[ids[row]]])[0]}"

    rows.add("items described twice", again, describe)


def _no_id(row: int) -> str:
    return "no item id"


def _titles(ids: Sequence[str], values: Sequence[Any]) -> list[str]:
    return [plain_text(value) or text for text, value in zip(ids, values, strict=True)]


def _texts(size: int, columns: Sequence[Sequence[Any]]) -> list[str]:
    """Join the texts of several columns, item by item."""
    if not columns:
        return [""] * size
    rows = zip(*columns, strict=True)
    return [" ".join(filter(None, map(plain_text, values))) for values in rows]


def _created_at(values: Sequence[Any], rows: RowProblems) -> list[int | None]:
    """Return Unix seconds; values that are no time become problems."""
    texts = [None if value is None else str(value).strip() or None for value in values]
    times = read_times(pa.chunked_array([pa.array(texts, pa.string())]))
    known = np.array([text is not None for text in texts], dtype=np.bool_)
    unreadable = times.unreadable[known[times.unreadable]]
    rows.add("not a time", unreadable, lambda row: f"{texts[row]!r} is no creation time")
    return [
        ms // 1000 if is_known else None
        for ms, is_known in zip(times.ms.tolist(), known.tolist(), strict=True)
    ]
