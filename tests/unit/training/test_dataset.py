import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from specbeam.training.data.atspeed import import_atspeed
from specbeam.training.data.dataset import Dataset, check_dataset, require_semantic_ids
from specbeam.training.data.dataset_files import read_dataset, write_dataset
from specbeam.training.errors import DatasetError, TrainingError


def assert_equal(left: Dataset, right: Dataset) -> None:
    assert left.name == right.name
    assert left.levels == right.levels
    assert left.items.item_ids == right.items.item_ids
    assert left.items.titles == right.items.titles
    assert left.items.topics == right.items.topics
    assert left.items.texts == right.items.texts
    assert left.items.tags == right.items.tags
    assert left.items.created_at == right.items.created_at
    np.testing.assert_array_equal(left.items.paths, right.items.paths)
    np.testing.assert_array_equal(left.items.popularity, right.items.popularity)
    assert left.interactions.user_ids == right.interactions.user_ids
    for name in ("user", "item", "time", "split"):
        np.testing.assert_array_equal(
            getattr(left.interactions, name), getattr(right.interactions, name)
        )


def test_write_then_read_gives_the_same_dataset(tmp_path: Path, atspeed_dir: Path) -> None:
    dataset = import_atspeed(atspeed_dir)
    write_dataset(dataset, tmp_path / "toys.dataset")
    assert_equal(read_dataset(tmp_path / "toys.dataset"), dataset)


def test_a_dataset_without_semantic_ids_is_kept_but_not_trained(
    tmp_path: Path, small_dataset: Dataset
) -> None:
    items = dataclasses.replace(
        small_dataset.items,
        paths=np.zeros((len(small_dataset.items), 0), np.int32),
        texts=tuple(f"about {title}" for title in small_dataset.items.titles),
        tags=(("brand:HP",), *small_dataset.items.tags[1:]),
    )
    dataset = Dataset("x", (), items, small_dataset.interactions)
    write_dataset(dataset, tmp_path / "d")
    assert_equal(read_dataset(tmp_path / "d"), dataset)
    with pytest.raises(DatasetError, match="specbeam data semantic-ids"):
        require_semantic_ids(dataset, "d")


def test_an_existing_directory_is_kept_unless_told(tmp_path: Path, small_dataset: Dataset) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "mine").write_text("x")
    with pytest.raises(TrainingError, match="already exists"):
        write_dataset(small_dataset, tmp_path / "d")
    assert (tmp_path / "d" / "mine").read_text() == "x"
    (tmp_path / "d.old").mkdir()
    write_dataset(small_dataset, tmp_path / "d", overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d", "d.old"]
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [
        "dataset.json",
        "interactions.parquet",
        "items.parquet",
    ]


def test_a_failed_write_leaves_nothing(tmp_path: Path, small_dataset: Dataset) -> None:
    broken = Dataset("x", (), small_dataset.items, small_dataset.interactions)
    with pytest.raises(DatasetError, match="tokens each, the levels say 0"):
        write_dataset(broken, tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_missing_files_are_all_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        read_dataset(tmp_path)
    assert len(caught.value.problems) == 3


def test_another_format_is_refused(tmp_path: Path, small_dataset: Dataset) -> None:
    write_dataset(small_dataset, tmp_path / "d")
    path = tmp_path / "d" / "dataset.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format": 9}))
    with pytest.raises(DatasetError, match="not a dataset of format 2"):
        read_dataset(tmp_path / "d")


def test_interactions_with_unknown_items_name_the_row(
    tmp_path: Path, small_dataset: Dataset
) -> None:
    write_dataset(small_dataset, tmp_path / "d")
    path = tmp_path / "d" / "items.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(0, 100), path)
    with pytest.raises(DatasetError, match=r"interactions\.parquet: row \d+: unknown item_id"):
        read_dataset(tmp_path / "d")


def test_check_reports_duplicate_ids_and_foreign_tokens(small_dataset: Dataset) -> None:
    items = small_dataset.items
    paths = items.paths.copy()
    paths[5, 1] = 2
    ids = (items.item_ids[1], *items.item_ids[1:])
    broken = dataclasses.replace(items, item_ids=ids, paths=paths)
    with pytest.raises(DatasetError) as caught:
        check_dataset(Dataset("x", small_dataset.levels, broken, small_dataset.interactions))
    assert len(caught.value.problems) == 2
