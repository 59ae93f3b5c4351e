"""Compact columns of trie levels: ranges of children, and tokens.

On deep levels nearly every node has one child, so "first child of node j" is j plus the few extra
children before it; storing only the nodes that have more than one keeps a level of a title
catalogue at the size of its tokens.  A chain of single children thus costs one token per node and
nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

PAD = -1
# Tokens of a level are kept in 16 bits above their minimum where the spread allows it.
_PAD_16 = np.uint16(65535)
# A level of fewer ranges is always kept whole: one gather instead of a bisection.
_DENSE_BELOW = 1 << 16
_SPARSE_SHARE = 0.25

Arrays = dict[str, np.ndarray]


class DenseRanges:
    """n consecutive, non-empty ranges: range j is starts[j] .. starts[j + 1] - 1."""

    def __init__(self, starts: np.ndarray) -> None:
        """Keep `starts`.  Shape (n + 1,), int32."""
        self._starts = starts

    def __len__(self) -> int:
        """Number of ranges, n."""
        return len(self._starts) - 1

    def start(self, index: Any) -> Any:
        """Return the first member of each range; `index` may be n.  Same shape, int32."""
        return self._starts[index]

    def locate(self, members: np.ndarray) -> np.ndarray:
        """Return the range that holds each member.  Same shape, int64."""
        found: np.ndarray = np.searchsorted(self._starts, members, side="right") - 1
        return found

    def arrays(self) -> Arrays:
        """Return what a file has to hold."""
        return {"": self._starts}


class SparseRanges:
    """As `DenseRanges`, but only ranges of more than one member are stored."""

    def __init__(self, count: int, wide: np.ndarray, before: np.ndarray) -> None:
        """Keep the exceptions.

        Args:
            count: number of ranges, n.
            wide: ranges of more than one member, ascending.  Shape (k,), int32.
            before: members beyond one in the ranges before each of `wide`, and in all.  Shape
                (k + 1,), int32.
        """
        self._count = count
        self._wide = wide
        self._before = before
        self._wide_starts = wide + before[:-1]

    def __len__(self) -> int:
        """Number of ranges, n."""
        return self._count

    def start(self, index: Any) -> Any:
        """Return the first member of each range; `index` may be n.  Same shape, int64."""
        return index + self._before[np.searchsorted(self._wide, index)]

    def locate(self, members: np.ndarray) -> np.ndarray:
        """Return the range that holds each member.  Same shape, int64."""
        members = np.asarray(members, np.int64)
        if not len(self._wide):
            return members
        passed = np.searchsorted(self._wide_starts, members, side="right")
        nearest = np.maximum(passed - 1, 0)
        # Behind the start of a wide range a member belongs to it or, further on, to a single one.
        behind = members - self._before[passed]
        return np.where(passed > 0, np.maximum(behind, self._wide[nearest]), members)

    def arrays(self) -> Arrays:
        """Return what a file has to hold."""
        return {".wide": self._wide, ".before": self._before}


Ranges = DenseRanges | SparseRanges


def make_ranges(starts: np.ndarray) -> Ranges:
    """Return the smaller representation of ranges given by `starts`.  Shape (n + 1,)."""
    count = len(starts) - 1
    sizes = np.diff(starts)
    wide = np.flatnonzero(sizes > 1)
    if count < _DENSE_BELOW or len(wide) > _SPARSE_SHARE * count:
        return DenseRanges(starts.astype(np.int32))
    before = np.zeros(len(wide) + 1, np.int32)
    np.cumsum(sizes[wide] - 1, out=before[1:])
    return SparseRanges(count, wide.astype(np.int32), before)


def load_ranges(arrays: Mapping[str, np.ndarray], name: str, count: int) -> Ranges:
    """Return ranges from a file's arrays.

    Raises:
        KeyError: an array is missing.
    """
    if name in arrays:
        return DenseRanges(arrays[name])
    return SparseRanges(count, arrays[f"{name}.wide"], arrays[f"{name}.before"])


class TokenColumn:
    """The token of every node of one level; `PAD` where an item has ended before."""

    def __init__(
        self,
        count: int,
        codes: np.ndarray,
        base: int,
        padded: bool,
        unfinished: np.ndarray | None = None,
    ) -> None:
        """Keep the column.

        Args:
            count: number of nodes.
            codes: tokens minus `base` as uint16 (65535 = padding), or tokens as int32.
            base: smallest token; 0 with int32.
            padded: whether some nodes are padding.
            unfinished: nodes that `codes` belongs to, ascending; every other node is padding.  None
                = all nodes have an entry.
        """
        self._count = count
        self._codes = codes
        self._base = base
        self.has_padding = padded
        self._unfinished = unfinished

    def __len__(self) -> int:
        """Number of nodes."""
        return self._count

    def at(self, nodes: Any) -> np.ndarray:
        """Return the token of each node.  Same shape, int32."""
        if self._unfinished is None:
            return self._decode(self._codes[nodes])
        place = np.minimum(np.searchsorted(self._unfinished, nodes), len(self._codes) - 1)
        hit = self._unfinished[place] == nodes
        return np.where(hit, self._decode(self._codes[place]), np.int32(PAD))

    def _decode(self, codes: np.ndarray) -> np.ndarray:
        if codes.dtype != np.uint16:
            return codes
        tokens: np.ndarray = codes.astype(np.int32) + np.int32(self._base)
        return np.where(codes == _PAD_16, np.int32(PAD), tokens) if self.has_padding else tokens

    def distinct(self) -> np.ndarray:
        """Return the tokens of the level without padding, ascending.  Shape (n,), int32."""
        tokens = np.unique(self._decode(np.unique(self._codes)))
        present: np.ndarray = tokens[tokens != PAD]
        return present

    def arrays(self) -> Arrays:
        """Return what a file has to hold."""
        layout = np.array([self._base, self.has_padding], np.int64)
        found = {"": self._codes, ".layout": layout}
        return found if self._unfinished is None else {**found, ".nodes": self._unfinished}


def make_tokens(tokens: np.ndarray) -> TokenColumn:
    """Return the smallest representation of a level's tokens.  Shape (n,)."""
    there = tokens != PAD
    present = tokens[there]
    padded = len(present) < len(tokens)
    low = int(present.min(initial=np.iinfo(np.int32).max)) if len(present) else 0
    narrow = not len(present) or int(present.max()) - low < int(_PAD_16)
    unfinished = np.flatnonzero(there).astype(np.int32) if 3 * len(present) < len(tokens) else None
    kept = tokens if unfinished is None else present
    if not narrow:
        return TokenColumn(len(tokens), kept.astype(np.int32), 0, padded, unfinished)
    codes = np.where(kept == PAD, np.int64(_PAD_16), kept.astype(np.int64) - low)
    return TokenColumn(len(tokens), codes.astype(np.uint16), low, padded, unfinished)


def load_tokens(arrays: Mapping[str, np.ndarray], name: str, count: int) -> TokenColumn:
    """Return a token column from a file's arrays.

    Raises:
        KeyError: an array is missing.
    """
    base, padded = arrays[f"{name}.layout"].tolist()
    return TokenColumn(count, arrays[name], base, bool(padded), arrays.get(f"{name}.nodes"))
