"""Choosing a state store by its URL."""

from specbeam.storage.embedded_database import MEMORY
from specbeam.storage.embedded_state import EmbeddedStateStore
from specbeam.storage.history import DEFAULT_MAX_EVENTS
from specbeam.storage.redis_state import RedisStateStore
from specbeam.storage.state import StateStore
from specbeam.storage.tree_pool import PoolLimits

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_state_store(
    url: str,
    *,
    max_events: int = DEFAULT_MAX_EVENTS,
    pool_limits: PoolLimits | None = None,
) -> StateStore:
    """Return the store a URL names; nothing is connected or opened yet.

    Args:
        url: ``redis://HOST:PORT/DB`` (also ``rediss://``, ``unix://``), ``sqlite:PATH``,
            or ``memory:`` for a store that ends with the process.
        max_events: Events kept per user.
        pool_limits: What the tree pool keeps; None for the defaults.

    Raises:
        ValueError: The URL names no store.
    """
    limits = pool_limits or PoolLimits()
    if url.startswith(_REDIS_SCHEMES):
        return RedisStateStore(url, max_events=max_events, pool_limits=limits)
    if url == "memory:":
        return EmbeddedStateStore(MEMORY, max_events=max_events, pool_limits=limits)
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and path:
        return EmbeddedStateStore(path, max_events=max_events, pool_limits=limits)
    # The URL itself may hold a password: do not repeat it.
    raise ValueError("a history store is redis://HOST:PORT/DB, sqlite:PATH or memory:")
