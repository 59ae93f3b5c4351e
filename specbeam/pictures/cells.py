"""Cells of a result file: what one way of searching costs at one K."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

METRICS = {"ms": "milliseconds", "passes": "passes of the target"}
# What cells may be told apart by beside K and the way: a length in tokens, or a word.
_PREFIX_NAMES = ("prefix", "prompt_tokens")


class UnknownCellsError(ValueError):
    """A file does not hold cells that can be drawn."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        k: K.
        prefix: What is known of the prompt, and its length; empty = not told apart.
        way: Who drafts, and how.
        rows: Mean tree rows.
        value: The metric.
        told: Everything about it, for readers.
        plain: The metric of plain search on the same requests; None = not told.
    """

    k: int
    prefix: str
    way: str
    rows: float
    value: float
    told: str
    plain: float | None = None


def read_cells(result: Any, metric: str) -> list[Cell]:
    """Return the cells of a result.

    Known are one cell per way (`way`, or `line` and `flow`, with `k`, `rows` and the metric), and
    one cell for all ways (`mean_rows` and `median_ms` or `mean_passes` by way, with `k`).

    Args:
        result: A result file as JSON.
        metric: One of `METRICS`.

    Raises:
        UnknownCellsError: There are no such cells, or none with the metric.
    """
    cells = result.get("cells") if isinstance(result, Mapping) else None
    if not isinstance(cells, list) or not cells:
        raise UnknownCellsError(
            "no cells: a result of `specbeam bench` with K, rows and ms is needed"
        )
    found = []
    for at, cell in enumerate(cells):
        if not isinstance(cell, Mapping):
            raise UnknownCellsError(f"cells[{at}] is not an object")
        read = _read_ways if isinstance(cell.get("mean_rows"), Mapping) else _read_one
        found += [one for one in read(cell, metric, at) if math.isfinite(one.value + one.rows)]
    if not found:
        raise UnknownCellsError(f"no cell has {metric} and rows")
    return found


def _read_one(cell: Mapping[str, Any], metric: str, at: int) -> Iterator[Cell]:
    way = cell.get("way") or cell.get("line")
    missing = [
        name for name in ("k", "rows", metric) if not isinstance(cell.get(name), int | float)
    ]
    if not isinstance(way, str) or missing:
        raise UnknownCellsError(f"cells[{at}] has no {', '.join(missing) or 'way or line'}")
    if cell.get("flow") == "one-pass":
        way = f"{way}, one pass"
    if cell.get("published") is True:
        way = f"{way} (published scheme)"
    yield _cell(cell, way, cell["rows"], cell[metric], metric)


def _read_ways(cell: Mapping[str, Any], metric: str, at: int) -> Iterator[Cell]:
    values = cell.get("median_ms" if metric == "ms" else "mean_passes")
    if not isinstance(values, Mapping) or not isinstance(cell.get("k"), int):
        raise UnknownCellsError(f"cells[{at}] has no k, or no {metric} by way")
    for way, rows in cell["mean_rows"].items():
        if way in values:
            yield _cell(cell, str(way), rows, values[way], metric)


def _cell(cell: Mapping[str, Any], way: str, rows: float, value: float, metric: str) -> Cell:
    known = [cell[name] for name in _PREFIX_NAMES if name in cell]
    prefix = ", ".join(one if isinstance(one, str) else f"{one} prompt tokens" for one in known)
    told = [way, f"K = {cell['k']}", f"{rows:.1f} rows", f"{value:.2f} {METRICS[metric]}"]
    if prefix:
        told.append(prefix)
    told += [f"{name} {cell[name]}" for name in ("max_rows", "requests") if name in cell]
    if isinstance(cell.get("speedup"), int | float):
        told.append(f"speed-up {cell['speedup']:.2f}")
    plain = cell.get(f"plain_{metric}")
    return Cell(
        int(cell["k"]),
        prefix,
        way,
        float(rows),
        float(value),
        "\n".join(told),
        float(plain) if isinstance(plain, int | float) else None,
    )


def front_of(cells: list[Cell]) -> list[Cell]:
    """Return the cells that no other one beats in rows and in value, by rows ascending."""
    front: list[Cell] = []
    for cell in sorted(cells, key=lambda one: (one.rows, one.value)):
        if not front or cell.value < front[-1].value:
            front.append(cell)
    return front
