"""Which prefixes a tree picture shows, and where they stand."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from specbeam.client_types import Recommendation, RecommendedItem
from specbeam.pictures.search import EXACT_KINDS, Level, Path, Prefix, Search

COLUMN_WIDTH = 214.0
ROW_HEIGHT = 18.0
# Of each kind at most this many are shown per level; the others become "+n more".
SHOWN = {"exact": 40, "rejected": 10, "unreached": 6}
SHOWN_ITEMS = 50
GAP_ROWS = 0.6


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a column.

    Attributes:
        y: Distance from the top of the column.
        prefix: What stands there; None for "+n more".
        more: How many prefixes the row stands for.
        kind: Their kind, "exact" for exact beams of any.
    """

    y: float
    prefix: Prefix | None
    more: int = 0
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """The rows of one level.

    Attributes:
        level: The level.
        rows: From top to bottom.
        height: Of the whole column.
    """

    level: Level
    rows: tuple[Row, ...]
    height: float


def columns_of(search: Search, winners: frozenset[Path]) -> tuple[Column, ...]:
    """Return the column of each level.

    Args:
        search: The search.
        winners: Prefixes of returned items; shown whatever their number.
    """
    return tuple(_column(level, winners) for level in search.levels)


def winners_of(answer: Recommendation) -> frozenset[Path]:
    """Return every proper prefix of the items that are shown."""
    return frozenset(
        item.tokens[:length]
        for item in shown_items(answer)
        for length in range(1, len(item.tokens))
    )


def shown_items(answer: Recommendation) -> tuple[RecommendedItem, ...]:
    """Return the items that are shown."""
    return answer.items[:SHOWN_ITEMS]


def _column(level: Level, winners: frozenset[Path]) -> Column:
    rows: list[Row] = []
    y = ROW_HEIGHT / 2
    for group in ("exact", "rejected", "unreached"):
        members = [prefix for prefix in level.prefixes if _group(prefix) == group]
        if not members:
            continue
        if rows:
            y += GAP_ROWS * ROW_HEIGHT
        limit = SHOWN[group]
        shown = [
            prefix
            for place, prefix in enumerate(members)
            if place < limit or prefix.tokens in winners
        ]
        for prefix in shown:
            rows.append(Row(y, prefix, kind=group))
            y += ROW_HEIGHT
        if len(members) > len(shown):
            rows.append(Row(y, None, len(members) - len(shown), group))
            y += ROW_HEIGHT
    return Column(level, tuple(rows), y)


def _group(prefix: Prefix) -> str:
    return "exact" if prefix.kind in EXACT_KINDS else prefix.kind


def kinds_shown(search: Search) -> Counter[str]:
    """Return how many prefixes of each kind there are on all levels."""
    return Counter(prefix.kind for level in search.levels for prefix in level.prefixes)
