"""Teacher data as batches: prompts with the target's beams below them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specbeam.bundle import PromptTemplate
from specbeam.catalog import ItemTrie
from specbeam.training.alignment.candidates import Candidates, candidates_of
from specbeam.training.alignment.prompts import PaddedPrompts, pad_left
from specbeam.training.alignment.teacher_shards import TeacherDataError, TeacherShard
from specbeam.training.alignment.tree_layout import parent_columns
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.losses import choice_logprobs

Int32Array = npt.NDArray[np.int32]
Int64Array = npt.NDArray[np.int64]


def rows_levels(depth: int) -> int:
    """Return how many levels of a tree a draft is trained on, the root's included.

    The last level of an item is never drafted, so nobody asks a draft about the rows above it;
    unless the second level is the last one.

    Args:
        depth: tokens per item, L; at least 2.
    """
    return max(2, depth - 1)


@dataclass(frozen=True, slots=True)
class TreeLevel:
    """The rows of one level of G trees, with the target's word on their candidates.

    Attributes:
        level: of the rows, 0 .. L - 1.
        candidates: of the rows.
        scores: of the rows' beams under the target, -inf where dead. Shape (G, W).
        teacher: the target's log-probabilities; 0 where padded. Shape as `candidates.exists`.
    """

    level: int
    candidates: Candidates
    scores: Tensor
    teacher: Tensor


@dataclass(frozen=True, slots=True)
class Trees:
    """G prompts with trees of beams below them.

    Attributes:
        prompts: the prompts.
        beams: nodes of levels 1 .. D; -1 where dead. (G, W_d) each.
        levels: the rows of levels 0 .. D.
        final: the target's best leaves, -1 where there are fewer. Shape (G, W).
    """

    prompts: PaddedPrompts
    beams: tuple[Int64Array, ...]
    levels: tuple[TreeLevel, ...]
    final: Int64Array

    def beams_below(self, trie: ItemTrie, rows: TreeLevel) -> Tensor:
        """Return how many of the final leaves lie below each candidate, as shares of all.

        Returns:
            Each living prompt's entries sum to 1 over a level. Shape as `rows.teacher`.
        """
        step = trie.levels[rows.level + 1].node_of_leaf(np.maximum(self.final, 0))
        step = np.where(self.final >= 0, step, -1)
        some = rows.candidates.children
        children = np.where(rows.candidates.exists.numpy()[..., : some.shape[2]], some, -2)
        below = np.stack([children == column[:, None, None] for column in step.T]).sum(axis=0)
        share = below / np.maximum((self.final >= 0).sum(axis=1), 1)[:, None, None]
        missing = rows.teacher.shape[2] - share.shape[2]
        return torch.from_numpy(np.pad(share, ((0, 0), (0, 0), (0, missing)))).float()


class TeacherPrompts:
    """All teacher data of a run, in memory."""

    def __init__(
        self,
        shards: Sequence[TeacherShard],
        trie: ItemTrie,
        template: PromptTemplate,
        kind: TrainedScoreKind,
    ) -> None:
        """Join shards and find each row's place.

        Args:
            shards: at least one.
            trie: the catalogue they are made from.
            template: renders prompts.
            kind: convention of the scores.

        Raises:
            TeacherDataError: beams and log-probabilities do not fit the catalogue.
        """
        self.trie, self.kind = trie, kind
        self.prompts = [
            template.render(trie.paths(shard.items[begin:end]))
            for shard in shards
            for begin, end in zip(shard.item_begin[:-1], shard.item_begin[1:], strict=True)
        ]
        depth = range(trie.depth)
        self._beams = [np.concatenate([shard.beams[level] for shard in shards]) for level in depth]
        self._scores = [np.concatenate([s.scores[level] for s in shards]) for level in depth]
        self._logprobs = np.concatenate([shard.logprobs for shard in shards])
        self._row_begin = self._find_rows(shards)

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def rows_per_prompt(self) -> int:
        """Rows of a tree that are trained on, the root's included, dead ones too."""
        depth = rows_levels(self.trie.depth)
        return 1 + sum(int(self._beams[level].shape[1]) for level in range(depth - 1))

    def trees(self, chosen: Int64Array) -> Trees:
        """Return some prompts with the target's own beams. `chosen` has shape (G,)."""
        depth = rows_levels(self.trie.depth)
        beams = tuple(level[chosen].astype(np.int64) for level in self._beams[: depth - 1])
        return Trees(
            prompts=pad_left([self.prompts[index] for index in chosen]),
            beams=beams,
            levels=tuple(self._level(level, chosen) for level in range(depth)),
            final=self._beams[-1][chosen].astype(np.int64),
        )

    def _level(self, level: int, chosen: Int64Array) -> TreeLevel:
        nodes = self._nodes(level)[chosen]
        candidates = candidates_of(self.trie, level, nodes, self.kind)
        begin = self._row_begin[level][chosen][..., None]
        exists = candidates.exists.numpy()
        place = begin + np.arange(exists.shape[2])
        if candidates.has_else:  # its entry follows the last child, wherever the padding ends
            place[..., -1] = begin[..., 0] + candidates.count
        logprobs = self._logprobs[np.where(exists, place, 0)].astype(np.float32)
        root = level == 0
        scores = np.zeros((len(chosen), 1), np.float32) if root else self._scores[level - 1][chosen]
        # What fp16 has rounded off is given back: each row is a distribution again.
        teacher = choice_logprobs(torch.from_numpy(logprobs), candidates.exists)
        return TreeLevel(level, candidates, torch.from_numpy(scores), teacher)

    def _nodes(self, level: int) -> Int64Array:
        if level == 0:
            return np.zeros((len(self), 1), np.int64)
        return np.asarray(self._beams[level - 1], np.int64)

    def _find_rows(self, shards: Sequence[TeacherShard]) -> list[Int64Array]:
        """Return where the entries of each row begin, level by level. (P, W) each."""
        sizes = []
        for level in range(self.trie.depth):
            nodes = self._nodes(level)
            if level > 1:
                _check_beams(self.trie, level, self._nodes(level - 1), nodes)
            count = _num_children(self.trie, level, nodes)
            sizes.append(np.where(nodes >= 0, count + (self.kind == "VOCAB"), 0))
        every = np.concatenate(sizes, axis=1)
        wanted = np.concatenate([np.diff(shard.logprob_begin) for shard in shards])
        if (every.sum(axis=1) != wanted).any():
            raise TeacherDataError("teacher data hold other candidates than the catalogue")
        begin = (np.cumsum(every.reshape(-1)) - every.reshape(-1)).reshape(every.shape)
        ends = np.cumsum([size.shape[1] for size in sizes])[:-1]
        return np.split(begin, ends, axis=1)


