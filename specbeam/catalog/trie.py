"""The leaf-interval trie of a catalogue.

Items are sorted by token path, so every trie node covers one contiguous range of leaves and its
children are contiguous on the next level.  An edge *is* its child node; a beam is a node number.
The tokens stored are vocabulary ids of the language model, so node order on a level equals the
ascending order of token paths, which is the tie rule of the whole project.  Items shorter than L
end with `PAD` tokens, so every leaf is on level L.

Source: the layout is our own; STATIC (arXiv 2602.22647) stores (token, next state) pairs in CSR
form instead, which needs more memory and cannot answer "how many leaves below this node" by
subtraction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from specbeam.catalog.build import FRESHNESS_BUCKET_MS, build_columns
from specbeam.catalog.columns import PAD, Ranges, TokenColumn
from specbeam.catalog.item_ids import ItemIds
from specbeam.catalog.search_ranges import scan_ranges, search_ranges

# Up to this many children a look-up compares with all of them at once: a few numpy calls instead of
# several per bisection step.
SCANNED_CHILDREN = 512
# Paths of all leaves are kept as one table up to this size (16 MB), else gathered by look-up.
MAX_TABLE_ENTRIES = 4_000_000


@dataclass(frozen=True, slots=True)
class TrieLevel:
    """One level of the trie, nodes numbered in path order.

    Attributes:
        num_nodes: number of nodes V_d.
        max_children: largest number of children of any node; 0 on the last level.
    """

    num_nodes: int
    max_children: int
    _tokens: TokenColumn | None
    _first_child: Ranges | None
    _first_leaf: Ranges | None

    def tokens_of(self, nodes: Any) -> np.ndarray:
        """Return the vocabulary id on the edge into each node, `PAD` where an item has ended.

        Args:
            nodes: node numbers of this level (not the root's), any shape.
        """
        if self._tokens is None:
            raise ValueError("no edge leads into the root")
        return self._tokens.at(nodes)

    def first_child_of(self, nodes: Any) -> Any:
        """Return the first child of each node on the next level; V_d gives that level's size.

        Args:
            nodes: node numbers 0 .. V_d of this level (not the last), any shape.
        """
        if self._first_child is None:
            raise ValueError("nodes of the last level have no children")
        return self._first_child.start(nodes)

    def parent_of(self, children: np.ndarray) -> np.ndarray:
        """Return the node of this level above each node of the next.  Same shape, int64."""
        if self._first_child is None:
            raise ValueError("nodes of the last level have no children")
        return self._first_child.locate(children)

    def first_leaf_of(self, nodes: Any) -> Any:
        """Return the first leaf below each node; V_d gives the number of leaves.

        Args:
            nodes: node numbers 0 .. V_d of this level, any shape.
        """
        return nodes if self._first_leaf is None else self._first_leaf.start(nodes)

    def node_of_leaf(self, leaves: np.ndarray) -> np.ndarray:
        """Return the node of this level above each leaf.  Same shape, int64."""
        if self._first_leaf is None:
            return np.asarray(leaves, np.int64)
        return self._first_leaf.locate(leaves)

    @property
    def has_padding(self) -> bool:
        """Whether some nodes are padding behind an item that has ended."""
        return self._tokens is not None and self._tokens.has_padding

    def distinct_tokens(self) -> np.ndarray:
        """Return the vocabulary ids on the level, without `PAD`, ascending.  Shape (n,), int32."""
        return np.zeros(0, np.int32) if self._tokens is None else self._tokens.distinct()


@dataclass(frozen=True, slots=True)
class ItemTrie:
    """An immutable catalogue: trie levels plus the items on its leaves.

    Item index i numbers items by (path ascending, popularity descending, item id ascending), so the
    items of a leaf are consecutive and already in the order they are returned.

    Attributes:
        levels: L + 1 levels; levels[0] is the root.
        popularity: interaction count by item index.  Shape (N,), int32.
        fingerprint: hex content hash of everything the file holds.
        tags: item indices (ascending, int32) by tag name, names ascending.
        created_bucket: creation time by item index in units of `FRESHNESS_BUCKET_MS`, -1 where
            unknown; None where no item has one.  Shape (N,), int32.
    """

    levels: tuple[TrieLevel, ...]
    popularity: np.ndarray
    fingerprint: str
    tags: Mapping[str, np.ndarray]
    created_bucket: np.ndarray | None
    _leaf_items: Ranges
    _ids: ItemIds
    _arrays: dict[str, np.ndarray] = field(repr=False, compare=False)
    _tables: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @property
    def depth(self) -> int:
        """Tokens of the longest item, L."""
        return len(self.levels) - 1

    @property
    def num_items(self) -> int:
        """Number of items, N."""
        return len(self.popularity)

    @property
    def num_leaves(self) -> int:
        """Number of distinct token paths."""
        return self.levels[-1].num_nodes

    @property
    def has_padding(self) -> bool:
        """Whether some items are shorter than L."""
        return self.levels[-1].has_padding

    @property
    def tag_names(self) -> tuple[str, ...]:
        """Names of the tags, ascending."""
        return tuple(self.tags)

    @classmethod
    def build(
        cls,
        paths: np.ndarray,
        item_ids: Sequence[str],
        popularity: np.ndarray | None = None,
        *,
        tags: Mapping[str, Sequence[int] | np.ndarray] | None = None,
        created_at_ms: np.ndarray | None = None,
    ) -> ItemTrie:
        """Build the trie of N items.

        Args:
            paths: token path of each item, vocabulary ids; shorter items end with `PAD` (see
                `pad_paths`).  Shape (N, L), 1 <= L <= 64.
            item_ids: opaque, unique, non-empty ids.  Length N.
            popularity: interaction counts.  Shape (N,); zeros when absent.
            tags: row numbers that carry each tag.
            created_at_ms: creation times, -1 where unknown.  Shape (N,).

        Raises:
            CatalogError: naming every problem found.
        """
        # The file module knows this class; importing it above would be a circle.
        from specbeam.catalog.trie_file import arrays_of, fingerprint_of, trie_of

        built = build_columns(paths, item_ids, popularity, tags, created_at_ms)
        arrays = arrays_of(built)
        return trie_of(arrays, fingerprint_of(arrays))

    def save(self, path: Path | str) -> None:
        """Write the trie to one file; the content hash goes with it."""
        from specbeam.catalog.trie_file import save_trie

        save_trie(self, Path(path))

    @classmethod
    def load(cls, path: Path | str, *, verify: bool = True) -> ItemTrie:
        """Map a saved trie.

        Args:
            path: file written by `save`.
            verify: recompute the content hash (about 1 s per GB).

        Raises:
            CatalogError: missing, damaged or of another format.
        """
        from specbeam.catalog.trie_file import load_trie

        return load_trie(Path(path), verify=verify)

    def prepare(self) -> None:
        """Build the look-up tables now, so that the first request does not wait for them."""
        self._ids.prepare()
        self.find(self.leaf_paths(np.arange(1)))

    # ---- items --------------------------------------------------------------------------------

    def item_id(self, item: int) -> str:
        """Return the id of item index `item`."""
        return self._ids[item]

    def index_of(self, item_ids: Sequence[str]) -> np.ndarray:
        """Return the item index of each id, -1 where unknown.  Shape (n,), int32."""
        return self._ids.find(item_ids)

    def leaves_of(self, items: np.ndarray) -> np.ndarray:
        """Return the leaf of each item index.  Shape (n,), int64."""
        return self._leaf_items.locate(np.asarray(items))

    def first_item_of(self, leaves: Any) -> Any:
        """Return the first item of each leaf; its items end where the next leaf's begin."""
        return self._leaf_items.start(leaves)

    def tagged_items(self, name: str) -> np.ndarray:
        """Return the items that carry a tag, ascending.  Shape (n,), int32.

        Raises:
            KeyError: no item does.
        """
        return self.tags[name]

    def created_ms(self, items: np.ndarray) -> np.ndarray:
        """Return creation times in whole freshness buckets, -1 where unknown.  Shape (n,)."""
        if self.created_bucket is None:
            return np.full(len(items), -1, np.int64)
        buckets = self.created_bucket[items].astype(np.int64)
        return np.where(buckets < 0, -1, buckets * FRESHNESS_BUCKET_MS)

    # ---- paths --------------------------------------------------------------------------------

    def paths(self, items: np.ndarray) -> np.ndarray:
        """Return the token path of each item index, padded.  Shape (n, L), int32."""
        return self.leaf_paths(self.leaves_of(items))

    def leaf_paths(self, leaves: np.ndarray) -> np.ndarray:
        """Return the token path of each leaf, padded.  Shape (n, L), int32."""
        if self.num_leaves * self.depth > MAX_TABLE_ENTRIES:
            return self._gather_paths(self.depth, np.asarray(leaves))
        if "paths" not in self._tables:
            every_leaf = np.arange(self.num_leaves)
            self._tables["paths"] = self._gather_paths(self.depth, every_leaf)
        paths: np.ndarray = self._tables["paths"][leaves]
        return paths

    def node_paths(self, level: int, nodes: np.ndarray) -> np.ndarray:
        """Return the token path of each node of `level`, padded.  Shape (n, level), int32."""
        leaves = self.levels[level].first_leaf_of(np.asarray(nodes))
        if self.num_leaves * self.depth > MAX_TABLE_ENTRIES:
            return self._gather_paths(level, leaves)
        return self.leaf_paths(leaves)[:, :level]

    def _gather_paths(self, depth: int, leaves: np.ndarray) -> np.ndarray:
        """First `depth` tokens of each leaf's path, level by level.  Shape (n, depth), int32."""
        if not depth:
            return np.zeros((len(leaves), 0), np.int32)
        levels = self.levels[1 : depth + 1]
        return np.stack([level.tokens_of(level.node_of_leaf(leaves)) for level in levels], axis=1)

    def level_tokens(self, level: int) -> np.ndarray:
        """Return the vocabulary ids on a level 1 .. L, without `PAD`, ascending.  Int32."""
        return self.levels[level].distinct_tokens()

    def child(self, level: int, nodes: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """Return the child of each node by token, -1 where there is none.

        Args:
            level: level of `nodes`, 0 .. L - 1.
            nodes: node numbers; -1 is allowed and gives -1.  Shape (n,).
            tokens: vocabulary ids or `PAD`.  Shape (n,).
        """
        parents = np.maximum(nodes, 0)
        above, below = self.levels[level], self.levels[level + 1]
        first, last = above.first_child_of(parents), above.first_child_of(parents + 1)
        if above.max_children <= SCANNED_CHILDREN:
            width = above.max_children
            found = scan_ranges(below.tokens_of, below.num_nodes, first, width, tokens)
        else:
            found = search_ranges(below.tokens_of, below.num_nodes, first, last, tokens)
        inside = (found < last) & (nodes >= 0)
        matches = inside & (below.tokens_of(np.minimum(found, below.num_nodes - 1)) == tokens)
        return np.where(matches, found, -1)

    def find(self, paths: np.ndarray) -> np.ndarray:
        """Return the node of each path of equal length d, -1 where it is not in the trie.

        Args:
            paths: token paths, padded.  Shape (n, d), 1 <= d <= L.
        """
        small = self.num_leaves * self.depth <= MAX_TABLE_ENTRIES
        if small and paths.shape[1] == self.depth and self._token_bits * self.depth < 64:
            return self._find_leaves(paths)
        nodes = np.zeros(len(paths), np.int64)
        for level in range(paths.shape[1]):
            nodes = self.child(level, nodes, paths[:, level])
        return nodes

    @property
    def _token_bits(self) -> int:
        """Bits of the largest token plus one (padding is packed as 0)."""
        if "largest" not in self._tables:
            largest = [int(self.level_tokens(d).max(initial=0)) for d in range(1, self.depth + 1)]
            self._tables["largest"] = np.array(largest)
        return int(self._tables["largest"].max() + 1).bit_length()

    def largest_token(self) -> int:
        """Return the largest vocabulary id of any path."""
        bits = self._token_bits
        return int(self._tables["largest"].max()) if bits else 0

    def _find_leaves(self, paths: np.ndarray) -> np.ndarray:
        """`find` for whole paths: one look-up among paths packed into integers of equal order."""
        shifts = self._token_bits * np.arange(self.depth)[::-1]
        if "packed" not in self._tables:
            table = self.leaf_paths(np.arange(self.num_leaves)).astype(np.int64) - PAD
            self._tables["packed"] = (table << shifts).sum(axis=1)
        packed = self._tables["packed"]
        tokens = np.asarray(paths, np.int64) - PAD
        wanted = (tokens << shifts).sum(axis=1)
        found = np.minimum(np.searchsorted(packed, wanted), len(packed) - 1)
        in_range = ((tokens >= 0) & (tokens >> self._token_bits == 0)).all(axis=1)
        return np.where((packed[found] == wanted) & in_range, found, -1)
