"""The history behind one request."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from orchestrator.bundles import Serving
from orchestrator.flags import Flag
from orchestrator.pool import TreePool
from orchestrator.query import TENANT, Query
from specbeam.catalog import ItemTrie
from specbeam.drafting.verified import VerifiedTree
from specbeam.runtime.deadlines import CallBudget
from specbeam.runtime.errors import DeadlineSpent, InvalidRequest, StoreUnavailable, Violation
from specbeam.storage import Event, History, PooledTree, StateStore, pool_keys

# Of the time left; the search needs the rest.
STORE_SHARE = 0.5
# A store that was given less time than this and did not answer is not to blame: the deadline is.
MIN_STORE_S = 0.02
# Where only the pool is read, which takes a millisecond: a busy event loop may be this late, and a
# store that does not answer costs no more, a few times a second at most (see the breaker).
POOL_TIMEOUT_S = 0.2
MAX_LISTED = 100


@dataclass(frozen=True, slots=True)
class RequestHistory:
    """What one request knows about the user.

    Attributes:
        prompt_items: Item indices for the prompt, oldest first. Shape (n,).
        seen_items: Item indices that exclude_history leaves out. Shape (m,).
        flags: What was not as usual.
        pool: Verified trees of earlier requests, most alike first.
    """

    prompt_items: np.ndarray
    seen_items: np.ndarray
    flags: tuple[Flag, ...]
    pool: tuple[VerifiedTree, ...] = ()


async def load_history(
    store: StateStore,
    query: Query,
    serving: Serving,
    budget: CallBudget,
    limit: int,
    pool: TreePool | None = None,
) -> RequestHistory:
    """Return the history that a request is answered from, and what the pool has for it.

    Inline events replace the stored history in the prompt; what the user has seen is both.  History
    and pool are one read.

    Args:
        store: The store.
        query: The request.
        serving: Its bundle.
        budget: Time left for the request.
        limit: Most stored events to read.
        pool: The tree pool; None = do not read it.

    Raises:
        InvalidRequest: Inline items that the catalogue does not know.
        StoreUnavailable: The stored history is needed and cannot be read.
        DeadlineSpent: There was no time to read it.
    """
    flags: list[Flag] = []
    inline = _known_inline(query.events, serving.trie)
    read = await _read(store, query, serving, budget, limit, pool, flags)
    stored = serving.trie.index_of(read.item_ids)
    known = stored[stored >= 0]
    prompt_items = inline if query.events else known
    if not query.events and len(known) < len(stored):
        flags.append(Flag.UNKNOWN_HISTORY_ITEMS_SKIPPED)
    if not len(prompt_items):
        flags.append(Flag.EMPTY_HISTORY)
    trees = () if pool is None else pool.decode(read.trees, serving.trie)
    return RequestHistory(prompt_items, np.concatenate([inline, known]), tuple(flags), trees)


def excludes_history(query: Query, serving: Serving) -> bool:
    """Return whether seen items are left out."""
    if query.exclude_history is None:
        return serving.bundle.manifest.exclude_history
    return query.exclude_history


def unknown_items(field: str, item_ids: Sequence[str], positions: np.ndarray) -> InvalidRequest:
    """Return the error that lists unknown items.

    Args:
        field: Name of the repeated field.
        item_ids: All ids of the field.
        positions: Positions of the unknown ones.
    """
    violations = [
        Violation(f"{field}[{at}].item_id", f"{item_ids[at]!r} is not in the catalogue")
        for at in positions.tolist()
    ]
    return InvalidRequest(
        violations,
        None if len(violations) == 1 else f"{len(violations)} unknown item ids",
        metadata={"unknown_item_ids": ",".join(item_ids[at] for at in positions[:MAX_LISTED])},
    )


def _known_inline(events: Sequence[Event], trie: ItemTrie) -> np.ndarray:
    item_ids = [event.item_id for event in events]
    items = trie.index_of(item_ids)
    if (items < 0).any():
        raise unknown_items("events", item_ids, np.flatnonzero(items < 0))
    return items


@dataclass(frozen=True, slots=True)
class _Read:
    """What the store gave: items oldest first, and trees of the pool."""

    item_ids: tuple[str, ...] = ()
    trees: tuple[PooledTree, ...] = ()


async def _read(
    store: StateStore,
    query: Query,
    serving: Serving,
    budget: CallBudget,
    limit: int,
    pool: TreePool | None,
    flags: list[Flag],
) -> _Read:
    """Read what the request needs, in one round trip."""
    wanted = not query.events or excludes_history(query, serving)
    needs_history = bool(query.user_id) and wanted
    keys = pool_keys([event.item_id for event in query.events]) if query.events else None
    if not needs_history:
        return await _read_pool(store, query, serving, keys or (), pool, flags)
    allowed_s = STORE_SHARE * budget.for_call()
    try:
        async with asyncio.timeout(allowed_s):
            if pool is None:
                return _of(await store.read(TENANT, query.user_id, limit), ())
            scope = pool.scope(serving)
            return _of(
                *await store.read_with_pool(TENANT, query.user_id, limit, scope, keys, pool.trees)
            )
    except (StoreUnavailable, TimeoutError) as error:
        if not query.events and not query.allow_no_history:
            if isinstance(error, TimeoutError) and allowed_s < MIN_STORE_S:
                raise DeadlineSpent() from error
            raise StoreUnavailable() from error
        flags.append(Flag.NO_HISTORY)
        return _Read()


async def _read_pool(
    store: StateStore,
    query: Query,
    serving: Serving,
    keys: Sequence[str],
    pool: TreePool | None,
    flags: list[Flag],
) -> _Read:
    """Read trees alone: they only save time, so hardly any is spent on them."""
    if pool is None:
        return _Read()
    if not pool.breaker.allow():
        flags.append(Flag.NO_POOL)
        return _Read()
    try:
        async with asyncio.timeout(POOL_TIMEOUT_S):
            trees = await store.read_trees(pool.scope(serving), query.user_id, keys, pool.trees)
    except (StoreUnavailable, TimeoutError):
        pool.breaker.failed()
        flags.append(Flag.NO_POOL)
        return _Read()
    except BaseException:
        pool.breaker.abandoned()
        raise
    pool.breaker.succeeded()
    return _Read(trees=trees)


def _of(history: History, trees: tuple[PooledTree, ...]) -> _Read:
    return _Read(tuple(event.item_id for event in history.events), trees)
