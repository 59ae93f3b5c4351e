"""The choices that a search makes on the way to an item, and the labels they are trained with.

At each level of the trie a search chooses among candidates, and a score is normalised over them.
Which ones they are is the bundle's score convention, so training follows it:

- TRIE: the children of a node.  A model need not learn which codes exist below which, the trie
  knows, and steps without a choice cost nothing.
- VOCAB: all token ids, the convention of `generate` with a constrained search.

Everything here is built on the host with numpy; the device only gathers.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import scipy.sparse as sparse

from specbeam.catalog import ItemTrie
from specbeam.training.data.dataset import Dataset

Int64Array = npt.NDArray[np.int64]
Float32Array = npt.NDArray[np.float32]
TrainedScoreKind = Literal["TRIE", "VOCAB"]


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices made on one level by some places of a batch.

    Attributes:
        place: which of the batch's R items. Shape (Q,).
        tokens: token id of each candidate, padded with some token; None means that scores are
            normalised over all V token ids, in order. Shape (Q, W).
        alive: true where a label could stand: no padding, and a code of the level. Shape (Q, W).
        chosen: column of the label. Shape (Q,).
    """

    place: Int64Array
    tokens: Int64Array | None
    alive: npt.NDArray[np.bool_]
    chosen: Int64Array


@dataclass(frozen=True, slots=True)
class LabelWeights:
    """How a label's probability is spread.

    Attributes:
        smoothing: share given evenly to all candidates.
        teacher: share given to the teacher's votes, where it has any.
    """

    smoothing: float = 0.0
    teacher: float = 0.0


class ChoiceTables(Protocol):
    """Candidates of each item's path, level by level."""

    depth: int

    def of(self, items: Int64Array, level: int) -> Choices:
        """Return the choices that lead to these items on one level; forced steps are left out.

        Args:
            items: item numbers. Shape (R,).
            level: 0 .. L - 1.
        """

    def columns(self, items: Int64Array, level: int, choices: Choices, q: Int64Array) -> Int64Array:
        """Return the column of each item's own step among the candidates of choice `q`.

        Args:
            items: item numbers that share the choice's prefix. Shape (n,).
            level: 0 .. L - 1.
            choices: as from `of`.
            q: row of `choices` for each item. Shape (n,).
        """

    def share_prefix(self, one: Int64Array, two: Int64Array, level: int) -> npt.NDArray[np.bool_]:
        """Say whether two items have the same first `level` codes.  Shape as given."""


def make_tables(kind: TrainedScoreKind, trie: ItemTrie, dataset: Dataset) -> ChoiceTables:
    """Return the tables of a score convention."""
    if kind == "TRIE":
        return TrieTables(trie, dataset.items.item_ids)
    return VocabularyTables(trie, dataset)


def labels_of(
    tables: ChoiceTables,
    choices: Choices,
    level: int,
    items: Int64Array,
    weights: LabelWeights,
    votes: sparse.csr_array | None,
) -> Float32Array:
    """Return the label distribution of each choice; rows sum to 1. Shape (Q, W).

    Args:
        tables: where the choices come from.
        choices: Q choices on one level.
        level: 0 .. L - 1.
        items: item numbers at the places. Shape (R,).
        weights: how labels are spread.
        votes: a teacher's votes for items at each place, shape (R, N), or None.
    """
    alive = choices.alive
    labels = np.zeros(alive.shape, np.float32)
    labels[np.arange(len(alive)), choices.chosen] = 1.0 - weights.smoothing
    labels += np.float32(weights.smoothing) * alive / np.maximum(alive.sum(1, keepdims=True), 1)
    if votes is None or weights.teacher == 0.0:
        return labels
    taught = _taught(tables, choices, level, items, votes)
    total = taught.sum(axis=1, keepdims=True)
    share = np.where(total > 0.0, np.float32(weights.teacher), np.float32(0.0))
    mixed: Float32Array = (1.0 - share) * labels + share * taught / np.maximum(total, 1e-12)
    return mixed


