"""From exact leaf beams to ordered items."""

from __future__ import annotations

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
    """

    items: np.ndarray
    scores: np.ndarray
    leaves: np.ndarray
    exhausted: bool


def rank_items(
    trie: ItemTrie,
    leaves: np.ndarray,
    scores: np.ndarray,
    num_items: int,
    excluded_items: np.ndarray | None = None,
) -> RankedItems:
    """Order leaves by (score descending, path ascending) and unfold each into its allowed items.

    Args:
        trie: the catalogue.
        leaves: distinct leaf numbers.  Shape (W,).
        scores: cumulative log-probability of each leaf.  Shape (W,), float64.
        num_items: K, items wanted; K counts items, not leaves.
        excluded_items: item indices that must not be returned.
    """
    order = np.lexsort((leaves, -scores))
    leaves, scores = np.asarray(leaves)[order], np.asarray(scores)[order]
    first = np.asarray(trie.leaf_items)[leaves]
    sizes = np.asarray(trie.leaf_items)[leaves + 1] - first
    starts = np.cumsum(sizes) - sizes
    row = np.repeat(np.arange(len(leaves)), sizes)
    items = first[row] + np.arange(len(row)) - starts[row]
    if excluded_items is not None and len(excluded_items):
        allowed = ~np.isin(items, excluded_items)
        items, row = items[allowed], row[allowed]
    items, row = items[:num_items], row[:num_items]
    return RankedItems(items, scores[row], leaves[row], exhausted=len(items) < num_items)
