"""Training of the target: next-token prediction on item tokens."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from specbeam.catalog import ItemTrie
from specbeam.training.losses import item_cross_entropy, labelled_rows
from specbeam.training.model import forward_logits
from specbeam.training.validation import ValidationSet, item_loss, ranking_numbers


class TargetObjective:
    """Cross-entropy of every item token; judged by NDCG@10 on validation items."""

    def __init__(
        self,
        model: nn.Module,
        trie: ItemTrie,
        paths: npt.NDArray[np.int32],
        users: ValidationSet,
        *,
        vocab_size: int,
        label_smoothing: float,
        bf16: bool,
    ) -> None:
        """Keep what the loss needs.

        Args:
            model: the target.
            trie: the catalogue.
            paths: token paths in dataset order. Shape (N, L).
            users: validation users.
            vocab_size: V.
            label_smoothing: see `item_cross_entropy`.
            bf16: run matrix products in bfloat16.
        """
        self._model, self._trie, self._paths, self._users = model, trie, paths, users
        self._level_codes = used_codes(paths, vocab_size)
        self._label_smoothing, self._bf16 = label_smoothing, bf16

    def loss(self, tokens: Tensor) -> Tensor:
        """Return the mean smoothed cross-entropy of a batch of shape (B, T)."""
        logits = forward_logits(self._model, tokens, bf16=self._bf16)
        rows, labels, level = labelled_rows(logits, tokens, self._paths.shape[1])
        return item_cross_entropy(rows, labels, level, self._level_codes, self._label_smoothing)

    def validate(self) -> Mapping[str, float]:
        """Return loss, Recall@10 and NDCG@10 of the validation users."""
        if not len(self._users):
            return {"score": 0.0}
        loss = item_loss(self._model, self._paths, self._users, bf16=self._bf16)
        ranking = ranking_numbers(self._model, self._trie, self._users, bf16=self._bf16)
        return {"loss": loss, **ranking, "score": ranking["ndcg@10"]}


def used_codes(paths: npt.NDArray[np.int32], vocab_size: int) -> Tensor:
    """Return 1 where a token id is used by some item on a level, else 0. Shape (L, V)."""
    used = torch.zeros((paths.shape[1], vocab_size))
    for level in range(paths.shape[1]):
        used[level, torch.from_numpy(np.unique(paths[:, level])).long()] = 1.0
    return used
