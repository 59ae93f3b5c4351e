"""The files of the MiniOneRec data layout, read and checked one by one."""

import ast
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from specbeam.training.data.code_index import CodeIndex, read_code_index
from specbeam.training.data.dataset import SPLITS
from specbeam.training.data.tables.item_table import ItemTable, read_items
from specbeam.training.data.tables.options import ItemFields
from specbeam.training.data.tables.problems import RowProblems
from specbeam.training.data.tables.source import TableSource, open_table
from specbeam.training.data.texts import plain_text

COLUMNS = ("user_id", "history_item_id", "item_id")
NAMED_TAGS = (("brand", "brand"),)


@dataclass(slots=True)
class SplitRows:
    """Rows of one split's file, with the item ids as they are written.

    Attributes:
        source: the file.
        users: user ids.
        histories: item ids before the target.
        targets: the next item's id.
    """

    source: TableSource
    users: list[str] = field(default_factory=list)
    histories: list[list[str]] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)


@dataclass(slots=True)
class FolderFiles:
    """What a folder holds.

    Attributes:
        paths: the files that are there, by what they are: index, items, train, valid, test.
        index: codes by item id.
        table: items as described.
        titles: titles of info.txt by item id.
        rows: rows of each split that is there.
    """

    paths: dict[str, Path]
    index: CodeIndex
    table: ItemTable
    titles: dict[str, str]
    rows: dict[str, SplitRows]


def read_folder(source: Path, problems: list[str], *, ignore_index: bool) -> FolderFiles:
    """Read every file of a folder.

    Args:
        source: the folder.
        problems: receives everything that is wrong with single files.
        ignore_index: do without codes, if items are described.
    """
    found: dict[str, Path | None] = {
        "index": _only(source, "*.index.json", problems),
        "items": _only(source, "*.item.json", problems),
    }
    found |= {split: _split_file(source, split, problems) for split in SPLITS}
    paths = {role: path for role, path in found.items() if path}
    index = read_code_index(paths["index"], problems) if "index" in paths else CodeIndex()
    table = _read_item_file(paths["items"], problems) if "items" in paths else ItemTable()
    if not index.codes and not (ignore_index and table.item_ids) and not problems:
        problems.append("there is no *.index.json; --ignore-index does without if *.item.json is")
    rows: dict[str, SplitRows] = {
        split: _read_rows(paths[split], problems) for split in SPLITS if split in paths
    }
    if not rows:
        problems.append("there is none of train.csv, valid.csv, test.csv")
    return FolderFiles(paths, index, table, _titles(source / "info.txt"), rows)


def _only(source: Path, pattern: str, problems: list[str]) -> Path | None:
    """Return the file of a pattern, None if there is none; two are a problem."""
    files = sorted(source.glob(pattern))
    if len(files) > 1:
        problems.append(f"expected one {pattern}, found {', '.join(f.name for f in files)}")
    return files[0] if len(files) == 1 else None


def _split_file(source: Path, split: str, problems: list[str]) -> Path | None:
    """Return SPLIT.csv, or the only csv in a folder SPLIT."""
    direct = source / f"{split}.csv"
    return direct if direct.is_file() else _only(source, f"{split}/*.csv", problems)


def _read_item_file(path: Path, problems: list[str]) -> ItemTable:
    source = open_table(path)
    tags = tuple((prefix, name) for prefix, name in NAMED_TAGS if name in source.names)
    return read_items(source, ItemFields(tags=tags), problems)


def _titles(path: Path) -> dict[str, str]:
    """Return titles by item id from info.txt, if it is there."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8").splitlines()
    cells = (line.split("\t") for line in lines)
    return {row[2].strip(): plain_text(row[1]) for row in cells if len(row) == 3}


def _read_rows(path: Path, problems: list[str]) -> SplitRows:
    source = open_table(path)
    rows = SplitRows(source)
    missing = [name for name in COLUMNS if name not in source.names]
    if missing:
        problems.append(f"{path.name}: no column {', '.join(missing)}")
        return rows
    rows.users, histories, rows.targets = source.values(COLUMNS, problems)
    found = RowProblems(source.label, source.places)
    bad: dict[int, str] = {}
    for row, text in enumerate(histories):
        items = _list_literal(text)
        if items is None:
            bad[row] = f"history {text!r:.60} is no list of item ids"
        rows.histories.append(items or [])
    found.add("not a list", list(bad), bad.__getitem__)
    no_user = [row for row, user in enumerate(rows.users) if not user.strip()]
    found.add("no user id", no_user, lambda row: "no user id")
    problems.extend(found.lines())
    return rows


def _list_literal(text: str) -> list[str] | None:
    """Return the ids in a list written as JSON or Python; None if it is none."""
    value: Any
    try:
        value = json.loads(text)
    except ValueError:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return None
    return [str(item) for item in value] if isinstance(value, list) else None
