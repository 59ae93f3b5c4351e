import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from specbeam.training.data.dataset import Dataset, check_dataset
from specbeam.training.data.dataset_files import read_dataset, write_dataset
from specbeam.training.errors import DatasetError, TrainingError
from specbeam.training.semantic_ids import files
from specbeam.training.semantic_ids.assign import assign_semantic_ids, code_items
from specbeam.training.semantic_ids.files import SEMANTIC_IDS_FILE, write_with_report
from specbeam.training.semantic_ids.options import (
    SemanticIdOptions,
    default_codes,
    default_levels,
    with_defaults,
)
from specbeam.training.semantic_ids.vectors import normalised


@pytest.fixture
def bare(small_dataset: Dataset) -> Dataset:
    """The small dataset without semantic IDs."""
    items = replace(small_dataset.items, paths=np.zeros((160, 0), np.int32))
    return Dataset("bare", (), items, small_dataset.interactions)


def test_every_item_gets_a_path_of_its_own(bare: Dataset) -> None:
    notes: list[str] = []
    dataset, report = assign_semantic_ids(bare, SemanticIdOptions(dims=16), note=notes.append)
    check_dataset(dataset)
    assert [level.name for level in dataset.levels] == ["a", "b", "c", "d"]
    assert dataset.counts()["semantic_ids"] == len(bare.items)
    assert report["options"]["method"] == "text+cooccurrence"
    assert report["collisions"]["groups"] == 0
    assert report["items_without_information"] == 0
    # No token id is without an item at the end of its level.
    for level, column in zip(dataset.levels, dataset.items.paths.T, strict=True):
        assert column.max() == level.token_offset + level.size - 1
    assert all(report["prefix_lift"][split][0]["lift"] > 1 for split in ("train", "valid"))
    assert len(notes) == 7
    assert json.loads(json.dumps(report)) == report


@pytest.mark.parametrize("method", ["text", "cooccurrence", "text+cooccurrence"])
def test_same_seed_same_paths(bare: Dataset, method: str) -> None:
    options = SemanticIdOptions(method=method, dims=8, codes=16)  # type: ignore[arg-type]
    runs = [assign_semantic_ids(bare, options) for _ in range(2)]
    np.testing.assert_array_equal(runs[0][0].items.paths, runs[1][0].items.paths)
    assert runs[0][1] == runs[1][1]


def test_existing_ids_are_kept_unless_told_otherwise(small_dataset: Dataset) -> None:
    with pytest.raises(DatasetError, match="--overwrite-ids"):
        assign_semantic_ids(small_dataset, SemanticIdOptions())
    replaced, _ = assign_semantic_ids(
        small_dataset, SemanticIdOptions(method="cooccurrence", dims=8), replace_ids=True
    )
    assert replaced.levels != small_dataset.levels


@pytest.mark.parametrize("policy", ["reassign", "level", "keep"])
def test_policies(policy: str) -> None:
    rng = np.random.default_rng(0)
    vectors = normalised(np.repeat(rng.standard_normal((20, 4)), 3, axis=0).astype(np.float32))
    options = SemanticIdOptions(levels=2, codes=8, collisions=policy)  # type: ignore[arg-type]
    coded = code_items(vectors, options)
    assert coded.collisions_before["items"] == 60
    distinct = len(np.unique(coded.codes, axis=0))
    assert coded.codes.shape == (60, 3 if policy == "level" else 2)
    if policy == "keep":
        assert distinct <= 20
    elif policy == "level":
        assert distinct == 60
    else:
        assert 20 < distinct <= 64


