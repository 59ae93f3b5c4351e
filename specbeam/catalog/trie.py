"""The leaf-interval trie of a catalogue.

Items are sorted by token path, so every trie node covers one contiguous range of leaves and its
children are contiguous on the next level.  An edge *is* its child node; a beam is a node number.
The tokens stored are vocabulary ids of the language model, so node order on a level equals the
ascending order of token paths, which is the tie rule of the whole project.

Source: the layout is our own; STATIC (arXiv 2602.22647) stores (token, next state) pairs in CSR
form instead, which needs more memory and cannot answer "how many leaves below this node" by
subtraction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from specbeam.catalog.array_file import content_hash, load_arrays, save_arrays
from specbeam.catalog.errors import CatalogError

FORMAT = "specbeam-trie-1"
# Up to this many children a look-up compares with all of them at once: a few numpy calls instead of
# several per bisection step.
SCANNED_CHILDREN = 512
# Paths of all leaves are kept as one table up to this size (16 MB), else gathered by look-up.
MAX_TABLE_ENTRIES = 4_000_000
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class TrieLevel:
    """One level of the trie, nodes numbered in path order.

    Attributes:
        token: vocabulary id on the edge into each node.  Shape (V_d,), int32.
        first_child: children of node j are first_child[j] .. first_child[j + 1] - 1 on the next
            level; on the last level these are leaf numbers of items (see `ItemTrie.leaf_items`).
            Shape (V_d + 1,).
        leaf_lo: leaves below node j are leaf_lo[j] .. leaf_lo[j + 1] - 1.  Shape (V_d + 1,).
        max_children: largest number of children of any node.
    """

    token: np.ndarray
    first_child: np.ndarray
    leaf_lo: np.ndarray
    max_children: int

    @property
    def num_nodes(self) -> int:
        """Number of nodes V_d."""
        return len(self.token)


@dataclass(frozen=True, slots=True)
class ItemTrie:
    """An immutable catalogue: trie levels plus the items on its leaves.

    Item index i numbers items by (path ascending, popularity descending, item id ascending), so the
    items of leaf j are leaf_items[j] .. leaf_items[j + 1] - 1, already in the order they are
    returned.

    Attributes:
        levels: L + 1 levels; levels[0] is the root (one node, token -1).
        leaf_items: first item index of each leaf.  Shape (num_leaves + 1,), int32.
        popularity: interaction count by item index.  Shape (N,), int32.
        fingerprint: hex content hash of everything above and of the item ids.
    """

    levels: tuple[TrieLevel, ...]
    leaf_items: np.ndarray
    popularity: np.ndarray
    fingerprint: str
    _id_bytes: np.ndarray
    _id_offsets: np.ndarray
    _index: dict[str, int] = field(default_factory=dict, repr=False, compare=False)
    _tables: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def depth(self) -> int:
        """Tokens per item, L."""
        return len(self.levels) - 1

    @property
    def num_items(self) -> int:
        """Number of items, N."""
        return len(self.popularity)

    @property
    def num_leaves(self) -> int:
        """Number of distinct token paths."""
        return len(self.leaf_items) - 1

    @classmethod
    def build(
        cls,
        paths: np.ndarray,
        item_ids: Sequence[str],
        popularity: np.ndarray | None = None,
    ) -> ItemTrie:
        """Build the trie of N items.

        Args:
            paths: token path of each item, vocabulary ids.  Shape (N, L), integers >= 0.
            item_ids: opaque, unique, non-empty ids.  Length N.
            popularity: interaction counts.  Shape (N,); zeros when absent.

        Raises:
            CatalogError: naming every problem found.
        """
        counts = np.zeros(len(item_ids), np.int32) if popularity is None else np.asarray(popularity)
        _validate(np.asarray(paths), item_ids, counts)
        ids = np.asarray(item_ids, dtype=object)
        id_rank = np.empty(len(ids), np.int64)
        id_rank[np.argsort(np.asarray(item_ids), kind="stable")] = np.arange(len(ids))
        table = np.asarray(paths, dtype=np.int32)
        keys = (
            id_rank,
            -counts.astype(np.int64),
            *(table[:, d] for d in reversed(range(table.shape[1]))),
        )
        order = np.lexsort(keys)
        return cls._from_sorted(table[order], ids[order].tolist(), counts[order].astype(np.int32))

    @classmethod
    def _from_sorted(cls, paths: np.ndarray, item_ids: list[str], counts: np.ndarray) -> ItemTrie:
        starts = _node_starts(paths)
        leaf_starts = starts[-1]
        arrays: dict[str, np.ndarray] = {}
        for d, begin in enumerate(starts):
            arrays[f"token_{d}"] = (
                np.full(1, -1, np.int32) if d == 0 else paths[begin, d - 1].astype(np.int32)
            )
            below = starts[d + 1] if d + 1 < len(starts) else begin
            arrays[f"first_child_{d}"] = _ranges(below, begin)
            arrays[f"leaf_lo_{d}"] = _ranges(leaf_starts, begin)
        arrays["leaf_items"] = np.append(leaf_starts, len(paths)).astype(np.int32)
        arrays["popularity"] = counts
        encoded = [item_id.encode() for item_id in item_ids]
        arrays["id_bytes"] = np.frombuffer(b"".join(encoded), np.uint8)
        arrays["id_offsets"] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        return cls._from_arrays(arrays, content_hash(arrays))

    @classmethod
    def _from_arrays(cls, arrays: dict[str, np.ndarray], fingerprint: str) -> ItemTrie:
        depth = sum(name.startswith("token_") for name in arrays) - 1
        levels = []
        for d in range(depth + 1):
            first_child = arrays[f"first_child_{d}"]
            widest = int(np.diff(first_child).max()) if d < depth else 0
            levels.append(
                TrieLevel(arrays[f"token_{d}"], first_child, arrays[f"leaf_lo_{d}"], widest)
            )
        return cls(
            tuple(levels),
            arrays["leaf_items"],
            arrays["popularity"],
            fingerprint,
            arrays["id_bytes"],
            arrays["id_offsets"],
        )

    # ---- file ---------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write the trie to one file; the content hash goes with it."""
        metadata = {"format": FORMAT, "fingerprint": self.fingerprint}
        save_arrays(Path(path), self._arrays(), metadata)

    def _arrays(self) -> dict[str, np.ndarray]:
        arrays: dict[str, np.ndarray] = {
            "leaf_items": self.leaf_items,
            "popularity": self.popularity,
            "id_bytes": self._id_bytes,
            "id_offsets": self._id_offsets,
        }
        for d, level in enumerate(self.levels):
            arrays[f"token_{d}"] = level.token
            arrays[f"first_child_{d}"] = level.first_child
            arrays[f"leaf_lo_{d}"] = level.leaf_lo
        return arrays

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> ItemTrie:
        """Map a saved trie.

        Args:
            path: file written by `save`.
            verify: recompute the content hash (about 1 s per GB).

        Raises:
            CatalogError: missing, damaged or of another format.
        """
        arrays, metadata = load_arrays(Path(path))
        if metadata.get("format") != FORMAT:
            raise CatalogError(
                [f"{Path(path).name}: format is {metadata.get('format')!r}, not {FORMAT!r}"]
            )
        fingerprint = metadata.get("fingerprint", "")
        if verify and content_hash(arrays) != fingerprint:
            raise CatalogError(
                [f"{Path(path).name}: content does not match its hash (damaged file)"]
            )
        try:
            return cls._from_arrays(arrays, fingerprint)
        except KeyError as error:
            raise CatalogError([f"{Path(path).name}: array {error} is missing"]) from error

    def prepare(self) -> None:
        """Build the look-up tables now, so that the first request does not wait for them."""
        self.index_of(())
        self.find(self.leaf_paths(np.arange(1)))

    # ---- look-ups -----------------------------------------------------------------------------

    def item_id(self, item: int) -> str:
        """Return the id of item index `item`."""
        begin, end = self._id_offsets[item], self._id_offsets[item + 1]
        return bytes(self._id_bytes[begin:end]).decode()

    def index_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the item index of each id, -1 where unknown.  Shape (n,), int32."""
        if not self._index:
            self._index.update((self.item_id(i), i) for i in range(self.num_items))
        return np.fromiter((self._index.get(i, -1) for i in item_ids), np.int32, len(item_ids))

    def leaves_of(self, items: np.ndarray) -> np.ndarray:
        """Return the leaf of each item index.  Shape (n,)."""
        if self.num_leaves == self.num_items:
            return np.asarray(items)
        leaves: np.ndarray = np.searchsorted(self.leaf_items, items, side="right") - 1
        return leaves

    def leaf_paths(self, leaves: np.ndarray) -> np.ndarray:
        """Return the token path of each leaf.  Shape (n, L), int32."""
        if self.num_leaves * self.depth > MAX_TABLE_ENTRIES:
            return self._gather_paths(self.depth, np.asarray(leaves))
        if "paths" not in self._tables:
            every_leaf = np.arange(self.num_leaves)
            self._tables["paths"] = self._gather_paths(self.depth, every_leaf)
        paths: np.ndarray = self._tables["paths"][leaves]
        return paths

    def _gather_paths(self, depth: int, leaves: np.ndarray) -> np.ndarray:
        """First `depth` tokens of each leaf's path, level by level.  Shape (n, depth), int32."""
        if not depth:
            return np.zeros((len(leaves), 0), np.int32)
        columns = [
            level.token[np.searchsorted(level.leaf_lo, leaves, side="right") - 1]
            for level in self.levels[1 : depth + 1]
        ]
        return np.stack(columns, axis=1).astype(np.int32)

    def paths(self, items: np.ndarray) -> np.ndarray:
        """Return the token path of each item index.  Shape (n, L), int32."""
        return self.leaf_paths(self.leaves_of(np.asarray(items)))

    def child(self, level: int, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the child of each node by token, -1 where there is none.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: node numbers; -1 is allowed and gives -1.  Shape (n,).
            tokens: vocabulary ids.  Shape (n,).
        """
        parents = np.maximum(nodes, 0)
        first_child, token = self.levels[level].first_child, self.levels[level + 1].token
        first, last = first_child[parents], first_child[parents + 1]
        if self.levels[level].max_children <= SCANNED_CHILDREN:
            found = _scan_ranges(token, first, self.levels[level].max_children, tokens)
        else:
            found = _search_ranges(token, first, last, tokens)
        inside = (found < last) & (nodes >= 0)
        matches = inside & (token[np.minimum(found, len(token) - 1)] == tokens)
        return np.where(matches, found, -1)

    def find(self, paths: np.ndarray) -> np.ndarray:
        """Return the node of each path of equal length d, -1 where it is not in the trie.

        Args:
            paths: token paths.  Shape (n, d), 1 <= d <= L.
        """
        if paths.shape[1] == self.depth and self._token_bits * self.depth < 64:
            return self._find_leaves(paths)
        nodes = np.zeros(len(paths), np.int64)
        for level in range(paths.shape[1]):
            nodes = self.child(level, nodes, paths[:, level])
        return nodes

    @property
    def _token_bits(self) -> int:
        """Bits of the largest token."""
        if "largest" not in self._tables:
            self._tables["largest"] = np.array([level.token.max() for level in self.levels])
        return int(self._tables["largest"].max()).bit_length()

    def _find_leaves(self, paths: np.ndarray) -> np.ndarray:
        """`find` for whole paths: one look-up among paths packed into integers of equal order."""
        shifts = self._token_bits * np.arange(self.depth)[::-1]
        if "packed" not in self._tables:
            every_leaf = np.arange(self.num_leaves)
            table = self._gather_paths(self.depth, every_leaf).astype(np.int64)
            self._tables["packed"] = (table << shifts).sum(axis=1)
        packed = self._tables["packed"]
        tokens = np.asarray(paths, np.int64)
        wanted = (tokens << shifts).sum(axis=1)
        found = np.minimum(np.searchsorted(packed, wanted), len(packed) - 1)
        in_range = ((tokens >= 0) & (tokens >> self._token_bits == 0)).all(axis=1)
        return np.where((packed[found] == wanted) & in_range, found, -1)

    def node_paths(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the token path of each node of `level`.  Shape (n, level), int32."""
        leaves = self.levels[level].leaf_lo[nodes]
        if self.num_leaves * self.depth > MAX_TABLE_ENTRIES:
            return self._gather_paths(level, leaves)
        return self.leaf_paths(leaves)[:, :level]


def _validate(paths: np.ndarray, item_ids: Sequence[str], counts: np.ndarray) -> None:
    problems: list[str] = []
    if paths.ndim != 2 or not np.issubdtype(paths.dtype, np.integer):
        raise CatalogError(
            [f"paths must be integers of shape (N, L), got {paths.dtype} {paths.shape}"]
        )
    if len(paths) == 0:
        problems.append("a catalogue needs at least one item")
    if not 1 <= paths.shape[1] <= MAX_DEPTH:
        problems.append(f"paths have {paths.shape[1]} tokens; 1 .. {MAX_DEPTH} are supported")
    if len(item_ids) != len(paths) or len(counts) != len(paths):
        problems.append(f"{len(paths)} paths, {len(item_ids)} ids and {len(counts)} popularities")
    bad_rows = np.flatnonzero((paths < 0).any(axis=1))
    problems += [f"item {item_ids[row]!r} has a negative token" for row in bad_rows[:20]]
    problems += [
        f"item number {row} has an empty id" for row, text in enumerate(item_ids) if not text
    ]
    if len(set(item_ids)) != len(item_ids):
        unique, seen = np.unique(np.asarray(item_ids), return_counts=True)
        problems += [
            f"item id {str(text)!r} appears {n} times"
            for text, n in zip(unique, seen, strict=True)
            if n > 1
        ]
    if problems:
        raise CatalogError(problems)


def _node_starts(paths: np.ndarray) -> list[np.ndarray]:
    """Return, per level 0 .. L, the first row of each node in the sorted paths."""
    changed = np.zeros(len(paths), bool)
    changed[0] = True
    starts = [np.zeros(1, np.int64)]
    for d in range(paths.shape[1]):
        changed[1:] |= paths[1:, d] != paths[:-1, d]
        starts.append(np.flatnonzero(changed))
    return starts


def _ranges(below: np.ndarray, starts: np.ndarray) -> np.ndarray:
    return np.append(np.searchsorted(below, starts), len(below)).astype(np.int32)


def _scan_ranges(values: np.ndarray, low: np.ndarray, width: int, wanted: np.ndarray) -> np.ndarray:
    """Position of `wanted` in values[low : low + width]; low + width where it is not there."""
    index = low[:, None] + np.arange(width + 1)
    equal = values[np.minimum(index[:, :-1], len(values) - 1)] == wanted[:, None]
    slot = np.where(equal.any(axis=1), equal.argmax(axis=1), width)
    found: np.ndarray = index[np.arange(len(low)), slot]
    return found


def _search_ranges(
    values: np.ndarray, low: np.ndarray, high: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """First position in values[low:high] (each range ascending) not below `wanted`, all at once."""
    low, high = low.astype(np.int64), high.astype(np.int64)
    while (open_ := low < high).any():
        middle = (low + high) // 2
        smaller = open_ & (values[np.minimum(middle, len(values) - 1)] < wanted)
        low = np.where(smaller, middle + 1, low)
        high = np.where(open_ & ~smaller, middle, high)
    return low
