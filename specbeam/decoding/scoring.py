"""What a beam's score is a sum of: the three conventions, and the codes of each level.

* VOCAB: log-softmax over the whole vocabulary, masked afterwards; equal to transformers.
* LEVEL: log-softmax over the codebook of the level, masked afterwards.
* TRIE: log-softmax over the children a filter leaves.  A step with one such child costs exactly 0.

They rank items differently and are never mixed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from specbeam.catalog import ItemTrie

SCORE_KINDS = ("VOCAB", "LEVEL", "TRIE")


@dataclass(frozen=True, slots=True, eq=False)
class Scoring:
    """A score convention.

    Attributes:
        kind: VOCAB, LEVEL or TRIE.
        codebooks: vocabulary ids of each level 1 .. L, used by an item or not; LEVEL normalises
            over them.  None = the ids that the catalogue has on the level.
    """

    kind: str = "VOCAB"
    codebooks: tuple[np.ndarray, ...] | None = None

    def __post_init__(self) -> None:
        """Check the kind."""
        if self.kind not in SCORE_KINDS:
            raise ValueError(f"score kind is {self.kind!r}, not one of {', '.join(SCORE_KINDS)}")

    def codebook(self, trie: ItemTrie, level: int) -> np.ndarray:
        """Return the vocabulary ids of a level 1 .. L, ascending.  Shape (n,), int64.

        Raises:
            ValueError: the catalogue has a token on the level that is not in its codebook.
        """
        used = trie.level_tokens(level)
        if self.codebooks is None:
            return used.astype(np.int64)
        ids = np.unique(np.asarray(self.codebooks[level - 1], np.int64))
        missing = np.setdiff1d(used, ids)
        if len(missing):
            raise ValueError(f"token {missing[0]} of level {level} is not in its codebook")
        return ids


@dataclass(frozen=True, slots=True, eq=False)
class ColumnMap:
    """Where the score of a token stands in a row.

    Attributes:
        offset: column = token - offset, unless there is a table.
        table: column of each vocabulary id.  Shape (largest id + 1,), int64; None = by offset.
    """

    offset: int = 0
    table: np.ndarray | None = None
    _uploaded: dict[torch.device, torch.Tensor] = field(default_factory=dict, repr=False)

    def host(self, tokens: np.ndarray) -> np.ndarray:
        """Return the column of each token; an arbitrary valid one for negative tokens."""
        if self.table is not None:
            found: np.ndarray = self.table.take(tokens, mode="clip")
            return found
        columns: np.ndarray = np.maximum(tokens - self.offset, 0)
        return columns

    def device(self, tokens: torch.Tensor) -> torch.Tensor:
        """As `host`, on the device of `tokens`."""
        if self.table is not None:
            if tokens.device not in self._uploaded:
                self._uploaded[tokens.device] = torch.from_numpy(self.table).to(tokens.device)
            return self._uploaded[tokens.device][tokens]
        return (tokens - self.offset).clamp_(min=0)


@dataclass(frozen=True, slots=True, eq=False)
class LevelScores:
    """Scores of the next token for rows of one level.

    Attributes:
        values: log-probabilities, or logits where `over_children`.  Shape (R, M), fp32 or fp64.
        columns: where each token stands.
        over_children: still to be normalised over the allowed children (TRIE).
    """

    values: torch.Tensor
    columns: ColumnMap
    over_children: bool = False


def column_map(tokens: Sequence[int] | np.ndarray) -> ColumnMap:
    """Return the columns of ascending tokens laid out one after the other."""
    ids = np.asarray(tokens, np.int64)
    if len(ids) == ids[-1] - ids[0] + 1:
        return ColumnMap(int(ids[0]))
    table = np.zeros(int(ids[-1]) + 1, np.int64)
    table[ids] = np.arange(len(ids))
    return ColumnMap(table=table)
