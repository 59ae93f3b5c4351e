"""Import of the AtSpeed / LC-Rec data layout.

A folder holds sequential_train.txt, sequential_valid.txt, sequential_test.txt (one line per user:
`user item item ...`, item ids 1-based, in time order) and one JSON code index that maps the 0-based
item number to its code tokens: `{"0": ["<a_47>", "<b_103>"], ...}`.  So the JSON key of an item is
its id in the text files minus one.

Source: data folder of the AtSpeed code release (arXiv 2410.05165).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from specbeam.training.data.code_index import CodeIndex, read_code_index
from specbeam.training.data.dataset import (
    SPLITS,
    Dataset,
    Interactions,
    Items,
    with_train_popularity,
)
from specbeam.training.data.vocabulary import Level, token_names
from specbeam.training.errors import DatasetError


@dataclass(slots=True)
class _Rows:
    """Items of each user in one split, and the line that each user stands on."""

    items: dict[int, list[int]] = field(default_factory=dict)
    line: dict[int, int] = field(default_factory=dict)


def import_atspeed(source: Path, *, name: str | None = None) -> Dataset:
    """Read an AtSpeed-layout folder.

    The source has no times and no titles: `time` counts a user's interactions from 0, a title shows
    the codes, and the only topic of an item is its first code (the coarsest cluster).

    Args:
        source: the folder.
        name: dataset name; the folder's name by default.

    Raises:
        DatasetError: listing every problem of all files, with line numbers.
    """
    problems: list[str] = []
    index = _read_index(source, problems)
    rows: dict[str, _Rows] = {
        split: _read_rows(source / f"sequential_{split}.txt", problems) for split in SPLITS
    }
    if index.codes:
        for split in SPLITS:
            _check_items(f"sequential_{split}.txt", rows[split], index, problems)
    if problems:
        raise DatasetError(str(source), problems)
    return _build(name or source.resolve().name, index, rows)


def _read_index(source: Path, problems: list[str]) -> CodeIndex:
    """Return the only code index of the folder, keyed by item id as in the text files."""
    files = sorted(source.glob("*.json")) if source.is_dir() else []
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        problems.append(f"expected exactly one *.json code index, found {found}")
        return CodeIndex()
    index = read_code_index(files[0], problems, numbered=True)
    shifted: dict[str, tuple[int, ...]] = {}
    for key, codes in index.codes.items():
        item = str(int(key) + 1)
        if item in shifted:
            problems.append(f"{files[0].name}: item {int(key)} appears twice")
        shifted[item] = codes
    ordered = sorted(shifted, key=int)
    return CodeIndex({item: shifted[item] for item in ordered}, index.letters)


def _read_rows(path: Path, problems: list[str]) -> _Rows:
    rows = _Rows()
    try:
        text = path.read_text(encoding="ascii")
    except FileNotFoundError:
        problems.append(f"{path.name} is missing")
        return rows
    except UnicodeDecodeError as error:
        problems.append(f"{path.name}: not plain ASCII: {error}")
        return rows
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        wrong = next((f for f in fields if not f.isdigit() or int(f) < 1), None)
        if not fields:
            problems.append(f"{path.name}:{number}: empty line")
        elif wrong is not None:
            problems.append(f"{path.name}:{number}: {wrong!r} is not an id (1, 2, 3, ...)")
        elif (user := int(fields[0])) in rows.items:
            first = rows.line[user]
            problems.append(f"{path.name}:{number}: user {user} already has line {first}")
        else:
            rows.items[user] = [int(f) for f in fields[1:]]
            rows.line[user] = number
    return rows


def _check_items(label: str, rows: _Rows, index: CodeIndex, problems: list[str]) -> None:
    for user, items in rows.items.items():
        problems.extend(
            f"{label}:{rows.line[user]}: item {item} has no codes (no key {item - 1} in the index)"
            for item in items
            if str(item) not in index.codes
        )


def _build(name: str, index: CodeIndex, rows: dict[str, _Rows]) -> Dataset:
    levels = index.levels()
    numbers = {int(item): number for number, item in enumerate(index.codes)}
    interactions = _interactions(rows, numbers)
    items = with_train_popularity(_items(tuple(index.codes), index, levels), interactions)
    return Dataset(name, levels, items, interactions, {"layout": "atspeed"})


def _items(item_ids: tuple[str, ...], index: CodeIndex, levels: tuple[Level, ...]) -> Items:
    paths = index.paths(item_ids)
    return Items(
        item_ids=item_ids,
        paths=paths,
        titles=tuple(
            f"item {item} ({token_names(path, levels)})"
            for item, path in zip(item_ids, paths.tolist(), strict=True)
        ),
        topics=tuple((token_names(path[:1], levels[:1]),) for path in paths.tolist()),
        popularity=np.zeros(len(item_ids), dtype=np.int32),
        created_at=(None,) * len(item_ids),
    )


def _interactions(rows: dict[str, _Rows], numbers: dict[int, int]) -> Interactions:
    """Join the splits user by user; `time` counts from 0 through all splits of a user."""
    users = sorted({user for split in SPLITS for user in rows[split].items})
    columns: list[tuple[int, int, int, int]] = []
    for user_number, user in enumerate(users):
        time = 0
        for split_number, split in enumerate(SPLITS):
            for item in rows[split].items.get(user, ()):
                columns.append((user_number, numbers[item], time, split_number))
                time += 1
    table = np.array(columns, dtype=np.int64).reshape(len(columns), 4)
    return Interactions(
        user_ids=tuple(str(user) for user in users),
        user=table[:, 0].astype(np.int32),
        item=table[:, 1].astype(np.int32),
        time=table[:, 2],
        split=table[:, 3].astype(np.uint8),
    )
