"""Making a dataset of an interaction log and item metadata."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from specbeam.training.data.cleaning import (
    first_of_equal_rows,
    k_core,
    time_order,
    without_repeats,
)
from specbeam.training.data.code_index import CodeIndex, read_code_index
from specbeam.training.data.dataset import (
    Dataset,
    Int32Array,
    Interactions,
    with_train_popularity,
)
from specbeam.training.data.splits import apply_split
from specbeam.training.data.tables.item_table import ItemTable, read_items
from specbeam.training.data.tables.log import Log, read_log
from specbeam.training.data.tables.options import TableImport
from specbeam.training.data.tables.source import open_table
from specbeam.training.data.tables.times import KIND_NAMES
from specbeam.training.errors import DatasetError

SHOWN_ITEMS = 5

IntArray = npt.NDArray[np.int64]


@dataclass(slots=True)
class _Rows:
    """The interactions that are left, in the order of the file, and why the others are not.

    Attributes:
        user: index into the log's users. Shape (M,).
        item: item numbers of the catalogue, -1 where unknown. Shape (M,).
        time: Unix milliseconds. Shape (M,).
        rating: shape (M,), or None.
        dropped: rows dropped by each rule.
    """

    user: IntArray
    item: IntArray
    time: IntArray
    rating: npt.NDArray[np.float64] | None
    dropped: dict[str, int] = field(default_factory=dict)

    def keep(self, mask: npt.NDArray[np.bool_], rule: str) -> None:
        """Drop rows and count them under the rule's name."""
        self.dropped[rule] = int((~mask).sum())
        if not self.dropped[rule]:
            return
        self.user, self.item, self.time = self.user[mask], self.item[mask], self.time[mask]
        self.rating = None if self.rating is None else self.rating[mask]


def import_table(request: TableImport) -> Dataset:
    """Make a dataset of an interaction log, with item metadata and semantic IDs if there are any.

    Users are numbered in the order of their first row, items as in the items file or else in the
    order of their first row.  Interactions are sorted by time within a user, equal times as in the
    file.  The dataset's provenance says which columns were read and what was dropped.

    Args:
        request: files and options.

    Raises:
        DatasetError: listing every problem of all files, with line numbers.
    """
    problems: list[str] = []
    log = read_log(
        request.interactions,
        request.log_fields,
        problems,
        with_ratings=request.cleaning.min_rating is not None,
    )
    item_problems: list[str] = []
    table = None
    if request.items:
        table = read_items(open_table(request.items), request.item_fields, item_problems)
    index = read_code_index(request.index, item_problems) if request.index else None
    if log is None:
        raise DatasetError(str(request.interactions), [*problems, *item_problems])
    rows = _Rows(log.user, log.item, log.time, log.rating)
    if table is None or table.item_ids:
        table = _join(log, table, request, rows)
    problems += [*log.problems.lines(), *item_problems]
    if not problems and not len(log):
        problems.append(f"{request.interactions.name}: it has no rows")
    if problems or table is None:
        raise DatasetError(str(request.interactions), problems)
    return _make(log, rows, table, index, request)


def _join(log: Log, table: ItemTable | None, request: TableImport, rows: _Rows) -> ItemTable:
    """Number the log's items as in the catalogue; unknown ones become problems if they must."""
    if table is None:
        table = ItemTable()
        table.append_bare(log.item_ids)
        return table
    if request.unknown_items == "keep":
        known = set(table.item_ids)
        table.append_bare([item_id for item_id in log.item_ids if item_id not in known])
    numbers = {item_id: number for number, item_id in enumerate(table.item_ids)}
    number_of = np.array([numbers.get(item_id, -1) for item_id in log.item_ids], np.int64)
    rows.item = number_of[log.item] if len(number_of) else log.item
    if request.unknown_items == "error" and request.items:
        file = request.items.name
        log.problems.add(
            f"items that {file} lacks (--unknown-items)",
            np.flatnonzero(rows.item < 0),
            lambda row: f"item {log.item_ids[log.item[row]]!r} is not in {file}",
        )
    return table


