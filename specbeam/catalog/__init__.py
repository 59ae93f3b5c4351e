"""Semantic IDs, the leaf-interval trie over them, and item filters.  numpy only.

Symbols used in every docstring of the package: N items, L tokens per item, V_d nodes on trie level
d (level 0 is the root, level L the leaves).
"""

from specbeam.catalog.errors import CatalogError
from specbeam.catalog.filters import (
    LeafFilter,
    compile_exclusions,
    excluded_leaves,
    filter_from_leaves,
)
from specbeam.catalog.ranking import RankedItems, rank_items
from specbeam.catalog.trie import ItemTrie, TrieLevel

__all__ = [
    "CatalogError",
    "ItemTrie",
    "LeafFilter",
    "RankedItems",
    "TrieLevel",
    "compile_exclusions",
    "excluded_leaves",
    "filter_from_leaves",
    "rank_items",
]
