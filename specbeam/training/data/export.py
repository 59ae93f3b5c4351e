"""A dataset as plain files: interactions.csv and items.csv."""

import csv
import json
from pathlib import Path

from specbeam.training.data.dataset import SPLITS, Dataset
from specbeam.training.data.tables.times import format_time
from specbeam.training.files import new_directory

INTERACTIONS_CSV = "interactions.csv"
ITEMS_CSV = "items.csv"
INDEX_JSON = "index.json"


def export_dataset(
    dataset: Dataset, directory: Path, *, unix_times: bool = False, overwrite: bool = False
) -> list[str]:
    """Write a dataset as files that the layout `table` reads.

    interactions.csv has user_id, item_id, timestamp and split, users one after another and in
    order within a user; items.csv has item_id, title, text, topics (a JSON list), tags (a JSON
    list), popularity and created_at; index.json has the codes of items that have semantic IDs.

    Args:
        dataset: what to write.
        directory: where; must not exist unless `overwrite`.
        unix_times: write Unix milliseconds instead of ISO 8601.
        overwrite: replace an existing directory.

    Returns:
        Names of the files.

    Raises:
        TrainingError: the directory exists.
    """
    with new_directory(directory, overwrite=overwrite) as scratch:
        _write_interactions(dataset, scratch / INTERACTIONS_CSV, unix_times)
        _write_items(dataset, scratch / ITEMS_CSV)
        if dataset.has_semantic_ids:
            _write_index(dataset, scratch / INDEX_JSON)
        return sorted(path.name for path in scratch.iterdir())


def _write_interactions(dataset: Dataset, path: Path, unix_times: bool) -> None:
    interactions, item_ids = dataset.interactions, dataset.items.item_ids
    columns = (interactions.user, interactions.item, interactions.time, interactions.split)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("user_id", "item_id", "timestamp", "split"))
        for user, item, ms, split in zip(*(column.tolist() for column in columns), strict=True):
            time = ms if unix_times else format_time(ms)
            writer.writerow((interactions.user_ids[user], item_ids[item], time, SPLITS[split]))


def _write_items(dataset: Dataset, path: Path) -> None:
    items = dataset.items
    rows = zip(
        items.item_ids,
        items.titles,
        items.texts,
        (json.dumps(topics, ensure_ascii=False) for topics in items.topics),
        (json.dumps(tags, ensure_ascii=False) for tags in items.tags),
        items.popularity.tolist(),
        items.created_at,
        strict=True,
    )
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        names = ("item_id", "title", "text", "topics", "tags", "popularity", "created_at")
        writer.writerow(names)
        writer.writerows(rows)


def _write_index(dataset: Dataset, path: Path) -> None:
    levels, items = dataset.levels, dataset.items
    index = {
        item_id: [
            f"<{level.name}_{token - level.token_offset}>"
            for token, level in zip(tokens, levels, strict=True)
        ]
        for item_id, tokens in zip(items.item_ids, items.paths.tolist(), strict=True)
    }
    path.write_text(json.dumps(index) + "\n", encoding="utf-8")
