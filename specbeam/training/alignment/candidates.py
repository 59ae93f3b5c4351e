"""The candidates of beams: the children among which a search goes on, and everything else."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from specbeam.catalog import ItemTrie
from specbeam.training.choices import TrainedScoreKind
from specbeam.training.losses import choice_logprobs

Int64Array = npt.NDArray[np.int64]

# A mass that is rounded to nothing has no logarithm; exp(-80) is far below what fp16 resolves.
LOWEST_LOGPROB = -80.0


@dataclass(frozen=True, slots=True)
class Candidates:
    """The candidates of G x W beams on one level, padded to the same number.

    Attributes:
        children: trie nodes of the next level; some child where padded. Shape (G, W, C).
        tokens: their token ids. Shape (G, W, C).
        count: children of each beam, 0 where it is dead. Shape (G, W).
        exists: false where padded. Shape (G, W, C), or (G, W, C + 1) where everything else is a
            candidate too.
    """

    children: Int64Array
    tokens: Tensor
    count: Int64Array
    exists: Tensor

    @property
    def has_else(self) -> bool:
        """Whether the last candidate stands for all other token ids."""
        return bool(self.exists.shape[2] > self.children.shape[2])

    def logprobs(self, logits: Tensor) -> Tensor:
        """Return log-probabilities over the candidates that exist; 0 where padded.

        Args:
            logits: or log-probabilities over all token ids. Shape (G, W, V).

        Returns:
            Shape as that of `exists`; each row of a beam that is alive sums to 1.
        """
        tokens, exists = self.tokens.to(logits.device), self.exists.to(logits.device)
        if not self.has_else:
            return choice_logprobs(logits.gather(2, tokens), exists)
        every = torch.log_softmax(logits, dim=-1)
        # Summed up, not 1 minus the children: that would lose a small rest to rounding.
        # The lowest number instead of minus infinity, whose sum would have no gradient.
        hidden = every.scatter(2, tokens, torch.finfo(every.dtype).min)
        rest = hidden.logsumexp(dim=-1, keepdim=True)
        both = torch.cat([every.gather(2, tokens), rest.clamp(min=LOWEST_LOGPROB)], dim=2)
        return both.masked_fill(~exists, 0.0)


def candidates_of(
    trie: ItemTrie, level: int, nodes: Int64Array, kind: TrainedScoreKind
) -> Candidates:
    """Return the candidates of beams.

    Args:
        trie: the catalogue.
        level: level of the beams, 0 .. L - 1.
        nodes: -1 where dead. Shape (G, W).
        kind: TRIE normalises over the children, VOCAB over all token ids.
    """
    above, below = trie.levels[level], trie.levels[level + 1]
    known = np.maximum(nodes, 0)
    begin = np.asarray(above.first_child_of(known)).astype(np.int64)
    end = np.asarray(above.first_child_of(known + 1)).astype(np.int64)
    count = np.where(nodes >= 0, end - begin, 0)
    column = np.arange(max(1, int(count.max(initial=1))))
    exists = column < count[..., None]
    children = np.where(exists, begin[..., None] + column, begin[..., None])
    if kind == "VOCAB":
        exists = np.concatenate([exists, (nodes >= 0)[..., None]], axis=2)
    tokens = torch.from_numpy(np.asarray(below.tokens_of(children))).long()
    return Candidates(children, tokens, count, torch.from_numpy(exists))
