"""Where user histories are kept: Redis, or a file behind the same interface."""

from specbeam.storage.history import AppendResult, Event, History, HistoryStore
from specbeam.storage.opening import open_history_store

__all__ = ["AppendResult", "Event", "History", "HistoryStore", "open_history_store"]