def _taught(
    tables: ChoiceTables,
    choices: Choices,
    level: int,
    items: Int64Array,
    votes: sparse.csr_array,
) -> Float32Array:
    """Sum the votes for all items below each candidate. Shape (Q, W)."""
    row = np.full(len(items), -1)
    row[choices.place] = np.arange(len(choices.place))
    place = np.repeat(np.arange(len(items)), np.diff(votes.indptr))
    known = np.flatnonzero(row[place] >= 0)
    place, voted, value = place[known], votes.indices[known].astype(np.int64), votes.data[known]
    below = tables.share_prefix(voted, items[place], level)
    q = row[place[below]]
    taught = np.zeros(choices.alive.shape, np.float32)
    column = tables.columns(voted[below], level, choices, q)
    np.add.at(taught, (q, column), value[below].astype(np.float32))
    return taught


class TrieTables:
    """The choice is among the children of a trie node."""

    def __init__(self, trie: ItemTrie, item_ids: tuple[str, ...]) -> None:
        """Walk every item down the trie once.

        Args:
            trie: the catalogue, L levels.
            item_ids: dataset order of the N items.
        """
        self.depth = trie.depth
        self._first = [_first_children(trie, level) for level in range(trie.depth)]
        self._token = [
            np.asarray(level.tokens_of(np.arange(level.num_nodes))).astype(np.int64)
            for level in trie.levels[1:]
        ]
        self._node = _nodes(trie, item_ids)

    def of(self, items: Int64Array, level: int) -> Choices:
        """Return the choices with two or more candidates; see `ChoiceTables`."""
        node = self._node[level, items]
        begin = self._first[level][node]
        count = self._first[level][node + 1] - begin
        place = np.flatnonzero(count > 1)
        begin, count = begin[place], count[place]
        column = np.arange(int(count.max()) if len(count) else 1)
        alive = column < count[:, None]
        child = np.where(alive, begin[:, None] + column, begin[:, None])
        chosen = self._node[level + 1, items[place]] - begin
        return Choices(place, self._token[level][child], alive, chosen)

    def columns(self, items: Int64Array, level: int, choices: Choices, q: Int64Array) -> Int64Array:
        """Return child numbers; see `ChoiceTables`."""
        begin = self._first[level][self._node[level, items]]
        return np.asarray(self._node[level + 1, items] - begin)

    def share_prefix(self, one: Int64Array, two: Int64Array, level: int) -> npt.NDArray[np.bool_]:
        """Compare nodes; see `ChoiceTables`."""
        return np.asarray(self._node[level, one] == self._node[level, two])


class VocabularyTables:
    """The choice is among all token ids, of which a level's used codes can be labels."""

    def __init__(self, trie: ItemTrie, dataset: Dataset) -> None:
        """Note which codes each level uses.

        Args:
            trie: the catalogue.
            dataset: paths and vocabulary.
        """
        self.depth = trie.depth
        self._paths = dataset.items.paths.astype(np.int64)
        self._node = _nodes(trie, dataset.items.item_ids)
        self._used = np.zeros((self.depth, dataset.vocab_size), np.bool_)
        for level in range(self.depth):
            self._used[level, self._paths[:, level]] = True

    def of(self, items: Int64Array, level: int) -> Choices:
        """Return a choice for every place; see `ChoiceTables`."""
        alive = np.broadcast_to(self._used[level], (len(items), self._used.shape[1]))
        return Choices(np.arange(len(items)), None, alive, self._paths[items, level])

    def columns(self, items: Int64Array, level: int, choices: Choices, q: Int64Array) -> Int64Array:
        """Return token ids; see `ChoiceTables`."""
        return np.asarray(self._paths[items, level])

    def share_prefix(self, one: Int64Array, two: Int64Array, level: int) -> npt.NDArray[np.bool_]:
        """Compare nodes; see `ChoiceTables`."""
        return np.asarray(self._node[level, one] == self._node[level, two])


def _first_children(trie: ItemTrie, level: int) -> Int64Array:
    """Return the first child of each node of a level, and one more. Shape (nodes + 1,)."""
    above = trie.levels[level]
    return np.asarray(above.first_child_of(np.arange(above.num_nodes + 1))).astype(np.int64)


def _nodes(trie: ItemTrie, item_ids: tuple[str, ...]) -> Int64Array:
    """Return each item's node on every level, the root's first. Shape (L + 1, N)."""
    leaves = trie.leaves_of(trie.index_of(item_ids))
    return np.stack([level.node_of_leaf(leaves) for level in trie.levels]).astype(np.int64)
