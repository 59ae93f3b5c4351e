"""The table of the co-occurrence drafter against counting with dictionaries."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle.neighbours import NeighbourTable, load_neighbours
from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset
from specbeam.training.drafters import cooccurrence
from specbeam.training.drafters.cooccurrence import CooccurrenceSettings, build_cooccurrence
from specbeam.training.errors import TrainingError


@pytest.fixture
def trie(small_dataset: Dataset) -> ItemTrie:
    items = small_dataset.items
    return ItemTrie.build(items.paths, items.item_ids, items.popularity)


def slow_table(dataset: Dataset, settings: CooccurrenceSettings) -> dict[str, dict[str, float]]:
    """All neighbours of every item, user by user and pair by pair."""
    counts: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    for history in dataset.histories("train"):
        items = history.tolist()
        for place, one in enumerate(items):
            for distance in range(1, settings.window + 1):
                for other in (place - distance, place + distance):
                    if 0 <= other < len(items) and items[other] != one:
                        counts[one][items[other]] += 1 / distance
    ids = dataset.items.item_ids
    return {
        ids[one]: {
            ids[two]: count / (sum(row.values()) + settings.half_evidence)
            for two, count in row.items()
        }
        for one, row in counts.items()
    }


def by_id(table: NeighbourTable, trie: ItemTrie) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for item in range(trie.num_items):
        _, others, weights = table.of(np.array([item]))
        if len(others):
            names = [trie.item_id(other) for other in others.tolist()]
            found[trie.item_id(item)] = dict(zip(names, weights.tolist(), strict=True))
    return found


@pytest.mark.parametrize("window", [1, 3, 50])
@pytest.mark.parametrize("block", [1, 40, 10**6])
def test_neighbours_are_those_of_a_loop(
    small_dataset: Dataset,
    trie: ItemTrie,
    tmp_path: Path,
    window: int,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_EVENTS", block)
    settings = CooccurrenceSettings(neighbours=1000, window=window, half_evidence=3.0)
    report = build_cooccurrence(small_dataset, trie, tmp_path / "co", settings)
    got = by_id(load_neighbours(tmp_path / "co", trie), trie)
    want = slow_table(small_dataset, settings)
    assert {one: set(row) for one, row in got.items()} == {o: set(r) for o, r in want.items()}
    for one, row in want.items():
        for two, weight in row.items():
            assert got[one][two] == pytest.approx(weight, abs=1 / 65535)
    assert report["entries"] == sum(map(len, want.values()))
    assert report["items_with_neighbours"] == len(want)
    assert report["events"] == small_dataset.counts()["train"]


def test_the_strongest_neighbours_are_kept(
    small_dataset: Dataset, trie: ItemTrie, tmp_path: Path
) -> None:
    settings = CooccurrenceSettings(neighbours=4)
    build_cooccurrence(small_dataset, trie, tmp_path / "co", settings)
    got = by_id(load_neighbours(tmp_path / "co", trie), trie)
    for one, row in slow_table(small_dataset, settings).items():
        best = sorted(row.values(), reverse=True)[:4]
        np.testing.assert_allclose(sorted(got[one].values(), reverse=True), best, atol=1 / 65535)


def test_only_the_train_split_is_counted(
    small_dataset: Dataset, trie: ItemTrie, tmp_path: Path
) -> None:
    log = small_dataset.interactions
    assert (log.split > 0).any()
    train = replace(
        log,
        user=log.user[log.split == 0],
        item=log.item[log.split == 0],
        time=log.time[log.split == 0],
        split=log.split[log.split == 0],
    )
    build_cooccurrence(small_dataset, trie, tmp_path / "all")
    build_cooccurrence(replace(small_dataset, interactions=train), trie, tmp_path / "train")
    tables = [load_neighbours(tmp_path / name, trie) for name in ("all", "train")]
    assert by_id(tables[0], trie) == by_id(tables[1], trie)


def test_a_catalogue_may_have_more_items_but_not_fewer(
    small_dataset: Dataset, trie: ItemTrie, tmp_path: Path
) -> None:
    items = small_dataset.items
    paths = np.concatenate([items.paths, items.paths[:1]])
    larger = ItemTrie.build(paths, [*items.item_ids, "new"])
    build_cooccurrence(small_dataset, larger, tmp_path / "co")
    got = by_id(load_neighbours(tmp_path / "co", larger), larger)
    assert "new" not in got
    build_cooccurrence(small_dataset, trie, tmp_path / "same")
    assert got == by_id(load_neighbours(tmp_path / "same", trie), trie)
    smaller = ItemTrie.build(items.paths[2:], items.item_ids[2:])
    with pytest.raises(TrainingError, match=r"2 of 160 items of dataset .* are not in the bundle"):
        build_cooccurrence(small_dataset, smaller, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_progress_ends_with_everything(
    small_dataset: Dataset, trie: ItemTrie, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_EVENTS", 50)
    told: list[float] = []
    build_cooccurrence(small_dataset, trie, tmp_path / "co", on_progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0 and len(told) > 3


def test_an_item_taken_twice_is_no_neighbour_of_itself(
    small_dataset: Dataset, trie: ItemTrie, tmp_path: Path
) -> None:
    log = small_dataset.interactions
    # Every other event repeats the one before it.
    item = np.repeat(log.item[::2], 2)[: len(log.item)]
    repeated = replace(small_dataset, interactions=replace(log, item=item))
    settings = CooccurrenceSettings(neighbours=1000, half_evidence=3.0)
    build_cooccurrence(repeated, trie, tmp_path / "co", settings)
    got = by_id(load_neighbours(tmp_path / "co", trie), trie)
    want = slow_table(repeated, settings)
    assert {one: set(row) for one, row in got.items()} == {o: set(r) for o, r in want.items()}
    assert not any(one in row for one, row in got.items())
    for one, row in want.items():
        assert sum(got[one].values()) == pytest.approx(sum(row.values()), abs=1e-3)


@pytest.mark.parametrize("block", [1, 7, 30, 10**6])
def test_blocks_hold_every_event_once_and_few_at_a_time(
    block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cooccurrence, "BLOCK_EVENTS", block)
    item = np.random.default_rng(0).integers(0, 20, 100).astype(np.int32)
    item[item == 3] = 4
    blocks = list(cooccurrence._blocks(item, 25))
    assert [low for low, _, _ in blocks] == [0, *(high for _, high, _ in blocks[:-1])]
    assert blocks[-1][1] == 25
    assert sorted(np.concatenate([chosen for _, _, chosen in blocks])) == list(range(100))
    for low, high, chosen in blocks:
        assert ((item[chosen] >= low) & (item[chosen] < high)).all()
        assert len(chosen) <= block or high == low + 1
