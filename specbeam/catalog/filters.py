"""Request-time item filters on the static trie: from what a request asks to a compiled filter.

No index is rebuilt for a filter.  What depends on the catalogue alone (tags, freshness) is computed
once per set of conditions and kept; what depends on the request (exclusions, allow lists) is
propagated from a few leaves to the root.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from specbeam.catalog.build import FRESHNESS_BUCKET_MS
from specbeam.catalog.errors import UnknownTagError
from specbeam.catalog.leaf_filter import LeafFilter, NamedLeaves, dead_nodes, kept_nodes
from specbeam.catalog.trie import ItemTrie

_NOTHING = np.zeros(0, np.int64)

TagClauses = tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class ItemFilter:
    """What a request asks, in terms of items.  An item passes if every condition holds.

    Attributes:
        excluded_items: item indices that must not be returned, any order.  Shape (e,).
        allowed_items: the only item indices that may be returned, or None.  Shape (a,).
        required_tags: clauses; an item needs at least one tag of each.
        created_after_ms: the item is known to be created at or after this time, rounded up to a
            whole `FRESHNESS_BUCKET_MS`.
    """

    excluded_items: np.ndarray = field(default_factory=lambda: _NOTHING)
    allowed_items: np.ndarray | None = None
    required_tags: TagClauses = ()
    created_after_ms: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class LeafSpec:
    """The same in terms of leaves, as it travels between services.

    With an allow list every condition is folded into `allowed_leaves`.

    Attributes:
        excluded_leaves: leaves that must not be returned, ascending, distinct.
        allowed_leaves: the only leaves that may be returned, ascending, distinct; or None.
        required_tags: as in `ItemFilter`.
        created_after_ms: as in `ItemFilter`.
    """

    excluded_leaves: np.ndarray = field(default_factory=lambda: _NOTHING)
    allowed_leaves: np.ndarray | None = None
    required_tags: TagClauses = ()
    created_after_ms: int | None = None


class FilterCompiler:
    """Compiles filters of one catalogue; may be used by several threads."""

    def __init__(self, trie: ItemTrie, cache_bytes: int = 256 << 20) -> None:
        """Keep named filters of up to `cache_bytes`, the most recently used ones."""
        self._trie = trie
        self._cache_bytes = cache_bytes
        self._cache: OrderedDict[tuple[TagClauses, int | None], NamedLeaves] = OrderedDict()
        self._lock = threading.Lock()

    def resolve(self, wanted: ItemFilter) -> LeafSpec:
        """Return the leaves a filter on items comes down to.

        A leaf of several items is excluded when all its items that pass the other conditions are.

        Raises:
            UnknownTagError: a tag is on no item.
        """
        named = self.named(wanted.required_tags, wanted.created_after_ms)
        excluded = np.unique(np.asarray(wanted.excluded_items, np.int64))
        if wanted.allowed_items is not None:
            allowed = np.unique(np.asarray(wanted.allowed_items, np.int64))
            allowed = np.setdiff1d(allowed, excluded, assume_unique=True)
            if named is not None:
                allowed = allowed[named.items[allowed]]
            return LeafSpec(allowed_leaves=np.unique(self._trie.leaves_of(allowed)))
        leaves = self._emptied_leaves(excluded, named)
        return LeafSpec(leaves, None, wanted.required_tags, wanted.created_after_ms)

    def compile(self, spec: LeafSpec) -> LeafFilter | None:
        """Return the filter a search asks; None when everything is allowed.

        Raises:
            UnknownTagError: a tag is on no item.
        """
        named = self.named(spec.required_tags, spec.created_after_ms)
        counts = None if named is None else named.leaf_counts
        excluded = np.asarray(spec.excluded_leaves, np.int64)
        if counts is not None:
            excluded = excluded[counts[excluded + 1] > counts[excluded]]
        if spec.allowed_leaves is not None:
            allowed = np.asarray(spec.allowed_leaves, np.int64)
            if counts is not None:
                allowed = allowed[counts[allowed + 1] > counts[allowed]]
            allowed = np.setdiff1d(allowed, excluded, assume_unique=True)
            nobody = tuple(_NOTHING for _ in self._trie.levels)
            return LeafFilter(None, nobody, kept_nodes(self._trie, allowed))
        if named is None and not len(excluded):
            return None
        return LeafFilter(named, dead_nodes(self._trie, excluded, counts))

    def allowed(self, wanted: ItemFilter, items: np.ndarray) -> np.ndarray:
        """Tell which items pass.  Shape (n,), bool.

        Raises:
            UnknownTagError: a tag is on no item.
        """
        passes = ~np.isin(items, wanted.excluded_items)
        if wanted.allowed_items is not None:
            passes &= np.isin(items, wanted.allowed_items)
        named = self.named(wanted.required_tags, wanted.created_after_ms)
        if named is not None:
            passes &= named.items[items]
        return passes

    def named(self, tags: TagClauses, created_after_ms: int | None) -> NamedLeaves | None:
        """Return the items that pass tags and freshness; None when there is no such condition.

        Raises:
            UnknownTagError: a tag is on no item.
        """
        if not tags and created_after_ms is None:
            return None
        key = _cache_key(tags, created_after_ms)
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        found = self._compute(*key)
        with self._lock:
            self._cache[key] = found
            held = sum(one.size for one in self._cache.values())
            while held > self._cache_bytes and len(self._cache) > 1:
                held -= self._cache.popitem(last=False)[1].size
        return found

    def is_cached(self, tags: TagClauses, created_after_ms: int | None) -> bool:
        """Whether `named` would answer at once."""
        if not tags and created_after_ms is None:
            return True
        with self._lock:
            return _cache_key(tags, created_after_ms) in self._cache

    def _compute(self, clauses: TagClauses, bucket: int | None) -> NamedLeaves:
        trie = self._trie
        unknown = {name for clause in clauses for name in clause} - trie.tags.keys()
        if unknown:
            raise UnknownTagError(sorted(unknown))
        passes = np.ones(trie.num_items, bool)
        for clause in clauses:
            one_of = np.zeros(trie.num_items, bool)
            for name in clause:
                one_of[trie.tags[name]] = True
            passes &= one_of
        if bucket is not None:
            known = trie.created_bucket
            passes &= np.False_ if known is None else (known >= 0) & (known >= bucket)
        return NamedLeaves(passes, self._leaf_counts(passes))

    def _leaf_counts(self, passes: np.ndarray) -> np.ndarray:
        trie = self._trie
        leaf_passes = passes
        if trie.num_leaves < trie.num_items:
            first = trie.first_item_of(np.arange(trie.num_leaves))
            leaf_passes = np.logical_or.reduceat(passes, first)
        counts = np.zeros(trie.num_leaves + 1, np.int32)
        np.cumsum(leaf_passes, out=counts[1:], dtype=np.int32)
        return counts

    def _emptied_leaves(self, excluded: np.ndarray, named: NamedLeaves | None) -> np.ndarray:
        """Leaves that lose their last passing item to the excluded ones (distinct)."""
        if named is not None:
            excluded = excluded[named.items[excluded]]
        trie = self._trie
        leaves, counts = np.unique(trie.leaves_of(excluded), return_counts=True)
        first, end = trie.first_item_of(leaves), trie.first_item_of(leaves + 1)
        sizes = end - first
        if named is not None and len(leaves):
            starts = np.cumsum(sizes) - sizes
            items = np.repeat(first - starts, sizes) + np.arange(int(sizes.sum()))
            sizes = np.add.reduceat(named.items[items].astype(np.int64), starts)
        gone: np.ndarray = leaves[counts == sizes]
        return gone


def _cache_key(tags: TagClauses, created_after_ms: int | None) -> tuple[TagClauses, int | None]:
    """Conditions in one order, so that equal ones are found however they were written."""
    bucket = None if created_after_ms is None else -(-created_after_ms // FRESHNESS_BUCKET_MS)
    return tuple(sorted({tuple(sorted(set(clause))) for clause in tags})), bucket
