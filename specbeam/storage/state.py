"""Histories and the tree pool behind one object."""

from collections.abc import Sequence
from typing import Protocol

from specbeam.storage.history import History, HistoryStore
from specbeam.storage.tree_pool import BatchingTreePool, PooledTree, PoolScope, TreePoolStore


class StateStore(HistoryStore, TreePoolStore, BatchingTreePool, Protocol):
    """A history store and a tree pool in one place; `delete` removes a user from both."""

    async def read_with_pool(
        self,
        tenant: str,
        user_id: str,
        limit: int,
        scope: PoolScope,
        keys: Sequence[str] | None,
        pool_limit: int,
    ) -> tuple[History, tuple[PooledTree, ...]]:
        """Return a history and the trees that fit it, in one round trip.

        Trees that cannot be read are left out and logged; only a history that cannot be read
        raises.

        Args:
            tenant: Owner of the user.
            user_id: The user; an empty one has no history.
            limit: Most events to return.
            scope: Where to look for trees; of the same tenant.
            keys: As in `read_trees`; None for `pool_keys` of the stored history's last events.
            pool_limit: Most trees to return.

        Raises:
            StoreUnavailable: The store is out of reach or broken.
        """
