"""The LM head applied to what a score convention needs, and no more.

A 150 k vocabulary costs as much per row as many decoder layers, while a level has a few hundred
codes.  LEVEL and TRIE read only the weight rows of the level's tokens; VOCAB reads them too and
gets the normaliser of the whole vocabulary tile by tile, without keeping a row of logits.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from specbeam.catalog import ItemTrie
from specbeam.decoding.scoring import ColumnMap, LevelScores, Scoring, column_map
from specbeam.engine.runner import ModelRunner

# Vocabularies up to this size are scored whole: one multiplication, one softmax.
WHOLE_VOCABULARY = 16_384
TILE = 8_192


@dataclass(frozen=True, slots=True)
class HeadSlice:
    """Weight rows of one level's tokens.

    Attributes:
        weight: shape (M, hidden); a view where the tokens are contiguous.
        bias: shape (M,), or None.
        columns: where each token stands.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    columns: ColumnMap

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return the logits of the level's tokens.  Shape (R, M), at least fp32."""
        return _at_least_fp32(F.linear(hidden, self.weight, self.bias))


class LevelHead:
    """Scores hidden states of one model for the levels of one catalogue."""

    def __init__(self, runner: ModelRunner, trie: ItemTrie, scoring: Scoring) -> None:
        """Prepare the slices.

        Raises:
            ValueError: the catalogue has tokens outside its codebooks or the vocabulary.
        """
        self._runner = runner
        self._kind = scoring.kind
        self._weight, self._bias = runner.head_weight, runner.head_bias
        self._codebooks = [scoring.codebook(trie, level) for level in range(1, trie.depth + 1)]
        largest = max(int(ids[-1]) for ids in self._codebooks)
        if largest >= runner.vocab_size:
            raise ValueError(
                f"token {largest} is beyond the model's vocabulary of {runner.vocab_size}"
            )
        self._codes = [torch.from_numpy(ids).to(runner.device) for ids in self._codebooks]
        self._columns = [column_map(ids) for ids in self._codebooks]
        whole = scoring.kind == "VOCAB" and runner.vocab_size <= WHOLE_VOCABULARY
        self._slices = None if whole or self._weight is None else self._cut(self._weight)

    def under(self, kind: str) -> LevelHead:
        """Return the same head under another score convention; weights and slices are shared."""
        other = copy(self)
        other._kind = kind
        return other

    def _cut(self, weight: torch.Tensor) -> list[HeadSlice] | None:
        """One slice a level; None where copies would outgrow the head itself."""
        apart = [ids for ids in self._codebooks if not _contiguous(ids)]
        if sum(map(len, apart)) > len(weight):
            return None
        return [self._cut_level(weight, level) for level in range(len(self._codebooks))]

    def _cut_level(self, weight: torch.Tensor, level: int) -> HeadSlice:
        ids = self._codebooks[level]
        rows: slice | torch.Tensor = self._codes[level]
        if _contiguous(ids):
            rows = slice(int(ids[0]), int(ids[-1]) + 1)
        bias = None if self._bias is None else self._bias[rows]
        return HeadSlice(weight[rows], bias, self._columns[level])

    @torch.inference_mode()
    def scores(self, levels: list[tuple[int, int]], hidden: torch.Tensor) -> list[LevelScores]:
        """Score the next token of consecutive groups of rows.

        Args:
            levels: (level of the rows' nodes, number of rows) of each group.
            hidden: states after the last norm.  Shape (R, hidden).

        Returns:
            One entry per group.
        """
        if self._slices is None:
            found = self._from_whole_rows(levels, hidden)
        else:
            found = self._from_slices(self._slices, levels, hidden)
        self._runner.meter.finish()
        return found

    def _from_whole_rows(
        self, levels: list[tuple[int, int]], hidden: torch.Tensor
    ) -> list[LevelScores]:
        logits = self._runner.logits(hidden)
        # One fused log-softmax is quicker than the kernels of logsumexp over the same rows.
        values = torch.log_softmax(logits, dim=-1) if self._kind == "VOCAB" else logits
        groups = torch.split(values, [rows for _, rows in levels])
        if self._kind != "LEVEL":
            over_children = self._kind == "TRIE"
            return [LevelScores(group, ColumnMap(), over_children) for group in groups]
        found = []
        for (level, _), group in zip(levels, groups, strict=True):
            codes = group.index_select(1, self._codes[level])
            found.append(LevelScores(torch.log_softmax(codes, dim=-1), self._columns[level]))
        return found

    def _from_slices(
        self, slices: list[HeadSlice], levels: list[tuple[int, int]], hidden: torch.Tensor
    ) -> list[LevelScores]:
        normaliser = self._vocabulary_mass(hidden) if self._kind == "VOCAB" else None
        found, row = [], 0
        for level, rows in levels:
            part = slices[level]
            logits = part.logits(hidden[row : row + rows])
            if normaliser is not None:
                logits = logits - normaliser[row : row + rows, None]
            elif self._kind == "LEVEL":
                logits = torch.log_softmax(logits, dim=-1)
            found.append(LevelScores(logits, part.columns, self._kind == "TRIE"))
            row += rows
        return found

    def _vocabulary_mass(self, hidden: torch.Tensor) -> torch.Tensor:
        """Log-sum-exp over the whole vocabulary in tiles of a fixed order.  Shape (R,)."""
        assert self._weight is not None
        tiles = []
        for begin in range(0, len(self._weight), TILE):
            bias = None if self._bias is None else self._bias[begin : begin + TILE]
            logits = F.linear(hidden, self._weight[begin : begin + TILE], bias)
            tiles.append(torch.logsumexp(_at_least_fp32(logits), dim=-1))
        return torch.logsumexp(torch.stack(tiles), dim=0)


def _contiguous(ids: np.ndarray) -> bool:
    return len(ids) == int(ids[-1]) - int(ids[0]) + 1


def _at_least_fp32(logits: torch.Tensor) -> torch.Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
