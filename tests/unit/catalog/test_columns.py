"""Sparse columns answer what dense ones do."""

from __future__ import annotations

import numpy as np
import pytest

from specbeam.catalog import columns
from specbeam.catalog.columns import (
    PAD,
    DenseRanges,
    SparseRanges,
    load_ranges,
    load_tokens,
    make_ranges,
    make_tokens,
)


@pytest.mark.parametrize("seed", range(30))
def test_sparse_ranges_equal_dense_ones(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "_DENSE_BELOW", 0)
    rng = np.random.default_rng(seed)
    sizes = np.where(rng.random(200) < 0.2 * (seed % 2), rng.integers(2, 9, 200), 1)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    sparse, dense = make_ranges(starts), DenseRanges(starts.astype(np.int32))
    assert isinstance(sparse, SparseRanges)
    every = np.arange(len(starts))
    np.testing.assert_array_equal(sparse.start(every), dense.start(every))
    members = np.arange(starts[-1])
    np.testing.assert_array_equal(sparse.locate(members), dense.locate(members))
    np.testing.assert_array_equal(sparse.locate(members), np.repeat(every[:-1], sizes))
    arrays = {f"x{suffix}": array for suffix, array in sparse.arrays().items()}
    again = load_ranges(arrays, "x", len(sparse))
    np.testing.assert_array_equal(again.start(every), starts)
    assert len(again) == len(dense) == 200


@pytest.mark.parametrize("padding", [0.0, 0.3, 0.9, 0.99])
@pytest.mark.parametrize("spread", [10, 65_535, 70_000, 2**30])
def test_token_columns_give_the_tokens_back(padding: float, spread: int) -> None:
    rng = np.random.default_rng(spread % 97)
    tokens = rng.integers(5, 5 + spread, 3_000)
    tokens[:2] = [5, 4 + spread]
    tokens[rng.random(3_000) < padding] = PAD
    column = make_tokens(tokens)
    arrays = {f"t{suffix}": array for suffix, array in column.arrays().items()}
    for one in (column, load_tokens(arrays, "t", 3_000)):
        nodes = rng.integers(0, 3_000, (40, 7))
        np.testing.assert_array_equal(one.at(nodes), tokens[nodes])
        np.testing.assert_array_equal(one.distinct(), np.unique(tokens[tokens != PAD]))
        assert one.has_padding == (padding > 0)
        assert one.at(np.arange(3)).dtype == np.int32


def test_a_chain_of_single_children_costs_its_tokens_alone() -> None:
    count = 1 << 17
    ranges = make_ranges(np.arange(count + 1))
    assert sum(array.nbytes for array in ranges.arrays().values()) <= 8
    tokens = make_tokens(np.arange(count) % 30_000)
    assert sum(array.nbytes for array in tokens.arrays().values()) <= 2 * count + 16
