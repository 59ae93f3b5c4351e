import itertools
import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from specbeam.training.data.dataset import Dataset
from specbeam.training.semantic_ids.paths import Int32Array, prefix_numbers, ranks_in_groups
from specbeam.training.semantic_ids.quality import (
    collision_counts,
    consecutive_pairs,
    level_usage,
    prefix_lift,
    prefix_tree,
)


@pytest.fixture
def codes() -> Int32Array:
    return np.random.default_rng(5).integers(0, 6, (200, 3)).astype(np.int32)


def test_prefixes_are_numbered_in_lexicographic_order(codes: Int32Array) -> None:
    for length, numbers in enumerate(prefix_numbers(codes), start=1):
        rows = [tuple(row) for row in codes[:, :length].tolist()]
        order = {row: number for number, row in enumerate(sorted(set(rows)))}
        assert numbers.tolist() == [order[row] for row in rows]


def test_ranks_count_within_groups_in_the_given_order() -> None:
    groups = np.array([1, 0, 1, 1, 0])
    order = np.array([4, 1, 3, 0, 2])
    assert ranks_in_groups(groups, order).tolist() == [1, 1, 2, 0, 0]


def test_collisions_are_items_with_equal_paths(codes: Int32Array) -> None:
    groups = [n for n in Counter(map(tuple, codes.tolist())).values() if n > 1]
    expected = {"groups": len(groups), "items": sum(groups), "largest": max(groups)}
    assert collision_counts(codes) == expected
    assert collision_counts(np.array([[0], [1]], np.int32))["largest"] == 1


def test_usage_of_a_level(codes: Int32Array) -> None:
    even = level_usage(np.array([[0], [1], [3], [3], [1], [0]], np.int32))[0]
    assert even == {
        "size": 4,
        "used": 3,
        "perplexity": 3.0,
        "balance": 1.0,
        "largest_share": 0.3333,
    }
    for column, entry in zip(codes.T.tolist(), level_usage(codes), strict=True):
        shares = [n / len(column) for n in Counter(column).values()]
        expected = math.exp(-sum(share * math.log(share) for share in shares))
        assert entry["perplexity"] == pytest.approx(expected, abs=0.01)


def test_tree_counts_distinct_children(codes: Int32Array) -> None:
    tree = prefix_tree(codes)
    assert [entry["length"] for entry in tree] == [0, 1, 2]
    for entry in tree:
        children = defaultdict(set)
        for row in codes.tolist():
            children[tuple(row[: entry["length"]])].add(row[entry["length"]])
        sizes = [len(found) for found in children.values()]
        assert entry["prefixes"] == len(sizes)
        assert entry["children_max"] == max(sizes)
        assert entry["children_p50"] == np.percentile(sizes, 50)
        assert entry["children_p90"] == np.percentile(sizes, 90)


def test_shuffled_rate_is_that_of_all_pairs_of_different_items() -> None:
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1], [2, 2], [2, 2]], np.int32)
    left, right = np.array([0, 2, 4, 1, 5], np.int32), np.array([1, 3, 0, 2, 4], np.int32)
    entries = prefix_lift(codes, left, right)
    pairs = [(a, b) for a in left.tolist() for b in right.tolist() if a != b]
    for entry, column in zip(entries, prefix_numbers(codes), strict=True):
        rate = np.mean([column[a] == column[b] for a, b in pairs])
        shared = np.mean(column[left] == column[right])
        assert entry["shuffled"] == pytest.approx(rate, abs=1e-6)
        assert entry["shared"] == shared
        assert entry["lift"] == pytest.approx(shared / rate, abs=1e-3)
    assert prefix_lift(codes, left[:0], right[:0]) == []
    # Distinct paths: no two different items share one, shuffled or not.
    assert "lift" not in prefix_lift(codes[:5], left[:4], right[:4])[-1]


def test_train_pairs_stay_within_a_user_and_the_split(small_dataset: Dataset) -> None:
    expected = [
        (a, b)
        for history in small_dataset.histories("train")
        for a, b in itertools.pairwise(history.tolist())
        if a != b
    ]
    left, right = consecutive_pairs(small_dataset, "train")
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected


def test_valid_pairs_end_in_the_valid_split_and_are_seen_in_train(small_dataset: Dataset) -> None:
    train, valid = small_dataset.histories("train"), small_dataset.histories("valid")
    seen = {item for history in train for item in history.tolist()}
    expected = []
    for known, later in zip(train, valid, strict=True):
        history = known.tolist() + later.tolist()
        for place in range(max(len(known), 1), len(history)):
            a, b = history[place - 1], history[place]
            if a != b and a in seen and b in seen:
                expected.append((a, b))
    assert expected
    left, right = consecutive_pairs(small_dataset, "valid")
    assert list(zip(left.tolist(), right.tolist(), strict=True)) == expected
