"""Which nodes need no row, on the host: their next step is known without the model."""

from __future__ import annotations

import numpy as np

from specbeam.catalog import PAD, ItemTrie, LeafFilter


def alive_children(
    trie: ItemTrie, level: int, nodes: np.ndarray, leaf_filter: LeafFilter | None
) -> np.ndarray:
    """Tell which children are there and allowed.

    Args:
        trie: the catalogue.
        level: level of `nodes`, 0 .. L - 1.
        nodes: node numbers, any order.  Shape (n,).
        leaf_filter: the request's filter; None = everything is allowed.

    Returns:
        Shape (n, C_d), bool.
    """
    if leaf_filter is not None:
        return leaf_filter.alive_children(trie, level, nodes)
    above = trie.levels[level]
    sizes = above.first_child_of(nodes + 1) - above.first_child_of(nodes)
    there: np.ndarray = np.arange(above.max_children) < sizes[:, None]
    return there


def needs_row(
    trie: ItemTrie,
    score_kind: str,
    level: int,
    nodes: np.ndarray,
    leaf_filter: LeafFilter | None = None,
) -> np.ndarray:
    """Tell which nodes are not free.

    An item that has ended goes on with padding at log-probability 0; under TRIE a node with one
    allowed child gives it all mass.

    Args:
        trie: the catalogue.
        score_kind: VOCAB, LEVEL or TRIE.
        level: level of `nodes`, 0 .. L - 1.
        nodes: node numbers, any order.  Shape (n,).
        leaf_filter: the request's filter; None = everything is allowed.

    Returns:
        Shape (n,), bool.
    """
    if score_kind != "TRIE" and not trie.has_padding:
        return np.ones(len(nodes), bool)
    above, below = trie.levels[level], trie.levels[level + 1]
    first = above.first_child_of(nodes)
    if score_kind != "TRIE":
        going_on: np.ndarray = below.tokens_of(first) != PAD
        return going_on
    if leaf_filter is not None:
        several: np.ndarray = leaf_filter.alive_children(trie, level, nodes).sum(axis=1) > 1
        return several
    several = above.first_child_of(nodes + 1) - first > 1
    return several
