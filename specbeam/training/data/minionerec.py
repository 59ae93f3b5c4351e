"""Import of the MiniOneRec data layout.

A folder holds NAME.index.json (item id -> code tokens), NAME.item.json (item id -> title,
description, brand, categories), perhaps info.txt (codes, title, item id; tab-separated), and
train.csv, valid.csv, test.csv or some of them.  A csv row is one next item of a user with the items
before it, the last ten or so.

Source: data folder of the MiniOneRec code release.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from specbeam.training.data.cleaning import Repeats, without_repeats
from specbeam.training.data.dataset import SPLITS, Dataset, Interactions, with_train_popularity
from specbeam.training.data.minionerec_files import FolderFiles, SplitRows, read_folder
from specbeam.training.data.sequences import UserSequence
from specbeam.training.data.tables.item_table import ItemTable
from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.errors import DatasetError

SPLIT_NUMBERS: dict[str, int] = {split: number for number, split in enumerate(SPLITS)}


def import_minionerec(
    source: Path,
    *,
    name: str | None = None,
    ignore_index: bool = False,
    repeats: Repeats = "all",
) -> Dataset:
    """Read a MiniOneRec-layout folder.

    Each user's rows are put together to one sequence.  The target of a row belongs to the split of
    its file, items that are only in histories to train.  `time` counts a user's interactions from
    0, as the source has no times.

    Args:
        source: the folder.
        name: dataset name; NAME of the files by default.
        ignore_index: make a dataset without semantic IDs; items then need no codes.
        repeats: which of a user's interactions with one item is kept.

    Raises:
        DatasetError: listing every problem of all files, with line numbers.
    """
    problems: list[str] = []
    files = read_folder(source, problems, ignore_index=ignore_index)
    described = len(files.table.item_ids)
    table = _catalogue(files, ignore_index)
    numbers = {item_id: number for number, item_id in enumerate(table.item_ids)}
    if not problems:
        for split_rows in files.rows.values():
            _check_items(split_rows, numbers, problems)
    if problems:
        raise DatasetError(str(source), problems)
    sequences = _sequences(files.rows, numbers)
    interactions, num_repeats = _interactions(sequences, repeats)
    paths = np.zeros((len(numbers), 0), np.int32)
    if not ignore_index:
        paths = files.index.paths(table.item_ids)
    provenance = {
        "layout": "minionerec",
        "files": {role: str(path.relative_to(source)) for role, path in files.paths.items()},
        "options": {"ignore_index": ignore_index, "repeats": repeats},
        "missing_files": [f"{split}.csv" for split in SPLITS if split not in files.rows],
        "item_columns": dict(table.columns),
        "rows": {**_row_counts(files, sequences), "repeats": num_repeats},
        "interactions": len(interactions),
        "catalogue": {"known": described, "kept": len(numbers)},
    }
    return Dataset(
        name or files.paths.get("index", files.paths["items"]).name.partition(".")[0],
        () if ignore_index else files.index.levels(),
        with_train_popularity(table.items(paths), interactions),
        interactions,
        provenance,
    )


def _row_counts(files: FolderFiles, sequences: dict[str, UserSequence]) -> dict[str, int]:
    return {
        "read": sum(len(rows.users) for rows in files.rows.values()),
        "contradictions": sum(sequence.contradictions for sequence in sequences.values()),
        "gaps": sum(sequence.gaps for sequence in sequences.values()),
    }


def _catalogue(files: FolderFiles, ignore_index: bool) -> ItemTable:
    """Return the items: those with codes, or all of both files if codes are ignored."""
    table, index = files.table, files.index
    known = set(table.item_ids)
    table.append_bare([item_id for item_id in index.codes if item_id not in known])
    table.titles = [
        files.titles.get(item_id, title) if title == item_id else title
        for item_id, title in zip(table.item_ids, table.titles, strict=True)
    ]
    if ignore_index:
        return table
    rows = [row for row, item_id in enumerate(table.item_ids) if item_id in index.codes]
    return table.take(rows)


def _check_items(rows: SplitRows, numbers: dict[str, int], problems: list[str]) -> None:
    unknown = {
        row: item_id
        for row, (history, target) in enumerate(zip(rows.histories, rows.targets, strict=True))
        for item_id in (*history, target)
        if item_id not in numbers
    }
    found = RowProblems(rows.source.label, rows.source.places)
    found.add(
        "unknown items",
        list(unknown),
        lambda row: f"item {unknown[row]!r} is not in the index or the items",
    )
    problems.extend(found.lines())


def _sequences(rows: dict[str, SplitRows], numbers: dict[str, int]) -> dict[str, UserSequence]:
    """Put each user's rows together; users in the order of their first row."""
    window = max((len(h) for part in rows.values() for h in part.histories), default=0)
    sequences: dict[str, UserSequence] = {}
    for split, part in rows.items():
        split_number = SPLIT_NUMBERS[split]
        for user, history, target in zip(part.users, part.histories, part.targets, strict=True):
            items = [numbers[item_id] for item_id in history]
            sequence = sequences.setdefault(user, UserSequence())
            sequence.add(items, numbers[target], split_number, window)
    return sequences


def _interactions(sequences: dict[str, UserSequence], repeats: Repeats) -> tuple[Interactions, int]:
    """Return the interactions, and how many repeats of an item were dropped."""

    def columns() -> Iterator[tuple[int, int, int, int]]:
        for user, sequence in enumerate(sequences.values()):
            for time, (item, split) in enumerate(zip(sequence.items, sequence.split, strict=True)):
                yield user, item, time, split

    table = np.array(list(columns()), np.int64).reshape(-1, 4)
    kept = without_repeats(table[:, 0], table[:, 1], table[:, 2], repeats)
    table = table[kept]
    interactions = Interactions(
        user_ids=tuple(sequences),
        user=table[:, 0].astype(np.int32),
        item=table[:, 1].astype(np.int32),
        time=table[:, 2],
        split=table[:, 3].astype(np.uint8),
    )
    return interactions, int((~kept).sum())