def _make(
    log: Log, rows: _Rows, table: ItemTable, index: CodeIndex | None, request: TableImport
) -> Dataset:
    """Clean, order, split and number the rows."""
    kept_items = _clean(rows, len(table.item_ids), request)
    if not len(rows.user):
        dropped = ", ".join(f"{rule} {count:,}" for rule, count in rows.dropped.items() if count)
        raise DatasetError(
            str(request.interactions), [f"no interactions are left; dropped: {dropped}"]
        )
    order = time_order(rows.user, rows.time)
    users, user = np.unique(rows.user[order], return_inverse=True)
    item = (np.cumsum(kept_items) - 1)[rows.item[order]]
    time = rows.time[order]
    interactions = Interactions(
        user_ids=tuple(log.user_ids[number] for number in users.tolist()),
        user=user.astype(np.int32),
        item=item.astype(np.int32),
        time=time,
        split=apply_split(request.split, user, time),
    )
    levels = index.levels() if index else ()
    kept = table.take(np.flatnonzero(kept_items).tolist())
    items = kept.items(_paths(kept, index, request))
    return Dataset(
        request.name or request.interactions.name.partition(".")[0],
        levels,
        with_train_popularity(items, interactions),
        interactions,
        {
            **_provenance(log, rows, request),
            "users": {"read": len(log.user_ids), "kept": len(users)},
            "catalogue": {"known": len(table.item_ids), "kept": len(items)},
            "item_columns": dict(table.columns),
        },
    )


def _clean(rows: _Rows, num_items: int, request: TableImport) -> npt.NDArray[np.bool_]:
    """Drop rows by each rule in turn, and return which items stay in the catalogue."""
    rule = request.cleaning
    rows.keep(rows.item >= 0, "unknown_items")
    if rule.min_rating is not None:
        assert rows.rating is not None
        rows.keep(rows.rating >= rule.min_rating, "below_min_rating")
    rows.keep(first_of_equal_rows(rows.user, rows.item, rows.time), "exact_duplicates")
    rows.keep(without_repeats(rows.user, rows.item, rows.time, rule.repeats), "repeats")
    before = np.bincount(rows.item, minlength=num_items) > 0
    enough = k_core(rows.user, rows.item, rule.min_user_interactions, rule.min_item_interactions)
    rows.keep(enough, "too_few_interactions")
    after = np.bincount(rows.item, minlength=num_items) > 0
    if request.only_seen_items:
        return after
    rare = before & ~after
    kept = after | rare if request.keep_rare_items else after
    return kept if request.items is None else kept | ~before


def _paths(table: ItemTable, index: CodeIndex | None, request: TableImport) -> Int32Array:
    """Return the token paths of the items, none without an index.

    Raises:
        DatasetError: the index lacks some of the items.
    """
    if index is None or request.index is None:
        return np.zeros((len(table.item_ids), 0), np.int32)
    missing = [item_id for item_id in table.item_ids if item_id not in index.codes]
    problems = [
        f"item {item_id!r} has no codes in {request.index.name}"
        for item_id in missing[:SHOWN_ITEMS]
    ]
    if hidden := len(missing) - len(problems):
        problems.append(f"and {hidden:,} more items have none")
    if problems:
        raise DatasetError(str(request.index), problems)
    return index.paths(table.item_ids)


def _provenance(log: Log, rows: _Rows, request: TableImport) -> dict[str, Any]:
    files: dict[str, Path | None] = {
        "interactions": request.interactions,
        "items": request.items,
        "index": request.index,
    }
    return {
        "layout": "table",
        "files": {role: path.name for role, path in files.items() if path},
        "options": request.described(),
        "columns": {role: found.column for role, found in log.columns.items()},
        "guessed_columns": sorted(f.column for f in log.columns.values() if f.guessed),
        "times": KIND_NAMES[log.time_kind] if log.time_kind else None,
        "rows": {"read": len(log), **rows.dropped, "kept": len(rows.user)},
    }
