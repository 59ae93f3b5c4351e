"""Import of the AtSpeed / LC-Rec data layout.

A folder holds sequential_train.txt, sequential_valid.txt, sequential_test.txt (one line per user:
`user item item ...`, item ids 1-based, in time order) and one JSON code index that maps the 0-based
item number to its code tokens: `{"0": ["<a_47>", "<b_103>"], ...}`.  So the JSON key of an item is
its id in the text files minus one.

Source: data folder of the AtSpeed code release (arXiv 2410.05165).
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from specbeam.training.data.dataset import (
    SPLITS,
    Dataset,
    Interactions,
    Items,
    with_train_popularity,
)
from specbeam.training.data.vocabulary import Level, codes_to_tokens, make_levels, token_names
from specbeam.training.errors import DatasetError

CODE_TOKEN = re.compile(r"<([A-Za-z]+)_(\d{1,6})>")


@dataclass(slots=True)
class _CodeIndex:
    """Parsed code index: codes by item id (as in the text files) and the level letters."""

    codes: dict[int, tuple[int, ...]] = field(default_factory=dict)
    letters: tuple[str, ...] = ()


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


def _read_index(source: Path, problems: list[str]) -> _CodeIndex:
    index = _CodeIndex()
    files = sorted(source.glob("*.json")) if source.is_dir() else []
    if len(files) != 1:
        found = ", ".join(file.name for file in files) or "none"
        problems.append(f"expected exactly one *.json code index, found {found}")
        return index
    label = files[0].name
    try:
        content = json.loads(files[0].read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        problems.append(f"{label}: line {error.lineno}, column {error.colno}: {error.msg}")
        return index
    except UnicodeDecodeError as error:
        problems.append(f"{label}: not UTF-8: {error}")
        return index
    if not isinstance(content, dict) or not content:
        problems.append(f"{label}: expected a non-empty object of item number -> code tokens")
        return index
    for key, value in content.items():
        _read_code(label, key, value, index, problems)
    return index


def _read_code(label: str, key: str, value: object, index: _CodeIndex, problems: list[str]) -> None:
    """Parse one entry of the code index into `index`, or note what is wrong with it."""
    if not (key.isascii() and key.isdigit()):
        problems.append(f"{label}: key {key!r} is not an item number (0, 1, 2, ...)")
        return
    if not isinstance(value, list) or not value:
        problems.append(f"{label}: item {key}: expected a list of code tokens, got {value!r}")
        return
    matches = [CODE_TOKEN.fullmatch(token) if isinstance(token, str) else None for token in value]
    wrong = [token for token, match in zip(value, matches, strict=True) if match is None]
    if wrong:
        problems.append(f"{label}: item {key}: {wrong[0]!r} does not look like '<a_12>'")
        return
    letters = tuple(match[1] for match in matches if match)
    index.letters = index.letters or letters
    if letters != index.letters:
        problems.append(
            f"{label}: item {key}: levels {'/'.join(letters)} differ from "
            f"{'/'.join(index.letters)} of the first item"
        )
        return
    item = int(key) + 1
    if item in index.codes:
        problems.append(f"{label}: item {key} appears twice")
    index.codes[item] = tuple(int(match[2]) for match in matches if match)


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


def _check_items(label: str, rows: _Rows, index: _CodeIndex, problems: list[str]) -> None:
    for user, items in rows.items.items():
        problems.extend(
            f"{label}:{rows.line[user]}: item {item} has no codes (no key {item - 1} in the index)"
            for item in items
            if item not in index.codes
        )


def _build(name: str, index: _CodeIndex, rows: dict[str, _Rows]) -> Dataset:
    ordered = sorted(index.codes)
    codes = np.array([index.codes[item] for item in ordered], dtype=np.int32)
    levels = make_levels(index.letters, [int(size) for size in codes.max(axis=0) + 1])
    interactions = _interactions(rows, {item: number for number, item in enumerate(ordered)})
    items = with_train_popularity(_items(ordered, codes, levels), interactions)
    return Dataset(name, levels, items, interactions)


def _items(ordered: list[int], codes: np.ndarray, levels: tuple[Level, ...]) -> Items:
    paths = codes_to_tokens(codes, levels)
    return Items(
        item_ids=tuple(str(item) for item in ordered),
        paths=paths,
        titles=tuple(
            f"item {item} ({token_names(path, levels)})"
            for item, path in zip(ordered, paths.tolist(), strict=True)
        ),
        topics=tuple((token_names(path[:1], levels[:1]),) for path in paths.tolist()),
        popularity=np.zeros(len(ordered), dtype=np.int32),
        created_at=(None,) * len(ordered),
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