def test_items_without_information_form_one_neighbourhood(bare: Dataset) -> None:
    unknown = np.zeros(160, bool)
    unknown[::7] = True
    items = bare.items
    titles = tuple(
        item_id if blank else title
        for item_id, title, blank in zip(items.item_ids, items.titles, unknown, strict=True)
    )
    topics = tuple(() if b else t for t, b in zip(items.topics, unknown, strict=True))
    dataset = replace(bare, items=replace(items, titles=titles, topics=topics, texts=()))
    coded, report = assign_semantic_ids(dataset, SemanticIdOptions(method="text", dims=16))
    assert report["items_without_information"] == unknown.sum() == 23
    paths = coded.items.paths
    assert len(np.unique(paths[unknown, 0])) == 1
    assert len(np.unique(paths, axis=0)) == len(paths)


def test_a_dataset_that_says_nothing_falls_back_to_histories(bare: Dataset) -> None:
    items = replace(bare.items, titles=bare.items.item_ids, topics=((),) * 160, texts=())
    silent = replace(bare, items=items)
    _, report = assign_semantic_ids(silent, SemanticIdOptions(dims=8))
    assert report["options"]["method"] == "cooccurrence"
    with pytest.raises(DatasetError, match="with a word in it"):
        assign_semantic_ids(silent, SemanticIdOptions(method="text"))


def test_given_vectors_are_used(bare: Dataset, tmp_path: Path) -> None:
    vectors = np.zeros((160, 3))
    vectors[:80, 0] = vectors[80:, 1] = 1
    np.save(tmp_path / "v.npy", vectors)
    options = SemanticIdOptions(vectors=tmp_path / "v.npy", levels=3, collisions="keep")
    dataset, report = assign_semantic_ids(bare, options)
    assert report["options"]["method"] == "vectors"
    assert len(np.unique(dataset.items.paths[:80], axis=0)) == 1
    assert dataset.counts()["semantic_ids"] == 2
    np.save(tmp_path / "v.npy", np.zeros((160, 3)))
    with pytest.raises(DatasetError, match="nothing is known"):
        assign_semantic_ids(bare, options)


@pytest.mark.parametrize(
    ("num_items", "codes", "levels"),
    [(4, 4, 4), (160, 16, 4), (2000, 128, 3), (3459, 256, 3), (17_000, 256, 4), (10**6, 256, 4)],
)
def test_defaults_follow_the_catalogue(num_items: int, codes: int, levels: int) -> None:
    options = with_defaults(SemanticIdOptions(), num_items, has_text=False, has_pairs=True)
    assert (options.codes, options.levels) == (codes, levels)
    assert (default_codes(num_items), default_levels(num_items, codes)) == (codes, levels)


def test_wrong_options_are_all_named(bare: Dataset) -> None:
    options = SemanticIdOptions(
        method="vectors", levels=1, codes=300, dims=1, text_weight=1, seed=-1
    )
    with pytest.raises(TrainingError) as caught:
        assign_semantic_ids(bare, options)
    for word in ("file of vectors", "levels 1", "codes 300", "dims 1", "text weight 1", "seed -1"):
        assert word in str(caught.value)


def test_the_directory_is_replaced_whole(
    bare: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "shop.dataset"
    write_dataset(bare, source)
    (source / "import.json").write_text("{}")
    dataset, report = assign_semantic_ids(read_dataset(source), SemanticIdOptions(dims=8))
    write_with_report(dataset, report, source, source, overwrite=True)
    assert read_dataset(source).levels == dataset.levels
    np.testing.assert_array_equal(read_dataset(source).items.paths, dataset.items.paths)
    assert json.loads((source / SEMANTIC_IDS_FILE).read_text()) == report
    assert (source / "import.json").exists()

    def fail(path: Path, value: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(files, "write_json", fail)
    other, _ = assign_semantic_ids(
        dataset, SemanticIdOptions(method="cooccurrence", dims=8), replace_ids=True
    )
    with pytest.raises(OSError, match="disk full"):
        write_with_report(other, report, source, source, overwrite=True)
    assert read_dataset(source).levels == dataset.levels
    assert [path.name for path in tmp_path.iterdir()] == ["shop.dataset"]
