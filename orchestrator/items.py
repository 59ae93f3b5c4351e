"""Titles and other catalogue data of items, from the bundle's catalog.parquet."""

import asyncio
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import numpy as np

from specbeam.bundle import Bundle

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ItemEntry:
    """Catalogue entry of an item; absent data is empty, zero or None.

    Attributes:
        title: Title.
        topics: Topics or categories.
        popularity: Interactions when the catalogue was made.
        created_at_ms: When the item was made, milliseconds since 1970-01-01 UTC.
    """

    title: str = ""
    topics: tuple[str, ...] = ()
    popularity: int = 0
    created_at_ms: int | None = None


class ItemTable:
    """Entries by item index. The file is read when first asked for, off the event loop.

    Without the file or without pyarrow (extra ``data``) only the popularity is known.
    """

    def __init__(self, bundle: Bundle) -> None:
        """Read nothing yet.

        Args:
            bundle: The bundle.
        """
        self._bundle = bundle
        self._columns: dict[str, Any] | None = None
        self._rows = np.zeros(0, np.int64)
        self._loading = asyncio.Lock()

    async def entries(self, items: np.ndarray) -> list[ItemEntry]:
        """Return the entry of each item index. Length n."""
        if self._columns is None:
            async with self._loading:
                if self._columns is None:
                    self._columns = await asyncio.to_thread(self._load)
        return [self._entry(int(item)) for item in items]

    def _entry(self, item: int) -> ItemEntry:
        popularity = int(self._bundle.trie.popularity[item])
        row = int(self._rows[item]) if len(self._rows) else -1
        if row < 0 or self._columns is None:
            return ItemEntry(popularity=popularity)
        value = {name: column[row].as_py() for name, column in self._columns.items()}
        created_at_s = value.get("created_at")
        return ItemEntry(
            title=value.get("title") or "",
            topics=tuple(value.get("topics") or ()),
            popularity=popularity,
            created_at_ms=None if created_at_s is None else 1000 * created_at_s,
        )

    def _load(self) -> dict[str, Any]:
        file = self._bundle.items_file
        if not file.is_file():
            return {}
        if importlib.util.find_spec("pyarrow") is None:
            _log.warning("no titles: pyarrow is not installed (extra `data`)")
            return {}
        import pyarrow.parquet as parquet

        table = parquet.read_table(file)
        ids = table.column("item_id").to_pylist()
        index = self._bundle.trie.index_of(ids)
        rows = np.full(self._bundle.trie.num_items, -1, np.int64)
        rows[index[index >= 0]] = np.flatnonzero(index >= 0)
        self._rows = rows
        names = ("title", "topics", "created_at")
        return {name: table.column(name) for name in names if name in table.column_names}
