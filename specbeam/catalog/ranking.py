"""From exact leaf beams to ordered items."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from specbeam.catalog.trie import ItemTrie


@dataclass(frozen=True, slots=True)
class RankedItems:
    """Items in the project's total order.

    Attributes:
        items: item indices.  Shape (n,), n <= K.
        scores: score of each item's leaf.  Shape (n,), float64.
        leaves: leaf of each item.  Shape (n,).
        exhausted: fewer than K items exist under the filter within the beams.
        rank_values: the values the items are ordered by.  Shape (n,), float64.
    """

    items: np.ndarray
    scores: np.ndarray
    leaves: np.ndarray
    exhausted: bool
    rank_values: np.ndarray


def rank_items(
    trie: ItemTrie,
    leaves: np.ndarray,
    scores: np.ndarray,
    num_items: int,
    allowed: Callable[[np.ndarray], np.ndarray] | None = None,
    rank_values: np.ndarray | None = None,
) -> RankedItems:
    """Order leaves by (rank value descending, path ascending); unfold each to its allowed items.

    Args:
        trie: the catalogue.
        leaves: distinct leaf numbers.  Shape (W,).
        scores: cumulative log-probability of each leaf.  Shape (W,), float64.
        num_items: K, items wanted; K counts items, not leaves.
        allowed: which of some item indices may be returned, as a mask; None = all.
        rank_values: the values leaves are ordered by; None = the scores.  Shape (W,), float64.
    """
    ranks = scores if rank_values is None else rank_values
    order = np.lexsort((leaves, -ranks))
    leaves, scores = np.asarray(leaves)[order], np.asarray(scores)[order]
    ranks = np.asarray(ranks)[order]
    first = np.asarray(trie.first_item_of(leaves), np.int64)
    sizes = trie.first_item_of(leaves + 1) - first
    starts = np.cumsum(sizes) - sizes
    row = np.repeat(np.arange(len(leaves)), sizes)
    items = first[row] + np.arange(len(row)) - starts[row]
    if allowed is not None:
        passes = allowed(items)
        items, row = items[passes], row[passes]
    items, row = items[:num_items], row[:num_items]
    exhausted = len(items) < num_items
    return RankedItems(items, scores[row], leaves[row], exhausted, ranks[row])
