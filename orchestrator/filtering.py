"""From the filter of a request to what is searched and what is returned."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestrator.bundles import Serving
from orchestrator.history import excludes_history
from orchestrator.query import Query
from specbeam.catalog import ItemFilter, LeafFilter, LeafSpec

# Ids up to this number are looked up on the event loop, in a fraction of a millisecond.
INLINE_ITEMS = 500


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """A compiled filter.

    Attributes:
        leaves: Which leaves are searched.
        allowed: Tells which of some item indices may be returned, as a mask; None = all.
    """

    leaves: LeafSpec
    allowed: Callable[[np.ndarray], np.ndarray] | None

    @property
    def kind(self) -> str:
        """What it does to the search: nothing, or which of its parts leaves the fewest items."""
        if self.leaves.allowed_leaves is not None:
            return "allow"
        if self.leaves.required_tags or self.leaves.created_after_ms is not None:
            return "conditions"
        return "exclude" if self.allowed is not None else ""


async def compile_filter(query: Query, serving: Serving, seen_items: np.ndarray) -> RequestFilter:
    """Return the filter of a request.

    What takes long (conditions not met before, long lists of ids) is done in another thread.

    Args:
        query: The request; its tags are tags of the catalogue.
        serving: Its bundle.
        seen_items: Items of the history, left out if the request or the bundle says so. Shape (m,).
    """
    seen = seen_items if excludes_history(query, serving) else seen_items[:0]
    listed = len(seen) + len(query.exclude_item_ids) + len(query.allow_item_ids or ())
    cached = serving.filters.is_cached(query.required_tags, query.created_after_ms)
    if cached and listed <= INLINE_ITEMS:
        return _compile(query, serving, seen)
    return await asyncio.to_thread(_compile, query, serving, seen)


async def compile_leaves(leaves: LeafSpec, serving: Serving) -> LeafFilter | None:
    """Return the filter that drafters ask; None when everything is allowed.

    Args:
        leaves: Which leaves are searched; its conditions were met before.
        serving: The bundle.
    """
    listed = len(leaves.excluded_leaves) + len(
        () if leaves.allowed_leaves is None else leaves.allowed_leaves
    )
    if listed <= INLINE_ITEMS:
        return serving.filters.compile(leaves)
    return await asyncio.to_thread(serving.filters.compile, leaves)


def _compile(query: Query, serving: Serving, seen: np.ndarray) -> RequestFilter:
    wanted = ItemFilter(
        excluded_items=np.concatenate([seen, _known_items(serving, query.exclude_item_ids)]),
        allowed_items=(
            None if query.allow_item_ids is None else _known_items(serving, query.allow_item_ids)
        ),
        required_tags=query.required_tags,
        created_after_ms=query.created_after_ms,
    )
    if wanted.allowed_items is None and not (
        len(wanted.excluded_items) or wanted.required_tags or wanted.created_after_ms is not None
    ):
        return RequestFilter(LeafSpec(), None)
    filters = serving.filters
    return RequestFilter(filters.resolve(wanted), lambda items: filters.allowed(wanted, items))


def _known_items(serving: Serving, item_ids: tuple[str, ...]) -> np.ndarray:
    items = serving.trie.index_of(item_ids)
    known: np.ndarray = items[items >= 0]
    return known
