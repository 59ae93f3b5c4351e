"""Where user histories and the tree pool are kept: Redis, or a file behind the same interface."""

from specbeam.storage.history import AppendResult, Event, History, HistoryStore
from specbeam.storage.opening import open_state_store
from specbeam.storage.state import StateStore
from specbeam.storage.tree_pool import (
    BatchingTreePool,
    PooledTree,
    PoolLimits,
    PoolScope,
    PoolStatistics,
    PoolWrite,
    TreePoolStore,
    pool_keys,
)

__all__ = [
    "AppendResult",
    "BatchingTreePool",
    "Event",
    "History",
    "HistoryStore",
    "PoolLimits",
    "PoolScope",
    "PoolStatistics",
    "PoolWrite",
    "PooledTree",
    "StateStore",
    "TreePoolStore",
    "open_state_store",
    "pool_keys",
]
