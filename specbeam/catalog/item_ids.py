"""Opaque item ids: one byte string of all of them, found again by hash.

A Python dict of a million ids takes some 150 MB and a second to fill; sorted 64-bit hashes take 12
bytes an id, are made at start in a few vectorised passes and answer a list of ids at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

_CHUNK_IDS = 1 << 19
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class ItemIds:
    """Ids by item index, and item indices by id."""

    def __init__(self, text: np.ndarray, offsets: np.ndarray) -> None:
        """Keep the ids.

        Args:
            text: UTF-8 bytes of all ids, one after the other.  Shape (B,), uint8.
            offsets: first byte of each id.  Shape (N + 1,), int32 or int64.
        """
        self.text = text
        self.offsets = offsets
        self._sorted: tuple[np.ndarray, np.ndarray] | None = None

    @classmethod
    def of(cls, ids: Sequence[str]) -> ItemIds:
        """Encode ids."""
        encoded = [item_id.encode() for item_id in ids]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return cls(np.frombuffer(b"".join(encoded), np.uint8), _offsets(lengths))

    def __len__(self) -> int:
        """Number of ids, N."""
        return len(self.offsets) - 1

    def __getitem__(self, item: int) -> str:
        """Return the id of an item index."""
        begin, end = self.offsets[item], self.offsets[item + 1]
        return bytes(self.text[begin:end]).decode()

    def take(self, items: np.ndarray) -> ItemIds:
        """Return the ids of `items` in their order."""
        lengths = np.diff(self.offsets)[items].astype(np.int64)
        starts = _offsets(lengths)
        source = np.repeat(self.offsets[:-1][items] - starts[:-1].astype(np.int64), lengths)
        return ItemIds(self.text[source + np.arange(len(source))], starts)

    def prepare(self) -> None:
        """Sort the hashes now, so that the first look-up does not wait for it."""
        self._by_hash()

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """Return the item index of each id, -1 where unknown.  Shape (n,), int32."""
        known = [position for position, item_id in enumerate(ids) if item_id]
        found = np.full(len(ids), -1, np.int32)
        if known and len(self):
            wanted = ItemIds.of([ids[position] for position in known])
            found[known] = self._find(wanted)
        return found

    def _find(self, wanted: ItemIds) -> np.ndarray:
        hashes, items = self._by_hash()
        wanted_hashes = wanted._hashes()
        place = np.minimum(np.searchsorted(hashes, wanted_hashes), len(hashes) - 1)
        candidate = items[place]
        found = np.where(self._equal(candidate, wanted), candidate, -1)
        # Two ids of one hash: look at the whole run.
        for row in np.flatnonzero((found < 0) & (hashes[place] == wanted_hashes)):
            run = place[row]
            while run < len(hashes) and hashes[run] == wanted_hashes[row]:
                if self[int(items[run])] == wanted[int(row)]:
                    found[row] = items[run]
                run += 1
        return found

    def _equal(self, items: np.ndarray, wanted: ItemIds) -> np.ndarray:
        """Whether the id of each item is the one wanted in its place.  Shape (n,), bool."""
        lengths = np.diff(wanted.offsets)
        first = self.offsets[items].astype(np.int64)
        same: np.ndarray = self.offsets[items + 1] - first == lengths
        starts = wanted.offsets[:-1]
        source = np.repeat(first - starts, lengths) + np.arange(len(wanted.text))
        bytes_equal = self.text[np.minimum(source, len(self.text) - 1)] == wanted.text
        same &= np.logical_and.reduceat(bytes_equal, starts)
        return same

    def duplicates(self) -> list[str]:
        """Return the ids that occur more than once."""
        hashes, items = self._by_hash()
        repeated = np.flatnonzero(hashes[1:] == hashes[:-1])
        places = np.union1d(repeated, repeated + 1)
        names = sorted(self[item] for item in items[places].tolist())
        return sorted({name for name, following in pairwise(names) if name == following})

    def _by_hash(self) -> tuple[np.ndarray, np.ndarray]:
        if self._sorted is None:
            hashes = self._hashes()
            order = np.argsort(hashes, kind="stable").astype(np.int32)
            self._sorted = (hashes[order], order)
        return self._sorted

    def _hashes(self) -> np.ndarray:
        """A 64-bit hash of every id; ids are not empty.  Shape (N,), uint64."""
        hashes = np.empty(len(self), np.uint64)
        for begin in range(0, len(self), _CHUNK_IDS):
            end = min(begin + _CHUNK_IDS, len(self))
            hashes[begin:end] = self._hash_chunk(begin, end)
        return hashes

    def _hash_chunk(self, begin: int, end: int) -> np.ndarray:
        offsets = self.offsets[begin : end + 1].astype(np.int64)
        lengths = np.diff(offsets)
        starts = offsets[:-1] - offsets[0]
        text = self.text[offsets[0] : offsets[-1]].astype(np.uint64)
        place = np.arange(len(text)) - np.repeat(starts, lengths)
        powers = np.cumprod(np.full(int(lengths.max()), _FACTOR, np.uint64))
        sums = np.add.reduceat((text + np.uint64(1)) * powers[place], starts)
        sums ^= sums >> np.uint64(31)
        mixed: np.ndarray = sums * np.uint64(0xBF58476D1CE4E5B9)
        return mixed


def _offsets(lengths: np.ndarray) -> np.ndarray:
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends.astype(np.int32) if ends[-1] < 2**31 else ends
