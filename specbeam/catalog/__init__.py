"""Semantic IDs, the leaf-interval trie over them, and item filters.  numpy only.

Symbols used in every docstring of the package: N items, L tokens of the longest item, V_d nodes on
trie level d (level 0 is the root, level L the leaves), C_d largest number of children on level d, R
rows asked about at once.
"""

from specbeam.catalog.build import FRESHNESS_BUCKET_MS, MAX_DEPTH, pad_paths
from specbeam.catalog.columns import PAD
from specbeam.catalog.errors import CatalogError, UnknownTagError
from specbeam.catalog.filters import FilterCompiler, ItemFilter, LeafSpec
from specbeam.catalog.leaf_filter import FilterBatch, LeafFilter
from specbeam.catalog.ranking import RankedItems, rank_items
from specbeam.catalog.trie import ItemTrie, TrieLevel

__all__ = [
    "FRESHNESS_BUCKET_MS",
    "MAX_DEPTH",
    "PAD",
    "CatalogError",
    "FilterBatch",
    "FilterCompiler",
    "ItemFilter",
    "ItemTrie",
    "LeafFilter",
    "LeafSpec",
    "RankedItems",
    "TrieLevel",
    "UnknownTagError",
    "pad_paths",
    "rank_items",
]
