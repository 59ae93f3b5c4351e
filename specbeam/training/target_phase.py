"""Training of the target: what comes next, told by the log and by a teacher."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from specbeam.training.batches import Batch
from specbeam.training.choice_logits import level_choices
from specbeam.training.choices import ChoiceTables, LabelWeights, labels_of
from specbeam.training.losses import soft_cross_entropy
from specbeam.training.model import device_of, forward_logits
from specbeam.training.teachers import Teacher
from specbeam.training.validation import Validator


class TargetObjective:
    """Cross-entropy of every choice on the way to every item; judged by NDCG@10."""

    def __init__(
        self,
        tables: ChoiceTables,
        teacher: Teacher | None,
        weights: LabelWeights,
        validator: Validator,
        *,
        bf16: bool,
    ) -> None:
        """Keep what the loss needs.

        Args:
            tables: the choices that lead to each item.
            teacher: says what else might have come; None without one.
            weights: how labels are spread.
            validator: ranks the validation items.
            bf16: run matrix products in bfloat16.
        """
        self._tables, self._teacher, self._weights = tables, teacher, weights
        self._validator, self._bf16 = validator, bf16

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Return the mean cross-entropy per item, in nats; see `Objective`."""
        device = device_of(model)
        votes = None if self._teacher is None else self._teacher.votes(batch)
        tokens = torch.from_numpy(batch.tokens).to(device)
        logits = forward_logits(model, tokens, bf16=self._bf16)
        total = logits.new_zeros(())
        for found in level_choices(batch, self._tables, device):
            labels = labels_of(
                self._tables, found.choices, found.level, batch.items, self._weights, votes
            )
            label = torch.from_numpy(labels).to(device)
            total = total + soft_cross_entropy(found.gather(logits), found.exists, label)
        return total / len(batch.items)

    def validate(self) -> Mapping[str, float]:
        """Return Recall@10 and NDCG@10 of the validation users; `score` is the latter."""
        numbers = self._validator.ranking_numbers()
        return {**numbers, "score": numbers["ndcg@10"]} if numbers else {}