@dataclass(frozen=True)
class TreeBatch:
    """Some prompts of the teacher data; their trees are built when they are asked for.

    Attributes:
        source: all teacher data.
        chosen: which prompts. Shape (G,).
    """

    source: TeacherPrompts
    chosen: Int64Array

    @cached_property
    def trees(self) -> Trees:
        """The prompts with the target's own beams."""
        return self.source.trees(self.chosen)

    @property
    def num_labels(self) -> int:
        """Rows that are trained on."""
        return len(self.chosen) * self.source.rows_per_prompt


@dataclass(frozen=True, slots=True)
class TreeBatchMaker:
    """Makes the batches of an epoch: every prompt once, in random order.

    Attributes:
        source: all teacher data.
        batch_tokens: most tokens per batch, padding and rows of trees included.
        seed: of the order.
    """

    source: TeacherPrompts
    batch_tokens: int
    seed: int

    def epoch(self, number: int) -> list[TreeBatch]:
        """Return the batches of one epoch."""
        rng = np.random.default_rng((self.seed, number))
        lengths = np.array([len(prompt) for prompt in self.source.prompts])
        groups: list[list[int]] = []
        for index in np.lexsort((rng.random(len(lengths)), lengths)).tolist():
            tokens = int(lengths[index]) + self.source.rows_per_prompt - 1
            if groups and (len(groups[-1]) + 1) * tokens <= self.batch_tokens:
                groups[-1].append(index)
            else:
                groups.append([index])
        order = rng.permutation(len(groups))
        return [TreeBatch(self.source, np.array(groups[i], np.int64)) for i in order]


def _num_children(trie: ItemTrie, level: int, nodes: Int64Array) -> Int64Array:
    above, known = trie.levels[level], np.maximum(nodes, 0)
    count = np.asarray(above.first_child_of(known + 1)) - np.asarray(above.first_child_of(known))
    return np.asarray(count, np.int64)


def _check_beams(trie: ItemTrie, level: int, above: Int64Array, nodes: Int64Array) -> None:
    """Check that beams extend those of the level before.

    Raises:
        TeacherDataError: they do not.
    """
    try:
        parent_columns(trie, level, above, nodes)
    except ValueError as error:
        raise TeacherDataError(f"teacher data are damaged: {error}") from error
