"""The dataset directory: dataset.json, items.parquet, interactions.parquet."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specbeam.training.data.dataset import (
    SPLITS,
    Dataset,
    Interactions,
    Items,
    check_dataset,
    with_train_popularity,
)
from specbeam.training.data.vocabulary import BOS_TOKEN_ID, EOS_TOKEN_ID, PAD_TOKEN_ID, Level
from specbeam.training.errors import DatasetError
from specbeam.training.files import new_directory, read_json, write_json

FORMAT = 2
DATASET_FILE = "dataset.json"
ITEMS_FILE = "items.parquet"
INTERACTIONS_FILE = "interactions.parquet"

ITEMS_SCHEMA = pa.schema(
    [
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("tokens", pa.list_(pa.int32()), nullable=False),
        pa.field("title", pa.string(), nullable=False),
        pa.field("topics", pa.list_(pa.string()), nullable=False),
        pa.field("popularity", pa.int32(), nullable=False),
        pa.field("created_at", pa.int64()),
        pa.field("tags", pa.list_(pa.string()), nullable=False),
        pa.field("text", pa.string(), nullable=False),
    ]
)
# Texts may be longer than everything else together, and nothing that serves reads them.
CATALOG_SCHEMA = pa.schema([field for field in ITEMS_SCHEMA if field.name != "text"])
INTERACTIONS_SCHEMA = pa.schema(
    [
        pa.field("user_id", pa.string(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("time", pa.int64(), nullable=False),
        pa.field("split", pa.string(), nullable=False),
    ]
)


def write_dataset(dataset: Dataset, directory: Path, *, overwrite: bool = False) -> None:
    """Check and write a dataset directory; a failure leaves nothing behind.

    Args:
        dataset: what to write.
        directory: where; must not exist unless `overwrite`.
        overwrite: replace an existing directory.

    Raises:
        DatasetError: the dataset is inconsistent.
        TrainingError: the directory exists.
    """
    check_dataset(dataset)
    with new_directory(directory, overwrite=overwrite) as scratch:
        write_items(dataset.items, scratch / ITEMS_FILE)
        pq.write_table(_interactions_table(dataset), scratch / INTERACTIONS_FILE)
        write_json(scratch / DATASET_FILE, _description(dataset))


def write_items(items: Items, path: Path) -> None:
    """Write a dataset's items.parquet."""
    pq.write_table(_items_table(items), path)


def write_catalog(items: Items, path: Path) -> None:
    """Write a bundle's catalog.parquet: the items without their texts."""
    pq.write_table(_items_table(items).select(CATALOG_SCHEMA.names), path)


def _items_table(items: Items) -> pa.Table:
    return pa.table(
        {
            "item_id": list(items.item_ids),
            "tokens": items.paths.tolist(),
            "title": list(items.titles),
            "topics": [list(topics) for topics in items.topics],
            "popularity": items.popularity,
            "created_at": list(items.created_at),
            "tags": [list(tags) for tags in items.tags],
            "text": list(items.texts),
        },
        schema=ITEMS_SCHEMA,
    )


def read_dataset(directory: Path) -> Dataset:
    """Read and check a dataset directory.

    Raises:
        DatasetError: a file is missing, damaged or inconsistent.
    """
    names = (DATASET_FILE, ITEMS_FILE, INTERACTIONS_FILE)
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise DatasetError(
            str(directory),
            [f"{name} is missing; is this a dataset directory?" for name in missing],
        )
    try:
        description = read_json(directory / DATASET_FILE)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DatasetError(str(directory), [f"{DATASET_FILE}: {error}"]) from error
    levels = _levels(description, directory)
    items = _read_items(_read_table(directory / ITEMS_FILE, ITEMS_SCHEMA), len(levels), directory)
    interactions = _read_interactions(
        _read_table(directory / INTERACTIONS_FILE, INTERACTIONS_SCHEMA), items, directory
    )
    provenance = description.get("import", {})
    items = with_train_popularity(items, interactions)
    dataset = Dataset(str(description["name"]), levels, items, interactions, provenance)
    check_dataset(dataset)
    return dataset


