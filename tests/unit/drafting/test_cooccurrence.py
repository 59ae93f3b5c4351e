"""The co-occurrence drafter against a loop over dictionaries, and what it refuses to load."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from specbeam.bundle import BundleError
from specbeam.bundle.neighbours import (
    FILE,
    NeighbourTable,
    load_neighbours,
    quantised,
    save_neighbours,
)
from specbeam.bundle.rewriting import with_drafter
from specbeam.catalog import ItemTrie
from specbeam.catalog.array_file import content_hash, load_arrays, save_arrays
from specbeam.decoding.beams import Beams
from specbeam.drafting.question import DraftQuestion
from specbeam.drafting.sources.cooccurrence import (
    PRIOR_WEIGHT,
    RECENCY_DECAY,
    RECENT_ITEMS,
    CooccurrenceDrafter,
    latest_items,
)
from tests.bundles import tiny_bundle
from tests.exactness.catalogues import MAKERS
from tests.exactness.requests import FILTER_COMBINATIONS
from tests.unit.drafting.slow_mass import SlowMass, some_nodes

Neighbours = dict[int, list[tuple[int, float]]]


def random_neighbours(num_items: int, rng: np.random.Generator, most: int = 5) -> Neighbours:
    """A few neighbours of every item; some items have none."""
    return {
        item: [(int(rng.integers(num_items)), float(rng.random())) for _ in range(int(size))]
        for item, size in enumerate(rng.integers(0, most + 1, num_items))
    }


def table_of(neighbours: Neighbours) -> NeighbourTable:
    entries = [entry for item in sorted(neighbours) for entry in neighbours[item]]
    sizes = [len(neighbours[item]) for item in sorted(neighbours)]
    return NeighbourTable(
        np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]),
        np.array([item for item, _ in entries], np.int32),
        quantised(np.array([weight for _, weight in entries])),
    )


def slow_weights(
    slow: SlowMass, neighbours: Neighbours, history: list[int], leaves: set[int] | None
) -> dict[str, float]:
    """Weight of every item by a loop; `leaves`: those that may be returned."""
    names = [slow.trie.item_id(item) for item in range(slow.trie.num_items)]
    popular = {name: slow.catalogue.items[name].popularity + 1.0 for name in names}
    total = sum(popular.values())
    weights = {name: PRIOR_WEIGHT * popular[name] / total for name in names}
    latest = list(dict.fromkeys(reversed(history)))[:RECENT_ITEMS]
    for age, item in enumerate(latest):
        for other, weight in neighbours[item]:
            leaf = int(slow.trie.leaves_of(np.array([other]))[0])
            if leaves is None or leaf in leaves:
                stored = max(1, round(weight * 65535)) / 65535
                weights[names[other]] += stored * RECENCY_DECAY**age
    return weights


@pytest.mark.parametrize("maker", range(len(MAKERS)))
@pytest.mark.parametrize("seed", range(4))
def test_scores_agree_with_a_loop(maker: int, seed: int) -> None:
    slow, rng = SlowMass.make(maker, seed), np.random.default_rng([seed, 47])
    neighbours = random_neighbours(slow.trie.num_items, rng)
    history = rng.integers(0, slow.trie.num_items, int(rng.integers(1, 30)))
    request = slow.request(seed, FILTER_COMBINATIONS[int(rng.integers(len(FILTER_COMBINATIONS)))])
    leaf_filter = slow.compiled(request)
    question = DraftQuestion(slow.trie, Beams.root(), 5, history, leaf_filter)
    scorer = CooccurrenceDrafter(slow.trie, table_of(neighbours)).scorer(question)
    admitted = slow.trie.index_of(sorted(request.admitted))
    leaves = set(slow.trie.leaves_of(admitted).tolist())
    weights = slow_weights(slow, neighbours, history.tolist(), leaves)
    if scorer is None:
        assert weights == slow_weights(slow, neighbours, [], None)
        return
    for level in range(slow.depth):
        nodes = some_nodes(slow.trie, level, rng)
        want = slow.child_logprobs(level, nodes, weights, request.admitted)
        np.testing.assert_allclose(scorer(level, nodes), want, atol=1e-9)


def test_most_random_cases_have_a_scorer() -> None:
    """Or the comparison above would say little."""
    slow, rng = SlowMass.make(4, 0), np.random.default_rng(0)
    drafter = CooccurrenceDrafter(slow.trie, table_of(random_neighbours(slow.trie.num_items, rng)))
    history = np.arange(slow.trie.num_items)
    assert drafter.scorer(DraftQuestion(slow.trie, Beams.root(), 5, history)) is not None


def test_the_latest_distinct_items_come_first() -> None:
    assert latest_items(np.array([1, 2, 3, 2, 9, 9, 1]), 3).tolist() == [1, 9, 2]
    assert latest_items(np.array([5, 5]), 3).tolist() == [5]
    assert latest_items(np.zeros(0, np.int64), 3).tolist() == []


@pytest.mark.parametrize("history", [[], [0]])
def test_without_neighbours_nothing_is_known(history: list[int]) -> None:
    trie = ItemTrie.build(np.array([[3, 4], [6, 7]]), ["a", "b"])
    drafter = CooccurrenceDrafter(trie, table_of({0: [], 1: [(0, 0.5)]}))
    asked = DraftQuestion(trie, Beams.root(), 5, np.array(history, np.int64))
    assert drafter.scorer(asked) is None


def test_a_newer_item_says_more() -> None:
    trie = ItemTrie.build(np.array([[3], [4], [5], [6]]), list("abcd"))
    drafter = CooccurrenceDrafter(trie, table_of({0: [(2, 1.0)], 1: [(3, 1.0)], 2: [], 3: []}))
    scorer = drafter.scorer(DraftQuestion(trie, Beams.root(), 5, np.array([0, 1])))
    assert scorer is not None
    shares = np.exp(scorer(0, np.array([0])))[0] * (PRIOR_WEIGHT + 1 + RECENCY_DECAY)
    prior = PRIOR_WEIGHT / 4
    np.testing.assert_allclose(shares, [prior, prior, prior + RECENCY_DECAY, prior + 1])


# ---- the file --------------------------------------------------------------------------------


@pytest.fixture
def trie() -> ItemTrie:
    return tiny_bundle().trie


@pytest.fixture
def folder(tmp_path: Path, trie: ItemTrie) -> Path:
    table = table_of(random_neighbours(trie.num_items, np.random.default_rng(3)))
    save_neighbours(table, tmp_path / "co", trie, {"window": 5})
    return tmp_path / "co"


def rewritten(folder: Path, **changes: np.ndarray) -> None:
    """Write other arrays under a hash that fits them."""
    arrays, metadata = load_arrays(folder / FILE)
    arrays = {name: np.array(array) for name, array in arrays.items()} | changes
    save_arrays(folder / FILE, arrays, metadata | {"fingerprint": content_hash(arrays)})


def test_a_saved_table_is_mapped_again(folder: Path, trie: ItemTrie) -> None:
    table = load_neighbours(folder, trie)
    want = table_of(random_neighbours(trie.num_items, np.random.default_rng(3)))
    for name, array in want.arrays().items():
        np.testing.assert_array_equal(table.arrays()[name], array)
    assert not table.items.flags.writeable
    description = json.loads((folder / "drafter.json").read_text())
    assert description["kind"] == "cooccurrence"
    assert (description["catalog"], description["window"]) == (trie.fingerprint, 5)


def test_one_flipped_byte_is_noticed(folder: Path, trie: ItemTrie) -> None:
    data = bytearray((folder / FILE).read_bytes())
    data[-1] ^= 1
    (folder / FILE).write_bytes(bytes(data))
    with pytest.raises(BundleError, match="damaged"):
        load_neighbours(folder, trie)


def test_a_missing_or_cut_file_is_named(folder: Path, trie: ItemTrie) -> None:
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[:-8])
    with pytest.raises(BundleError, match=r"drafters/co/neighbours\.safetensors"):
        load_neighbours(folder, trie)
    (folder / FILE).unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        load_neighbours(folder, trie)


def test_a_table_of_another_catalogue_is_refused(folder: Path) -> None:
    with pytest.raises(BundleError, match="another catalogue"):
        load_neighbours(folder, tiny_bundle(num_items=40).trie)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("offsets", np.zeros(3, np.int64), "a table of 2 items"),
        ("offsets", None, "offsets do not fit"),
        ("items", None, "not in the catalogue"),
        ("weights", np.zeros(1, np.uint16), "not in the catalogue"),
        ("more", np.zeros(1, np.uint16), "other arrays"),
    ],
)
def test_a_table_that_would_fail_later_is_refused(
    folder: Path, trie: ItemTrie, name: str, value: np.ndarray | None, message: str
) -> None:
    if value is None:
        value = load_arrays(folder / FILE)[0][name].copy()
        value[3] = 10**6
    rewritten(folder, **{name: value})
    with pytest.raises(BundleError, match=message):
        load_neighbours(folder, trie)


def test_another_format_is_refused(folder: Path, trie: ItemTrie) -> None:
    arrays, metadata = load_arrays(folder / FILE)
    save_arrays(folder / FILE, dict(arrays), metadata | {"format": "specbeam-neighbours-9"})
    with pytest.raises(BundleError, match="specbeam-neighbours-9"):
        load_neighbours(folder, trie)


def test_it_is_found_by_its_kind_in_a_bundle(folder: Path, tmp_path: Path) -> None:
    assert CooccurrenceDrafter.load(tiny_bundle()) is None
    bundle = with_drafter(tiny_bundle(), tmp_path / "new", "neighbours", folder)
    drafter = CooccurrenceDrafter.load(bundle)
    assert drafter is not None and drafter.name == "cooccurrence"
    history = np.arange(bundle.trie.num_items)
    assert drafter.scorer(DraftQuestion(bundle.trie, Beams.root(), 5, history)) is not None
