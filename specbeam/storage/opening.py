"""Choosing a history store by its URL."""

from specbeam.storage.embedded_store import MEMORY, EmbeddedHistoryStore
from specbeam.storage.history import DEFAULT_MAX_EVENTS, HistoryStore
from specbeam.storage.redis_store import RedisHistoryStore

_REDIS_SCHEMES = ("redis://", "rediss://", "unix://")


def open_history_store(url: str, *, max_events: int = DEFAULT_MAX_EVENTS) -> HistoryStore:
    """Return the store a URL names; nothing is connected or opened yet.

    Args:
        url: ``redis://HOST:PORT/DB`` (also ``rediss://``, ``unix://``), ``sqlite:PATH``,
            or ``memory:`` for a store that ends with the process.
        max_events: Events kept per user.

    Raises:
        ValueError: The URL names no store.
    """
    if url.startswith(_REDIS_SCHEMES):
        return RedisHistoryStore(url, max_events=max_events)
    if url == "memory:":
        return EmbeddedHistoryStore(MEMORY, max_events=max_events)
    scheme, _, path = url.partition(":")
    if scheme == "sqlite" and path:
        return EmbeddedHistoryStore(path, max_events=max_events)
    # The URL itself may hold a password: do not repeat it.
    raise ValueError("a history store is redis://HOST:PORT/DB, sqlite:PATH or memory:")