def _description(dataset: Dataset) -> dict[str, Any]:
    imported = {"import": dict(dataset.provenance)} if dataset.provenance else {}
    return {
        "format": FORMAT,
        "name": dataset.name,
        "item_length": dataset.item_length,
        "vocab_size": dataset.vocab_size,
        "pad_token_id": PAD_TOKEN_ID,
        "bos_token_id": BOS_TOKEN_ID,
        "eos_token_id": EOS_TOKEN_ID,
        "levels": [asdict(level) for level in dataset.levels],
        "counts": dataset.counts(),
        **imported,
    }


def _interactions_table(dataset: Dataset) -> pa.Table:
    interactions = dataset.interactions
    return pa.table(
        {
            "user_id": pa.array(interactions.user_ids, pa.string()).take(
                pa.array(interactions.user)
            ),
            "item_id": pa.array(dataset.items.item_ids, pa.string()).take(
                pa.array(interactions.item)
            ),
            "time": interactions.time,
            "split": pa.array(SPLITS, pa.string()).take(pa.array(interactions.split)),
        },
        schema=INTERACTIONS_SCHEMA,
    )


def _levels(description: Any, directory: Path) -> tuple[Level, ...]:
    """Return the levels of a parsed dataset.json."""
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        problem = f"{DATASET_FILE}: not a dataset of format {FORMAT}; import or synthesize it again"
        raise DatasetError(str(directory), [problem])
    try:
        levels = tuple(
            Level(str(level["name"]), int(level["token_offset"]), int(level["size"]))
            for level in description["levels"]
        )
        str(description["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            str(directory), [f"{DATASET_FILE}: missing or malformed field: {error}"]
        ) from error
    return levels


def _read_table(path: Path, schema: pa.Schema) -> pa.Table:
    try:
        table = pq.read_table(path)
        return table.select(schema.names).cast(schema)
    except (pa.ArrowException, KeyError, OSError) as error:
        raise DatasetError(str(path), [str(error)]) from error


def _read_items(table: pa.Table, item_length: int, directory: Path) -> Items:
    tokens: list[list[int]] = table["tokens"].to_pylist()
    item_ids: list[str] = table["item_id"].to_pylist()
    problems = [
        f"{ITEMS_FILE}: item {item_id!r} has {len(path)} tokens, expected {item_length}"
        for item_id, path in zip(item_ids, tokens, strict=True)
        if len(path) != item_length
    ]
    if problems:
        raise DatasetError(str(directory), problems)
    return Items(
        item_ids=tuple(item_ids),
        paths=np.array(tokens, dtype=np.int32).reshape(len(tokens), item_length),
        titles=tuple(table["title"].to_pylist()),
        topics=tuple(tuple(topics) for topics in table["topics"].to_pylist()),
        popularity=table["popularity"].to_numpy().astype(np.int32),
        created_at=tuple(table["created_at"].to_pylist()),
        texts=tuple(table["text"].to_pylist()),
        tags=tuple(tuple(tags) for tags in table["tags"].to_pylist()),
    )


def _read_interactions(table: pa.Table, items: Items, directory: Path) -> Interactions:
    users = table["user_id"].to_pylist()
    user_numbers: dict[str, int] = {}
    for user in users:
        user_numbers.setdefault(user, len(user_numbers))
    item_numbers = {item_id: number for number, item_id in enumerate(items.item_ids)}
    split_numbers: dict[str, int] = {name: number for number, name in enumerate(SPLITS)}
    item = _numbered(table["item_id"].to_pylist(), item_numbers, "item_id", directory)
    split = _numbered(table["split"].to_pylist(), split_numbers, "split", directory)
    return Interactions(
        user_ids=tuple(user_numbers),
        user=np.array([user_numbers[user] for user in users], dtype=np.int32),
        item=np.array(item, dtype=np.int32),
        time=table["time"].to_numpy().astype(np.int64),
        split=np.array(split, dtype=np.uint8),
    )


def _numbered(
    values: Sequence[str], numbers: dict[str, int], column: str, directory: Path
) -> list[int]:
    """Map names to numbers.

    Raises:
        DatasetError: naming each row whose value is unknown.
    """
    problems = [
        f"{INTERACTIONS_FILE}: row {row}: unknown {column} {value!r}"
        for row, value in enumerate(values)
        if value not in numbers
    ]
    if problems:
        raise DatasetError(str(directory), problems)
    return [numbers[value] for value in values]
